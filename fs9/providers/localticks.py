"""Etags stay strong where file times come from a coarse clock.

Since Linux 6.13 a change that follows a stat gets a fine-grained time, so two versions that
anyone has seen differ in ctime ("multigrain timestamps"; ext4, xfs, btrfs, tmpfs); every open
stats the file, so that holds across inode numbers that are given again. Older
kernels and other file systems stamp all changes within a tick of 1-10 ms alike. There the
mtime is moved on by nanoseconds until the pair of mtime and ctime is new for the file.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

from fs9.providers.jail import descriptor_path

#: Files remembered; more than can be changed in one tick, so what is forgotten is past.
_FILES_MAX = 4096

_PROBES = 8


def is_coarse(directory_fd: int) -> bool:
    """Do changes right after a stat get its ctime again, in this file system? Blocks.

    Where that cannot be tried, say yes: it costs an fstat a change.
    """
    try:
        fd = os.open(b".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
    except OSError:
        return True
    try:
        for _ in range(_PROBES):
            before_ns = os.fstat(fd).st_ctime_ns
            os.pwrite(fd, b"x", 0)
            if os.fstat(fd).st_ctime_ns == before_ns:
                return True
        return False
    except OSError:
        return True
    finally:
        os.close(fd)


class Ticks:
    """Tells the versions of a file apart; `_lock` protects `_seen`."""

    def __init__(self, *, coarse: bool) -> None:
        self.coarse = coarse
        self._lock = threading.Lock()
        # (device, inode) -> the ctime of its last change, and all mtimes it had with it
        self._seen: OrderedDict[tuple[int, int], tuple[int, set[int]]] = OrderedDict()

    def changed(self, fd: int) -> None:
        """The content or the mtime of the file at `fd` was changed. Blocks, raises OSError."""
        if not self.coarse:
            return
        with self._lock:
            found = os.fstat(fd)
            mtimes = self._mtimes((found.st_dev, found.st_ino), found.st_ctime_ns)
            mtime_ns = found.st_mtime_ns
            if mtime_ns in mtimes:
                mtime_ns = max(mtimes) + 1
                os.utime(descriptor_path(fd), ns=(found.st_atime_ns, mtime_ns))
                # The clock may have ticked with that.
                ctime_ns = os.fstat(fd).st_ctime_ns
                mtimes = self._mtimes((found.st_dev, found.st_ino), ctime_ns)
            mtimes.add(mtime_ns)

    def _mtimes(self, key: tuple[int, int], ctime_ns: int) -> set[int]:
        last_ns, mtimes = self._seen.get(key, (0, set()))
        if last_ns != ctime_ns:
            mtimes = set()
            self._seen[key] = (ctime_ns, mtimes)
        self._seen.move_to_end(key)
        if len(self._seen) > _FILES_MAX:
            self._seen.popitem(last=False)
        return mtimes
