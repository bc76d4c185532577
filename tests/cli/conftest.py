"""Fixtures of the CLI's tests: a server, and `fs9` run in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from fs9.cli.main import main
from fs9.client import Client
from tests.fix_live import live, live_auth, live_url

__all__ = ["live", "live_auth", "live_url"]

#: Runs a command line; returns (exit code, standard output, standard error).
Fs9: TypeAlias = Callable[..., tuple[int, str, str]]


@pytest.fixture
def client(live_url: str) -> Iterator[Client]:
    """The namespace that `fs9` works in, seen by the library."""
    with Client(live_url) as client:
        yield client


@pytest.fixture
def fs9(live_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fs9:
    for name in ("FS9_TOKEN", "FS9_TOKEN_FILE", "FS9_SERVER_ENDPOINTS", "FS9_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FS9_URL", live_url)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run
