"""The locks that make one worker the owner of a namespace while it has the namespace loaded.

The ring says who should own a namespace; the lock decides who does. `FileLocks` is flock(2) on
one file for each namespace: the kernel frees it at any death of the process, and a stopped
process (SIGSTOP) keeps it. Without a fleet there is nobody to lock out: `NO_LOCKS`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from typing import TYPE_CHECKING, Protocol

from fs9.errors import OwnerUnavailable

if TYPE_CHECKING:
    from pathlib import Path

_POLL_S = 0.01


class NamespaceLocks(Protocol):
    """`acquire` before anything of a namespace is read, `release` after all of it is closed."""

    async def acquire(self, name: str) -> None:
        """Wait, within a bound, until no other owner has it; raises OwnerUnavailable.

        A cancelled caller holds nothing.
        """

    def release(self, name: str) -> None:
        """Release the lock; does not wait."""

    def busy(self, name: str) -> bool:
        """Does anybody hold it now?"""

    def note(self, name: str, text: str) -> None:
        """Leave a note for those who wait for the lock; it goes with the lock."""

    def noted(self, name: str) -> str:
        """The note of the other holder; empty when nobody holds the lock."""


class NoLocks:
    """For a process that is alone."""

    async def acquire(self, name: str) -> None:
        return None

    def release(self, name: str) -> None:
        return None

    def busy(self, name: str) -> bool:
        return False

    def note(self, name: str, text: str) -> None:
        return None

    def noted(self, name: str) -> str:
        return ""


NO_LOCKS: NamespaceLocks = NoLocks()


class FileLocks:
    """flock(2) on `directory/<name>`. The files stay: removing one would let two hold it.

    A lock belongs to an open file description, so two of these objects exclude each other
    within one process too. A child made by fork without exec would share the lock and keep
    it; exec closes it.
    """

    def __init__(self, directory: Path, wait_s: float) -> None:
        """Makes the directory; `wait_s` is the bound of `acquire`."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._wait_s = wait_s
        self._held: dict[str, int] = {}

    async def acquire(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._wait_s
        fd = os.open(self._directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _lock_nowait(fd):
                if loop.time() >= deadline_s:
                    raise OwnerUnavailable("another worker still has the namespace")
                await asyncio.sleep(_POLL_S)
            if os.fstat(fd).st_size:  # the note of one that was killed
                os.ftruncate(fd, 0)
        except BaseException:
            os.close(fd)
            raise
        assert name not in self._held
        self._held[name] = fd

    def release(self, name: str) -> None:
        self.note(name, "")
        os.close(self._held.pop(name))

    def note(self, name: str, text: str) -> None:
        fd = self._held.get(name)
        if fd is not None and (text or os.fstat(fd).st_size):
            os.ftruncate(fd, 0)
            os.pwrite(fd, text.encode(), 0)

    def noted(self, name: str) -> str:
        try:
            text = (self._directory / name).read_text()
        except FileNotFoundError:
            return ""
        return text if text and self.busy(name) else ""

    def busy(self, name: str) -> bool:
        """For a moment nobody can take it while this looks; who wants it tries again."""
        try:
            fd = os.open(self._directory / name, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _lock_nowait(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)


def _lock_nowait(fd: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
