"""The jail: turns provider paths into descriptors below one directory, whatever others do there.

A jail holds its root as a directory descriptor and never joins host paths. `locate` gives an
`O_PATH` descriptor of what a path names, `parent` one of the directory that holds it; the
caller then uses `*at` calls with one plain name, or `reopen`. No symbolic link is followed
on the way, not even one that another process swaps in during the walk. Two walks do the same:

    KernelJail   openat2(2): the kernel resolves the whole path and refuses links
    WalkJail     one openat(O_NOFOLLOW | O_DIRECTORY) for each name, where openat2 is missing

All raise plain `OSError` (translated by `fs9.providers.localerrors`) or InvalidArgument for a
path that no client may name. A link in the middle of a path is ENOTDIR.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from fs9.errors import BackendUnavailable, InvalidArgument

if TYPE_CHECKING:
    from types import TracebackType

#: Names that begin so are ours (uploads not yet swapped in); clients never see or name them.
RESERVED_PREFIX = ".fs9-tmp-"

# An empty, "." or ".." name, a reserved one, or a NUL: refused although `fs9.path` does too.
_REFUSED = re.compile(r"/(?:\.{0,2}(?:/|\Z)|\.fs9-tmp-)|\0")

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ITSELF = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry(NamedTuple):
    """A name in a directory: the arguments of the `*at` calls. Use as a context manager."""

    directory_fd: int
    name: bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self.directory_fd)

    def stat(self) -> os.stat_result | None:
        """What is there now, a link itself; None for nothing."""
        try:
            return os.stat(self.name, dir_fd=self.directory_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def locate(self) -> int:
        """An O_PATH descriptor of what is there now, a link itself."""
        return os.open(self.name, _ITSELF, dir_fd=self.directory_fd)


class Jail(Protocol):
    @property
    def root_fd(self) -> int:
        """The root, open with O_PATH; the jail's own, closed by `close`."""

    @property
    def local_device(self) -> int | None:
        """st_dev of the root where calls on cached files cannot wait; None on a network."""

    def locate(self, path: str) -> int:
        """An O_PATH descriptor of the file at `path`, of a link itself. May block."""

    def locate_cached(self, path: str) -> int | None:
        """As `locate`, without ever waiting for a disk; None when it might have to."""

    def parent(self, path: str) -> Entry:
        """The directory of `path` and the last name; not for the root. May block."""

    def close(self) -> None:
        """Close the root."""


def open_jail(root: str | os.PathLike[str]) -> Jail:
    """A jail on the existing directory `root`, with the best walk that this kernel allows.

    Raises OSError as open(2), BackendUnavailable when /proc is not mounted (`reopen` and the
    swap of uploads need /proc/self/fd).
    """
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not os.path.samestat(os.stat(descriptor_path(root_fd)), os.fstat(root_fd)):
            raise BackendUnavailable("/proc/self/fd is not the kernel's")
        device = os.fstat(root_fd).st_dev if _is_local(root_fd) else None
        if _kernel_resolves(root_fd):
            return KernelJail(root_fd, device)
        return WalkJail(root_fd, device)
    except FileNotFoundError:
        os.close(root_fd)
        raise BackendUnavailable("localfs needs /proc to be mounted") from None
    except BaseException:
        os.close(root_fd)
        raise


def relative(path: str) -> bytes:
    """`path` below the root, encoded ("" for the root); InvalidArgument for a hostile one."""
    if path == "/":
        return b""
    if path[:1] != "/" or _REFUSED.search(path):
        raise InvalidArgument("not a path of a file here")
    try:
        return path[1:].encode()
    except UnicodeEncodeError:
        raise InvalidArgument("a path must be valid Unicode") from None


def descriptor_path(fd: int) -> str:
    """A path of the very file that `fd` has open, whatever its name is by now (proc(5))."""
    return f"/proc/self/fd/{fd}"


def reopen(fd: int, flags: int) -> int:
    """Open the file of the O_PATH descriptor `fd` again, now for use; no name is looked up.

    The caller has seen by fstat that it is a regular file or a directory, so the open can
    neither wait for a FIFO's other end nor disturb a device.
    """
    return os.open(descriptor_path(fd), flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)


# statfs(2): ext2-4, XFS, Btrfs, tmpfs, overlayfs, F2FS, ZFS, bcachefs. On others (NFS, SMB, FUSE,
# …) even an open or an fstat of a cached file may be a message to a server.
_LOCAL = {
    0xEF53,
    0x58465342,
    0x9123683E,
    0x01021994,
    0x794C7630,
    0xF2F52010,
    0x2FC12FC1,
    0xCA451A4E,
}


def _is_local(fd: int) -> bool:
    found = (ctypes.c_long * 64)()  # struct statfs begins with f_type and is not longer
    return _libc_fstatfs(fd, found) == 0 and found[0] & 0xFFFFFFFF in _LOCAL


def _split(name: bytes) -> tuple[bytes, bytes]:
    directory, _, last = name.rpartition(b"/")
    if not last:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return directory, last


# -- openat2 ----------------------------------------------------------------------------------


_libc = ctypes.CDLL(None, use_errno=True)
_libc_fstatfs = _libc.fstatfs

# <linux/openat2.h>; the number is the same on every architecture but Alpha.
_SYS_OPENAT2 = 437
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH, _CACHED = 0x01, 0x02, 0x04, 0x08, 0x20
_JAILED = _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS

_libc_syscall = _libc.syscall
_libc_syscall.restype = ctypes.c_long
_libc_syscall.argtypes = (
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_size_t,
)


def _open_how(flags: int, resolve: int) -> bytes:
    """struct open_how of openat2(2); the mode is for O_CREAT only."""
    return struct.pack("=QQQ", flags, 0, resolve)


_HOW_ITSELF = _open_how(_ITSELF, _JAILED)
# What is mounted below the root may be on a network though the root is not.
_HOW_CACHED = _open_how(_ITSELF, _JAILED | _CACHED | _NO_XDEV)
_HOW_DIRECTORY = _open_how(_DIRECTORY, _JAILED)


def _openat2(directory_fd: int, name: bytes, how: bytes) -> int:
    fd: int = _libc_syscall(_SYS_OPENAT2, directory_fd, name, how, len(how))
    if fd < 0:
        number = ctypes.get_errno()
        if number == errno.ELOOP:  # with these flags only a link in the middle of the path
            number = errno.ENOTDIR
        raise OSError(number, os.strerror(number))
    return fd


def _kernel_resolves(root_fd: int) -> bool:
    """Has this kernel openat2, and does no seccomp filter refuse it (some say EPERM)?"""
    try:
        os.close(_openat2(root_fd, b".", _HOW_ITSELF))
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EPERM, errno.EINVAL}:
            return False
        raise
    return True


class KernelJail:
    """openat2(2) with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS (Linux 5.6)."""

    def __init__(self, root_fd: int, local_device: int | None = None) -> None:
        self.root_fd = root_fd
        self.local_device = local_device
        self._cached: bytes | None = None if local_device is None else _HOW_CACHED
        try:
            os.close(_openat2(root_fd, b".", _HOW_CACHED))
        except BlockingIOError:
            pass
        except OSError:  # RESOLVE_CACHED came with Linux 5.12
            self._cached = None

    def locate(self, path: str) -> int:
        return _openat2(self.root_fd, relative(path) or b".", _HOW_ITSELF)

    def locate_cached(self, path: str) -> int | None:
        name = relative(path) or b"."
        if self._cached is None:
            return None
        try:
            return _openat2(self.root_fd, name, self._cached)
        except OSError as error:
            if error.errno in {errno.EAGAIN, errno.EXDEV}:
                return None
            raise

    def parent(self, path: str) -> Entry:
        directory, last = _split(relative(path))
        return Entry(_openat2(self.root_fd, directory or b".", _HOW_DIRECTORY), last)

    def close(self) -> None:
        os.close(self.root_fd)


class WalkJail:
    """One openat(2) for each name, holding the directory before it; links fail O_DIRECTORY."""

    def __init__(self, root_fd: int, local_device: int | None = None) -> None:
        self.root_fd = root_fd
        self.local_device = local_device

    def locate(self, path: str) -> int:
        name = relative(path)
        if not name:
            return os.dup(self.root_fd)
        with self.parent(path) as entry:
            return entry.locate()

    def locate_cached(self, path: str) -> int | None:
        relative(path)
        return None

    def parent(self, path: str) -> Entry:
        directory, last = _split(relative(path))
        fd = os.dup(self.root_fd)
        try:
            for name in directory.split(b"/") if directory else ():
                inner = os.open(name, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = inner
        except BaseException:
            os.close(fd)
            raise
        return Entry(fd, last)

    def close(self) -> None:
        os.close(self.root_fd)
