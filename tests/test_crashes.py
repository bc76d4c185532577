"""fs9.crashes: a process that its own instructions ended is known to be so, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fs9 import crashes

if TYPE_CHECKING:
    from pathlib import Path

PROCESS = """
import ctypes, os, pathlib, signal, sys
from fs9 import crashes
crashes.record(pathlib.Path(sys.argv[1]), "0")
print(crashes.own(), flush=True)
exec(sys.argv[2])
"""


def run(directory: Path, last: str) -> str:
    """What stands for a process that ended with this statement."""
    command = [sys.executable, "-c", PROCESS, str(directory), last]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode == 0) == (last == "pass")
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("last", "crashed"),
    [
        ("ctypes.string_at(0)", True),
        ("os.abort()", True),
        ("os.kill(os.getpid(), signal.SIGKILL)", False),
        ("os.kill(os.getpid(), signal.SIGTERM)", False),
        ("pass", False),
    ],
)
def test_only_a_fatal_signal_is_a_crash(tmp_path: Path, last: str, crashed: bool) -> None:
    process = run(tmp_path, last)
    assert process.startswith(str(tmp_path))
    assert crashes.crashed(process) == crashed


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    """The last crashes of the name; nothing of a process that ended otherwise."""
    for number in range(6):
        path = tmp_path / f"0-{number}"
        path.write_text("words" if number else "")
        os.utime(path, (number, number))
    (tmp_path / "1-other").write_text("")
    assert not crashes.crashed(run(tmp_path, "pass"))
    names = {path.name for path in tmp_path.iterdir()}
    assert {"0-3", "0-4", "0-5", "1-other"} <= names
    assert {"0-0", "0-1", "0-2"}.isdisjoint(names)
