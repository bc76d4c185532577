"""Checks of the values in a wstat that no provider can store.

`localfs`, `memfs`, `kvfs` and `pagefs` ask here, so that the same request is refused in the same
words on every mount.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.errors import InvalidArgument, QuotaExceeded
from fs9.path import PATH_BYTES_MAX

if TYPE_CHECKING:
    from fs9.types import StatChanges

#: The last one, -1, means "leave it" to chown(2).
ID_MAX = 2**32 - 2


def check_values(changes: StatChanges, bytes_max: int | None = None) -> None:
    """Raise InvalidArgument for owner, mode or size, QuotaExceeded for a size above the maximum."""
    for name, value in (("uid", changes.uid), ("gid", changes.gid)):
        if value is not None and not 0 <= value <= ID_MAX:
            raise InvalidArgument(f"{name} must be from 0 to {ID_MAX}")
    if changes.mode is not None and changes.mode < 0:
        raise InvalidArgument("mode cannot be negative")
    if changes.size is not None:
        if changes.size < 0:
            raise InvalidArgument("size cannot be negative")
        if bytes_max is not None and changes.size > bytes_max:
            raise QuotaExceeded(f"a file can have at most {bytes_max} bytes")


def check_target(target: str) -> int:
    """The length of a link's text in bytes; raises InvalidArgument for one Linux cannot have.

    As symlink(2): not empty, shorter than PATH_MAX, no NUL.
    """
    try:
        size = len(target.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size < PATH_BYTES_MAX or "\0" in target:
        raise InvalidArgument("a symbolic link needs a target of 1 to 4095 bytes without NUL")
    return size
