"""What pagefs keeps in its metadata store: the keys, and how values are encoded.

Numbers in keys are 8 bytes, the highest first, so that keys sort as the numbers do.

    versioned (the generation is behind each key, see `view`):
    C                        counters: bytes and files of the tree
    I inode                  the inode
    D parent name NUL        a directory entry: inode, kind
    E inode content end      an extent: the bytes of the file before the offset `end`
    O inode content object   an object that extents of the content may lie in
    X inode name NUL         an extended attribute
    T inode                  an orphan: no entry, open or being written; removed after a crash
    R inode content          the content's bytes from `cut` on are being removed

    not versioned:
    1 S                      the superblock
    1 N name                 a snapshot      1 F name     a fork
    1 G object inode         garbage: to be deleted once its removal is durable
    1 K                      the last epoch that was closed in order

Serial numbers (inodes, contents, objects, versions) are the store's epoch and a counter, so
none ever comes twice, also not when a loss of power took the changes that used it.
"""

from __future__ import annotations

import functools
import struct

import msgspec
from fastcrc.crc32 import iscsi as crc32c

from fs9.errors import Internal
from fs9.types import Buffer

#: Bytes under one checksum. Measured from cached pages, with an older implementation of the
#: checksum, us for a read of 1 MiB and for a random one of 4 KiB: units of 4 KiB 195 and 14,
#: 16 KiB 153 and 15, 64 KiB 132 and 19, 256 KiB 124 and 38. Beyond 64 KiB large reads hardly gain,
#: and small ones lose.
UNIT_BYTES = 64 * 1024
#: The largest extent: its checksums are 68 bytes, and it is one large read.
EXTENT_BYTES_MAX = 1024 * 1024
#: The largest extent whose bytes are in the metadata store itself: a page.
PAGE_BYTES = 16 * 1024

FORMAT = 1
ROOT = 1
TRASH = 2
REGULAR, DIRECTORY, SYMLINK = 1, 2, 3

SUPERBLOCK = b"\x01S"
CLEAN = b"\x01K"
SNAPSHOTS = b"\x01N"
FORKS = b"\x01F"
GARBAGE = b"\x01G"
COUNTERS = b"C"
INODES = b"I"
ORPHANS = b"T"
REAPED = b"R"

_ONE = struct.Struct(">cQ")
_TWO = struct.Struct(">cQQ")
_THREE = struct.Struct(">cQQQ")
_ENTRY = struct.Struct(">QB")
_EXTENT = struct.Struct(">cQQIII")
#: An object's piece of any size; one that is as large as can be; bytes.
_OBJECT, _WHOLE, _INLINE = b"o", b"w", b"i"


def inode_key(inode: int) -> bytes:
    return _ONE.pack(b"I", inode)


def orphan_key(inode: int) -> bytes:
    return _ONE.pack(b"T", inode)


def entry_key(parent: int, name: str) -> bytes:
    return _ONE.pack(b"D", parent) + name.encode() + b"\0"


def entries(parent: int) -> tuple[bytes, bytes]:
    """The range of a directory's entries."""
    return _ONE.pack(b"D", parent), _ONE.pack(b"D", parent + 1)


def entry_name(key: bytes) -> str:
    return key[9:-1].decode()


def pack_entry(inode: int, kind: int) -> bytes:
    return _ENTRY.pack(inode, kind)


def unpack_entry(value: bytes) -> tuple[int, int]:
    inode, kind = _ENTRY.unpack(value)
    return inode, kind


def attribute_key(inode: int, name: str) -> bytes:
    return _ONE.pack(b"X", inode) + name.encode() + b"\0"


def attributes(inode: int) -> tuple[bytes, bytes]:
    return _ONE.pack(b"X", inode), _ONE.pack(b"X", inode + 1)


def extent_key(inode: int, content: int, end: int) -> bytes:
    return _THREE.pack(b"E", inode, content, end)


def extents(inode: int, content: int, offset: int = 0) -> tuple[bytes, bytes]:
    """The range of the extents that have bytes after `offset`."""
    return _THREE.pack(b"E", inode, content, offset + 1), _TWO.pack(b"E", inode, content + 1)


def object_key(inode: int, content: int, number: int) -> bytes:
    return _THREE.pack(b"O", inode, content, number)


def objects(inode: int, content: int) -> tuple[bytes, bytes]:
    return _TWO.pack(b"O", inode, content), _TWO.pack(b"O", inode, content + 1)


def objects_of(inode: int) -> tuple[bytes, bytes]:
    """The range of the objects of all contents of an inode."""
    return _ONE.pack(b"O", inode), _ONE.pack(b"O", inode + 1)


def object_of(key: bytes) -> tuple[int, int, int]:
    """(inode, content, object) of an object's key, with or without a generation behind it."""
    _, inode, content, number = _THREE.unpack_from(key)
    return inode, content, number


def reaped_key(inode: int, content: int) -> bytes:
    return _TWO.pack(b"R", inode, content)


def two_of(key: bytes) -> tuple[int, int]:
    _, first, second = _TWO.unpack_from(key)
    return first, second


def garbage_key(number: int, inode: int) -> bytes:
    return GARBAGE + struct.pack(">QQ", number, inode)


def garbage_of(key: bytes) -> tuple[int, int]:
    number, inode = struct.unpack_from(">QQ", key, len(GARBAGE))
    return number, inode


@functools.lru_cache(64)
def object_name(number: int, inode: int) -> str:
    """The name of an object in the block store."""
    return f"{number:016x}-{inode:016x}"


def object_of_row(key: bytes, value: bytes) -> tuple[int, int] | None:
    """(object, inode) that a row refers to: one of an object, or an extent in one."""
    if key[:1] == b"O":
        inode, _, number = object_of(key)
        return number, inode
    if key[:1] == b"E" and value[:1] in {_OBJECT, _WHOLE}:
        return _EXTENT.unpack_from(value)[1], two_of(key)[0]
    return None


def object_of_name(name: str) -> tuple[int, int]:
    number, _, inode = name.partition("-")
    return int(number, 16), int(inode, 16)


class Inode(msgspec.Struct, array_like=True, gc=False):
    """`content` names the bytes: a new one is an empty file, in O(1), and atomically.

    `stored` counts all bytes ever put for the content. The next put goes to the end
    (`tail_end`) of the object `tail`, if this generation began it (`tail_generation`).
    `sparse`: there may be ranges without an extent, which are zeros; in other files they are
    damage. It is not known of inodes that earlier versions made.
    """

    kind: int
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    version: int
    content: int = 0
    stored: int = 0
    tail: int = 0
    tail_end: int = 0
    tail_generation: int = 0
    target: str | None = None
    attributes: int = 0
    sparse: bool = True

    @property
    def etag(self) -> str:
        return f"{self.version:x}"


class Counters(msgspec.Struct, array_like=True, gc=False):
    """What the tree holds: orphans and staged files count until they are gone."""

    bytes: int = 0
    files: int = 0


class Superblock(msgspec.Struct, array_like=True, frozen=True):
    """`lineage`: the generations of the live tree; `generation`: the last one given out.

    `collect`: something was removed that a snapshot or a fork held, and a collection has not
    yet gone through.
    """

    format: int
    unit_bytes: int
    generation: int
    lineage: tuple[int, ...]
    collect: bool = False


class Branch(msgspec.Struct, array_like=True, frozen=True):
    """A snapshot or a fork: which generations it sees, and since when."""

    lineage: tuple[int, ...]
    created_ns: int


_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
decode_inode = msgspec.msgpack.Decoder(Inode).decode
decode_counters = msgspec.msgpack.Decoder(Counters).decode
decode_superblock = msgspec.msgpack.Decoder(Superblock).decode
decode_branch = msgspec.msgpack.Decoder(Branch).decode
decode_number = msgspec.msgpack.Decoder(int).decode


class Extent(msgspec.Struct, gc=False):
    """A piece of a file, from `start` to `end`: in an object of the block store, or `data`.

    In an object it lies from `offset` on: whole units with a checksum each (`checksums`, 4
    bytes each), `stored` bytes in all; the piece begins `skip` bytes after their beginning.
    `whole` is the checksum of all these bytes, which largest extents have, so that a read of
    all is verified at once (18 us; one unit after the other: 25).
    """

    start: int
    end: int
    data: Buffer | None = None
    number: int = 0
    offset: int = 0
    skip: int = 0
    stored: int = 0
    checksums: bytes = b""
    whole: int | None = None

    def encode(self) -> bytes:
        data = self.data
        if data is not None:
            return b"".join((_INLINE, crc32c(data).to_bytes(4, "big"), data))
        kind, whole = _OBJECT, b""
        if self.whole is not None:
            kind, whole = _WHOLE, self.whole.to_bytes(4, "big")
        head = _EXTENT.pack(
            kind, self.number, self.offset, self.skip, self.end - self.start, self.stored
        )
        return head + whole + self.checksums

    def units(self, start: int, end: int, unit_bytes: int) -> tuple[int, int]:
        """Where the units begin and end that have a part of what is stored."""
        return start - start % unit_bytes, min(self.stored, end + -end % unit_bytes)

    def part(self, start: int, end: int, unit_bytes: int) -> Extent:
        """The piece of this piece; of the units, those that it needs."""
        if self.data is not None:
            view = memoryview(self.data)[start - self.start : end - self.start]
            return Extent(start, end, data=bytes(view))
        skip = self.skip + start - self.start
        first = skip // unit_bytes
        skip -= first * unit_bytes
        last = first + -(-(skip + end - start) // unit_bytes)
        return Extent(
            start,
            end,
            number=self.number,
            offset=self.offset + first * unit_bytes,
            skip=skip,
            stored=min(self.stored, last * unit_bytes) - first * unit_bytes,
            checksums=self.checksums[4 * first : 4 * last],
        )


def decode_extent(key: bytes, value: bytes) -> Extent:
    """Raises Internal for bytes that do not match their checksum."""
    end = int.from_bytes(key[17:25], "big")
    if value[:1] == _INLINE:
        data = memoryview(value)[5:]
        if crc32c(data) != int.from_bytes(value[1:5], "big"):
            raise Internal("a block is damaged: its checksum does not match")
        return Extent(end - len(data), end, data=data)
    kind, number, offset, skip, length, stored = _EXTENT.unpack_from(value)
    at, whole = _EXTENT.size, None
    if kind == _WHOLE:
        at, whole = at + 4, int.from_bytes(value[at : at + 4], "big")
    return Extent(end - length, end, None, number, offset, skip, stored, value[at:], whole)
