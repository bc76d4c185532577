"""What a person reads who starts a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.config import load
from fs9.config.loader import Flags
from workers.fleet import greeting

if TYPE_CHECKING:
    from pathlib import Path


def commands(secret: str, tmp_path: Path) -> list[str]:
    settings = load(
        Flags({}, None, insecure=False),
        {"FS9_JWT_SECRET": secret},
        tmp_path,
        system_file=tmp_path / "none",
    )
    said = greeting(settings, ("127.0.0.1", 1234))
    return said.partition("Try, in another terminal:\n")[2].splitlines()[:3]


def test_with_tokens_each_command_has_one(tmp_path: Path) -> None:
    assert all("$FS9_TOKEN" in line for line in commands("s" * 32, tmp_path))


def test_without_tokens_none_is_mentioned(tmp_path: Path) -> None:
    assert not any("FS9_TOKEN" in line for line in commands("", tmp_path))
