"""The synchronous client is what the tool makes of the asynchronous one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "async_to_sync.py"


def test_generated_files_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", sorted(ROOT.glob("fs9/client/sync*.py")))
def test_nothing_asynchronous_is_left(name: Path) -> None:
    text = name.read_text()
    for word in ("await ", "async ", "Async", "aio", "anext", "__aenter__"):
        assert word not in text.replace("tools/async_to_sync.py from aio", "")
