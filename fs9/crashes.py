"""Which processes were ended by a fatal signal: each leaves its last words for others to find.

A process that is recorded has a file of its own. It is empty as long as the process lives, and when
it ended in any other way, also by SIGKILL; a signal that its own instructions caused (SIGSEGV,
SIGBUS, SIGABRT, SIGILL, SIGFPE) leaves the traceback there, written by Python's faulthandler.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import secrets
from pathlib import Path

log = logging.getLogger(__name__)

#: Crashes of one name whose words are kept.
_KEPT = 3
_own = ""


def record(directory: Path, name: str) -> None:
    """Record this process, the only one of that name that lives; on a full disk it is not."""
    global _own
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        _forget_old(directory, name)
        path = directory / f"{name}-{secrets.token_hex(4)}"
        words_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.warning("a crash of this process would not be recorded: %s", error)
        return
    faulthandler.enable(words_fd)
    _own = str(path)


def _forget_old(directory: Path, name: str) -> None:
    words = []
    for path in directory.glob(f"{name}-*"):
        status = path.stat()
        if status.st_size:
            words.append((status.st_mtime_ns, path))
        else:
            path.unlink()
    for _, path in sorted(words)[:-_KEPT]:
        path.unlink()


def own() -> str:
    """What stands for this process; "" when it is not recorded."""
    return _own


def crashed(process: str) -> bool:
    """Was the process that this stands for ended by a fatal signal?"""
    try:
        return Path(process).stat().st_size > 0
    except FileNotFoundError:
        return False
