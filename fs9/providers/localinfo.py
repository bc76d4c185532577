"""From the kernel's stat to `FileInfo`, and the etag, for localfs.

Only regular files, directories and symbolic links exist for clients. FIFOs, sockets and
devices that an administrator left in the tree are not listed and are NotFound; opening one is
refused. They keep their directory from being removed.
"""

from __future__ import annotations

import os
import stat

from fs9.types import FileInfo, FileType

_TYPES = {
    stat.S_IFREG: FileType.REGULAR,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFLNK: FileType.SYMLINK,
}

_PERMISSIONS = 0o7777


def file_type(found: os.stat_result) -> FileType | None:
    """The type that clients see; None for what they do not see."""
    return _TYPES.get(stat.S_IFMT(found.st_mode))


def etag(found: os.stat_result) -> str:
    """A strong etag: no two contents ever get the same.

    The contract's `{inode}-{mtime}` comes first. A client can set the mtime, and inode numbers
    are given again, so size and ctime, which nobody can set, follow. The price: chmod, utime
    and rename change the etag too, though the content stays (RFC 9110 allows it). Changes
    within one tick of a coarse clock are kept apart by `fs9.providers.localticks`.

    Replacing or removing a file sets its ctime: a reader that opened it before and looks after
    gets a tag that no answer had and none will have. It is still that content's alone; the
    next conditional request with it finds another version, which is true.
    """
    return f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ctime_ns:x}"


def file_info(
    path: str, found: os.stat_result, target: str | None = None, file_id: str = ""
) -> FileInfo | None:
    """What clients see of `found`; None when they see nothing."""
    kind = _TYPES.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        return None
    return FileInfo(
        path,
        0 if kind is FileType.DIRECTORY else found.st_size,
        kind,
        found.st_mode & _PERMISSIONS,
        found.st_uid,
        found.st_gid,
        found.st_atime_ns,
        found.st_mtime_ns,
        found.st_ctime_ns,
        etag(found),
        target,
        file_id,
    )


def file_id(found: os.stat_result) -> str:
    """The device too: another mount may put another file system at the same path."""
    return f"{found.st_dev:x}.{found.st_ino:x}"


def link_target(fd: int) -> str:
    """The text of the link that the O_PATH descriptor `fd` has open.

    A target that is not UTF-8 (made on the host) shows U+FFFD where it is not.
    """
    return os.readlink(b"", dir_fd=fd).decode(errors="replace")


def located_info(path: str, fd: int) -> FileInfo | None:
    """What clients see of the file at the O_PATH descriptor `fd`."""
    found = os.fstat(fd)
    target = link_target(fd) if stat.S_ISLNK(found.st_mode) else None
    return file_info(path, found, target)
