"""Frozen values that cross the waist between the VFS and the providers.

Times are integer nanoseconds since 1970 (`_ns`); the wire carries whole seconds. Modes are
POSIX permission bits, 0o7777 at most; the type is in `file_type`.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

#: Bytes in memory, not copied.
Buffer: TypeAlias = bytes | bytearray | memoryview


class FileType(enum.StrEnum):
    REGULAR = "regular"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


class FileInfo(msgspec.Struct, frozen=True, gc=False):
    """What stat knows of one file. `etag` is opaque and changes with every version.

    `file_id` tells the file from every other one while it exists, also under another name. Only
    `open` and `close` give it (it would cost each stat 3 %); "" where the provider cannot tell.
    It does not cross the wire.
    """

    path: str
    size: int
    file_type: FileType
    mode: int
    uid: int
    gid: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    etag: str = ""
    symlink_target: str | None = None
    file_id: str = ""

    @property
    def is_dir(self) -> bool:
        return self.file_type is FileType.DIRECTORY

    @property
    def is_file(self) -> bool:
        return self.file_type is FileType.REGULAR

    @property
    def is_symlink(self) -> bool:
        return self.file_type is FileType.SYMLINK


class StatChanges(msgspec.Struct, frozen=True, gc=False):
    """What wstat changes; None leaves a field as it is.

    `name` renames (at a provider: an absolute path within the provider). `symlink_target`
    creates a symbolic link at the path. Precedence when several are given:
    `symlink_target` alone, else `name` alone, else the attributes together.
    """

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    name: str | None = None
    symlink_target: str | None = None


class FsStats(msgspec.Struct, frozen=True, gc=False):
    total_bytes: int
    free_bytes: int
    total_inodes: int
    free_inodes: int
    block_size: int
    max_name_len: int


class OpenFlags(msgspec.Struct, frozen=True, gc=False):
    """How to open. The first six are the contract's; the last two are ours.

    `create` + `directory` makes a directory and fails when anything exists there.
    `exclusive` (with `create`) fails when the path exists.
    `replace` stages a new version beside the old one: readers keep seeing the old file
    until `close` swaps it in, in one step, or throws it away (`discard=True`).
    """

    read: bool = False
    write: bool = False
    create: bool = False
    truncate: bool = False
    append: bool = False
    directory: bool = False
    exclusive: bool = False
    replace: bool = False


READ = OpenFlags(read=True)
WRITE = OpenFlags(write=True)
MKDIR = OpenFlags(create=True, directory=True)
REPLACE = OpenFlags(write=True, create=True, truncate=True, replace=True)


class Condition(msgspec.Struct, frozen=True, gc=False):
    """A precondition on the current version (RFC 9110, section 13.1), etags unquoted.

    `if_match`: one of these must be current; `("*",)` means the file must exist.
    `if_none_match`: none of these may be current; `("*",)` means it must not exist.
    """

    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None

    def holds(self, etag: str | None) -> bool:
        """Does the condition hold for the current etag (None: there is no such file)?"""
        if self.if_match is not None and not _matches(self.if_match, etag):
            return False
        return self.if_none_match is None or not _matches(self.if_none_match, etag)


def _matches(wanted: tuple[str, ...], etag: str | None) -> bool:
    return etag is not None and ("*" in wanted or etag in wanted)


#: No precondition.
ALWAYS = Condition()


class Message(msgspec.Struct, frozen=True, gc=False):
    """One write that followers get whole. `cursor` is opaque: to go on after this message."""

    cursor: str
    data: bytes
    written_ns: int


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """What a follower gets at a time, in order; nothing when nothing came.

    `lost`: so many messages between the cursor it had and the first one here are gone; -1 when
    nobody knows how many. `cursor` goes on after all this. `ended`: nothing ever follows.
    """

    cursor: str
    messages: tuple[Message, ...] = ()
    lost: int = 0
    ended: bool = False


class Capability(enum.IntFlag):
    """What a provider can do; the bit numbers are the plugin ABI's."""

    READ = 1 << 0
    WRITE = 1 << 1
    CREATE = 1 << 2
    DELETE = 1 << 3
    RENAME = 1 << 4
    TRUNCATE = 1 << 5
    CHMOD = 1 << 10
    CHOWN = 1 << 11
    UTIME = 1 << 12
    HARDLINK = 1 << 20
    SYMLINK = 1 << 21
    SYNC = 1 << 30
    APPEND = 1 << 31
    RANDOM_WRITE = 1 << 32
    STREAMING = 1 << 33
    BLOCKING_READ = 1 << 34
    VERSIONING = 1 << 40
    ETAG = 1 << 41
    ATOMIC_RENAME = 1 << 42
    DIRECTORY = 1 << 43
    XATTR = 1 << 44
    SYNTHETIC = 1 << 50
    STATEFUL_READ = 1 << 51
    STATEFUL_WRITE = 1 << 52


BASIC_RW = (
    Capability.READ
    | Capability.WRITE
    | Capability.CREATE
    | Capability.DELETE
    | Capability.DIRECTORY
)
POSIX_LIKE = (
    BASIC_RW
    | Capability.RENAME
    | Capability.TRUNCATE
    | Capability.CHMOD
    | Capability.CHOWN
    | Capability.UTIME
    | Capability.SYMLINK
    | Capability.SYNC
    | Capability.RANDOM_WRITE
)


class MountSpec(msgspec.Struct, frozen=True):
    """One line of a namespace's mount list: which provider at which path, with what config."""

    path: str
    provider: str
    config: dict[str, Any] = {}


class PluginSpec(msgspec.Struct, frozen=True):
    """A native plugin: the name by which mounts know it, and its shared library."""

    name: str
    path: Path
