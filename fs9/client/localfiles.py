"""Files of this host, as transfers write and read them. Blocking; no network.

A received file is complete before it has its name: it is written as a part file beside its
target and renamed. A part file's name holds the etag of the version it is a part of, so that
running the same download again continues it; no two programs write one part file.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import os
import secrets
import stat
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

PART_PREFIX = ".fs9-part-"

#: A part smaller than this is not worth keeping after a failure.
PART_BYTES_MIN = 1024 * 1024
#: The longest etag that a part file's name can hold (NAME_MAX is 255, base64 adds a third).
_ETAG_BYTES_MAX = 120
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class PartFile:
    """The first bytes of a file that is being received."""

    def __init__(self, path: Path, target: Path, etag: str, file: BinaryIO) -> None:
        self.path = path
        self.target = target
        self.etag = etag
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    @classmethod
    def create(cls, target: Path, etag: str) -> PartFile:
        """A new, empty part; one that cannot be continued when the etag is "" or too long."""
        path = target.with_name(_part_name(target.name, etag))
        try:
            descriptor = os.open(path, _NEW_FILE, 0o666)
        except FileExistsError:  # another program is receiving the same version
            path = target.with_name(_part_name(target.name, ""))
            descriptor = os.open(path, _NEW_FILE, 0o666)
        return cls._locked(path, target, etag, descriptor)

    @classmethod
    def find(cls, target: Path) -> PartFile | None:
        """A part that an earlier run has left and nobody is writing to."""
        stem = _stem(target.name)
        try:
            names = sorted(name for name in os.listdir(target.parent) if name.startswith(stem))
        except FileNotFoundError:
            return None
        for name in names:
            path = target.with_name(name)
            try:
                etag = base64.urlsafe_b64decode(name.removeprefix(stem)).decode()
                descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                part = cls._locked(path, target, etag, descriptor)
            except (OSError, ValueError, binascii.Error):
                continue
            if part.size:
                return part
            part.discard()
        return None

    @classmethod
    def _locked(cls, path: Path, target: Path, etag: str, descriptor: int) -> PartFile:
        file = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise
        return cls(path, target, etag, file)

    def write(self, data: bytes) -> None:
        """Add `data` to the end."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file.fileno(), view, self.size)
            self.size += written
            view = view[written:]

    def commit(self, mode: int | None, mtime_ns: int | None) -> None:
        """Give the file its name. `mode` None: the mode of the file it replaces, if any."""
        if mode is None:
            mode = _mode_of(self.target)
        if mode is not None:
            os.fchmod(self._file.fileno(), mode & 0o777)
        if mtime_ns is not None:
            os.utime(self._file.fileno(), ns=(mtime_ns, mtime_ns))
        os.replace(self.path, self.target)
        self._file.close()

    def discard(self, *, keep: bool = False) -> None:
        """End without a result; with `keep` a later run may continue, if that is worth it."""
        if not (keep and self.etag and self.size >= PART_BYTES_MIN):
            self.path.unlink(missing_ok=True)
        self._file.close()


def _stem(name: str) -> str:
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return f"{PART_PREFIX}{digest}-"


def _part_name(name: str, etag: str) -> str:
    raw = etag.encode()
    if raw and len(raw) <= _ETAG_BYTES_MAX:
        return _stem(name) + base64.urlsafe_b64encode(raw).decode()
    return f"{PART_PREFIX}{secrets.token_hex(16)}"


def _mode_of(path: Path) -> int | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_mode if stat.S_ISREG(found.st_mode) else None


def is_special(path: Path) -> bool:
    """Does a device, a pipe or a socket stand there? It is written to, never replaced."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def open_regular(path: Path, *, follow: bool) -> BinaryIO:
    """A regular file opened for reading; OSError for anything else, also behind a link."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise IsADirectoryError(21, "Is a directory", str(path))
        return os.fdopen(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def make_link(path: Path, target: str) -> None:
    """A symbolic link at `path`, replacing a file or another link in one step."""
    try:
        if os.readlink(path) == target:
            return
    except OSError:
        pass  # nothing there, or no link
    beside = path.with_name(PART_PREFIX + secrets.token_hex(16))
    os.symlink(target, beside)
    try:
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def make_root(path: Path) -> None:
    """The directory that a tree is received into; an existing one, or a link to one, is taken."""
    try:
        os.mkdir(path)
    except FileExistsError:
        if not path.is_dir():
            raise


def make_directory(path: Path) -> None:
    """A directory that we can write to; an existing one is taken, a link to one is refused."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            reason = "a symbolic link is in the way, and it is not followed"
            raise NotADirectoryError(20, reason, str(path)) from None
        if not stat.S_ISDIR(mode):
            raise
        if mode & 0o700 != 0o700:
            os.chmod(path, mode & 0o777 | 0o700)


def finish_directory(path: Path, mode: int, mtime_ns: int | None) -> None:
    """The mode and the time of a directory whose entries are complete."""
    os.chmod(path, mode & 0o777, follow_symlinks=True)
    if mtime_ns is not None:
        os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
