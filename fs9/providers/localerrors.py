"""From errno to `Fs9Error`, for localfs: the table, and the context manager that applies it.

The texts name the client's path, never the host's.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from fs9 import errors

if TYPE_CHECKING:
    from types import TracebackType

_KINDS: dict[int, type[errors.Fs9Error]] = {
    errno.ENOENT: errors.NotFound,
    errno.ESTALE: errors.NotFound,
    errno.EEXIST: errors.AlreadyExists,
    errno.ENOTDIR: errors.NotDirectory,
    errno.ELOOP: errors.NotDirectory,
    errno.EISDIR: errors.IsDirectory,
    errno.ENOTEMPTY: errors.DirectoryNotEmpty,
    # Some file systems refuse a forbidden change with EROFS; the client cannot do it either way.
    errno.EACCES: errors.PermissionDenied,
    errno.EPERM: errors.PermissionDenied,
    errno.EROFS: errors.PermissionDenied,
    errno.EINVAL: errors.InvalidArgument,
    errno.ENAMETOOLONG: errors.InvalidArgument,
    errno.EILSEQ: errors.InvalidArgument,
    errno.EXDEV: errors.InvalidArgument,
    errno.ENXIO: errors.InvalidArgument,
    errno.ENODEV: errors.InvalidArgument,
    errno.ENOSPC: errors.QuotaExceeded,
    errno.EDQUOT: errors.QuotaExceeded,
    errno.EFBIG: errors.QuotaExceeded,
    errno.EMLINK: errors.QuotaExceeded,
    errno.EOVERFLOW: errors.QuotaExceeded,
    errno.EBUSY: errors.Conflict,
    errno.ETXTBSY: errors.Conflict,
    errno.EMFILE: errors.Transient,
    errno.ENFILE: errors.Transient,
    errno.ENOMEM: errors.Transient,
    errno.EAGAIN: errors.Transient,
    errno.ETIMEDOUT: errors.BackendUnavailable,
    errno.EHOSTDOWN: errors.BackendUnavailable,
    errno.ENOTCONN: errors.BackendUnavailable,
    errno.EOPNOTSUPP: errors.NotSupported,
}

# Where the kind alone does not tell the caller what to do, the system's text goes along.
_SELF_EXPLANATORY = {
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.EISDIR,
    errno.ENOTEMPTY,
    errno.EACCES,
    errno.EPERM,
}


def failure(error: OSError, path: str) -> errors.Fs9Error:
    """The error that clients see when the system refused something at `path`."""
    number = error.errno or errno.EIO
    kind = _KINDS.get(number, errors.Internal)
    if number in _SELF_EXPLANATORY:
        return kind(path)
    return kind(f"{path}: {os.strerror(number)}")


class Translated:
    """`with Translated(path):` turns an OSError inside into its Fs9Error about `path`."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError):
            raise failure(error, self._path) from error
