"""Checks of what may be done with which inode; their errors name the caller's path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.errors import (
    InvalidArgument,
    IsDirectory,
    NotDirectory,
    NotFound,
    NotSupported,
    PermissionDenied,
)
from fs9.providers.pagefs.records import DIRECTORY, REGULAR, SYMLINK, Inode

if TYPE_CHECKING:
    from fs9.types import OpenFlags, StatChanges

_FILE_BITS = 0o777
_DIRECTORY_BITS = 0o3777


class About:
    """Errors below name the path of the view; here they get the caller's."""

    __slots__ = ("_inner", "_path")

    def __init__(self, path: str, inner: str) -> None:
        self._path = path
        self._inner = inner

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._path is not self._inner and isinstance(error, NotFound | NotDirectory):
            error.detail = self._path
            error.args = (self._path,)


def check_openable(inode: Inode, path: str, flags: OpenFlags) -> None:
    """Raises what Linux raises with O_NOFOLLOW."""
    if inode.kind == DIRECTORY:
        if flags.write or (flags.create and not flags.directory):
            raise IsDirectory(path)
    elif flags.directory:
        raise NotDirectory(path)
    elif inode.kind == SYMLINK:
        raise InvalidArgument(f"cannot {'write' if flags.write else 'read'} a symlink")


def check_kind(inode: Inode, path: str, changes: StatChanges) -> None:
    if changes.mode is not None and inode.kind == SYMLINK:
        raise NotSupported("chmod of a symbolic link")  # nor has Linux it
    if changes.size is not None:
        if inode.kind == DIRECTORY:
            raise IsDirectory(path)
        if inode.kind == SYMLINK:
            raise InvalidArgument("cannot truncate a symlink")


def only_removed() -> PermissionDenied:
    """The refusal of what would make or change something in the trash."""
    return PermissionDenied(
        "/.trash takes what is removed, and nothing else: rename a file out of it to have it back"
    )


def apply(inode: Inode, changes: StatChanges) -> None:
    if changes.mode is not None:
        kept = _DIRECTORY_BITS if inode.kind == DIRECTORY else _FILE_BITS
        inode.mode = changes.mode & kept
    for name in ("uid", "gid", "atime_ns", "mtime_ns"):
        value = getattr(changes, name)
        if value is not None:
            setattr(inode, name, value)


def copy_owner(old: Inode, new: Inode) -> None:
    """What a new version of a file keeps from the old one."""
    if old.kind == REGULAR:
        new.mode, new.uid, new.gid = old.mode, old.uid, old.gid
