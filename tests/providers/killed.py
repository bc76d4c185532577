"""A program that prints the number of each change when it is answered, killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def last_answered(program: str, data_dir: Path, changes: int) -> int:
    """Run it, kill it after that many changes, and return the number of its last answer.

    `program` is Python and finds the data directory in `sys.argv[1]`.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(data_dir)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    with child.stdout as answers:
        answered = [int(answers.readline()) for _ in range(changes)][-1]
        os.kill(child.pid, signal.SIGKILL)
        answered = int((answers.read().split() or [answered])[-1])
    child.wait()
    return answered
