"""The attribute part of localfs' wstat: mode, owner, size and times of one located file.

All values are checked before the first is applied. Every change goes through the file's
descriptor, so it reaches the very file that was checked, and never through a link.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from fs9.errors import InvalidArgument, IsDirectory, NotSupported
from fs9.providers import values
from fs9.providers.jail import descriptor_path, reopen

if TYPE_CHECKING:
    from fs9.providers.localticks import Ticks
    from fs9.types import StatChanges

# Set-user-id would let a tenant plant a program that runs as the server's user, so it is
# dropped; on directories set-group-id and sticky only say how new files come to be.
_FILE_BITS = 0o777
_DIRECTORY_BITS = 0o3777

_TIME_S_MAX = 2**63 - 1
_NS = 1_000_000_000


def check_values(changes: StatChanges, bytes_max: int) -> None:
    """Raise InvalidArgument or QuotaExceeded for a value that no file can have."""
    values.check_values(changes, bytes_max)
    for label, time_ns in (("atime", changes.atime_ns), ("mtime", changes.mtime_ns)):
        if time_ns is not None and abs(time_ns // _NS) > _TIME_S_MAX:
            raise InvalidArgument(f"{label} is out of range")


def check_type(path: str, changes: StatChanges, found: os.stat_result) -> None:
    """Raise for a change that this type of file does not have."""
    if stat.S_ISLNK(found.st_mode):
        if changes.mode is not None:  # nor has Linux it
            raise NotSupported(f"chmod of a symbolic link: {path}")
        if changes.size is not None:
            raise InvalidArgument("cannot truncate a symlink")
    if changes.size is not None and stat.S_ISDIR(found.st_mode):
        raise IsDirectory(path)


def apply(fd: int, changes: StatChanges, found: os.stat_result, ticks: Ticks) -> None:
    """Apply to the file at the O_PATH descriptor `fd`; blocks, raises OSError.

    In an order that lets each survive the next: chown drops mode bits, truncate sets times.
    What needs a permission is opened before anything changes.
    """
    itself = descriptor_path(fd)
    opened = reopen(fd, os.O_WRONLY) if changes.size is not None else -1
    try:
        if changes.uid is not None or changes.gid is not None:
            os.chown(
                itself,
                -1 if changes.uid is None else changes.uid,
                -1 if changes.gid is None else changes.gid,
            )
        if changes.mode is not None:
            kept = _DIRECTORY_BITS if stat.S_ISDIR(found.st_mode) else _FILE_BITS
            os.chmod(itself, changes.mode & kept)
        if changes.size is not None:
            os.ftruncate(opened, changes.size)
    finally:
        if opened >= 0:
            os.close(opened)
    if changes.atime_ns is not None or changes.mtime_ns is not None:
        now = os.fstat(fd)
        os.utime(
            itself,
            ns=(
                now.st_atime_ns if changes.atime_ns is None else changes.atime_ns,
                now.st_mtime_ns if changes.mtime_ns is None else changes.mtime_ns,
            ),
        )
    if changes.size is not None or changes.mtime_ns is not None:
        ticks.changed(fd)
