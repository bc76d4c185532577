"""The tree of `kvfs` as ordered keys and values: inodes, entries, chunks.

    S                          counters of the whole store
    I inode                    what stat knows, and where the inode is
    E parent name              inode and kind of an entry: a directory is one run of keys
    D inode number             a chunk of a value; what is not stored is zeros
    O inode                    an inode without an entry: open, staged, or to be cleared
    X time inode               when an inode expires

Numbers are 8 bytes, big-endian, so keys sort as they do. Everything here is a function of a
transaction (`fs9.providers.kvstore`); the rules of a file system are in `kvfs`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec

from fs9.errors import NotDirectory, NotFound
from fs9.path import split
from fs9.types import FileInfo, FileType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fs9.providers.kvstore import Transaction
    from fs9.types import Buffer

#: Four pages of LMDB with the header of an overflow page: a chunk leaves no gap.
CHUNK_BYTES = 4 * 4096 - 16
ROOT = 1
#: A hundred years: with the time of now it still fits a key.
TTL_S_MAX = 100 * 365 * 86_400

_number = struct.Struct(">Q")
_two = struct.Struct(">QQ")
_entry = struct.Struct(">QB")
_KINDS = (FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK)
_COUNTERS = b"S"


class Counters(msgspec.Struct, array_like=True):
    """`version` is the newest etag; `bytes_used` and `files` count inodes without an entry too."""

    next_inode: int
    version: int
    bytes_used: int = 0
    files: int = 0


class Inode(msgspec.Struct, array_like=True):
    """`parent` is 0 once no directory has it. `ttl_ns` 0: it does not expire."""

    number: int
    file_type: FileType
    mode: int
    parent: int
    name: str
    version: int
    mtime_ns: int
    ctime_ns: int
    atime_ns: int
    size: int = 0
    uid: int = 0
    gid: int = 0
    ttl_ns: int = 0
    expires_ns: int = 0
    target: str | None = None

    @property
    def etag(self) -> str:
        return f"{self.version:x}"

    @property
    def is_dir(self) -> bool:
        return self.file_type is FileType.DIRECTORY

    def expired(self, now_ns: int) -> bool:
        return 0 < self.expires_ns <= now_ns

    def info(self, path: str, file_id: str = "") -> FileInfo:
        return FileInfo(
            path,
            self.size,
            self.file_type,
            self.mode,
            self.uid,
            self.gid,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
            self.etag,
            self.target,
            file_id,
        )


_encode = msgspec.msgpack.Encoder().encode
_inode = msgspec.msgpack.Decoder(Inode)
_counters = msgspec.msgpack.Decoder(Counters)


def _key(kind: bytes, number: int) -> bytes:
    return kind + _number.pack(number)


# -- counters -------------------------------------------------------------------------------


def counters(tx: Transaction) -> Counters | None:
    """The counters; None when the store is new."""
    value = tx.get(_COUNTERS)
    return None if value is None else _counters.decode(value)


def put_counters(tx: Transaction, value: Counters) -> None:
    tx.put(_COUNTERS, _encode(value))


# -- inodes ---------------------------------------------------------------------------------


def inode(tx: Transaction, number: int) -> Inode | None:
    value = tx.get(_key(b"I", number))
    return None if value is None else _inode.decode(value)


def put_inode(tx: Transaction, node: Inode) -> None:
    tx.put(_key(b"I", node.number), _encode(node))


def set_expiry(tx: Transaction, node: Inode, expires_ns: int) -> None:
    """Keep the index of what expires; the caller stores the inode."""
    if node.expires_ns:
        tx.delete(b"X" + _two.pack(node.expires_ns, node.number))
    node.expires_ns = expires_ns
    if expires_ns:
        tx.put(b"X" + _two.pack(expires_ns, node.number), b"")


def next_expiry_ns(tx: Transaction) -> int | None:
    """When the first inode expires, or has; None: none does."""
    for key, _ in tx.scan(b"X", b"X"):
        expires_ns: int = _two.unpack(key[1:])[0]
        return expires_ns
    return None


def expired(tx: Transaction, now_ns: int, most: int) -> list[Inode]:
    """At most so many expired inodes, those that expired first."""
    numbers: list[int] = []
    for key, _ in tx.scan(b"X", b"X"):
        expires_ns, number = _two.unpack(key[1:])
        if expires_ns > now_ns or len(numbers) == most:
            break
        numbers.append(number)
    return [node for number in numbers if (node := inode(tx, number)) is not None]


# -- entries --------------------------------------------------------------------------------


def child(tx: Transaction, parent: int, name: str) -> Inode | None:
    value = tx.get(_key(b"E", parent) + name.encode())
    return None if value is None else inode(tx, _entry.unpack(value)[0])


def children(tx: Transaction, parent: int, after: str = "") -> Iterator[Inode]:
    """The inodes of a directory whose name sorts after `after`, in order."""
    prefix = _key(b"E", parent)
    first = prefix + after.encode() + b"\0" if after else prefix
    for _, value in tx.scan(first, prefix):
        node = inode(tx, _entry.unpack(value)[0])
        assert node is not None, "an entry has an inode"
        yield node


def link(tx: Transaction, node: Inode, parent: int, name: str) -> None:
    """Give the inode, which has none, this name."""
    if node.parent == 0:
        tx.delete(_key(b"O", node.number))
    node.parent, node.name = parent, name
    kind = _KINDS.index(node.file_type)
    tx.put(_key(b"E", parent) + name.encode(), _entry.pack(node.number, kind))
    put_inode(tx, node)


def unlink(tx: Transaction, node: Inode) -> None:
    """Take the inode out of the tree; it and its bytes stay until `clear`."""
    tx.delete(_key(b"E", node.parent) + node.name.encode())
    set_expiry(tx, node, 0)
    node.parent = 0
    put_orphan(tx, node)


def move(tx: Transaction, node: Inode, parent: int, name: str) -> None:
    tx.delete(_key(b"E", node.parent) + node.name.encode())
    link(tx, node, parent, name)


def put_orphan(tx: Transaction, node: Inode) -> None:
    """Record an inode without a name: it is deleted at the next start at the latest."""
    tx.put(_key(b"O", node.number), b"")
    put_inode(tx, node)


def orphans(tx: Transaction) -> list[int]:
    return [_number.unpack(key[1:])[0] for key, _ in tx.scan(b"O", b"O")]


def clear(tx: Transaction, number: int) -> Inode | None:
    """Delete an inode without a name and its bytes; None when that has been done."""
    node = inode(tx, number)
    if node is not None:
        _cut(tx, number, 0)
        tx.delete(_key(b"I", number))
    tx.delete(_key(b"O", number))
    return node


def find(tx: Transaction, path: str, now_ns: int) -> Inode:
    """The inode at the clean path; raises NotFound, NotDirectory (a file in the middle)."""
    node = inode(tx, ROOT)
    assert node is not None
    if path == "/":
        return node
    for name in path[1:].split("/"):
        if not node.is_dir:
            raise NotDirectory(path)
        found = child(tx, node.number, name)
        if found is None or found.expired(now_ns):
            raise NotFound(path)
        node = found
    return node


def find_parent(tx: Transaction, path: str, now_ns: int) -> tuple[Inode, str]:
    """The directory for the last name of the clean path, and that name ("" for the root).

    Raises NotFound and NotDirectory with the path itself, as the kernel does.
    """
    parent, name = split(path)
    try:
        node = find(tx, parent, now_ns)
    except (NotFound, NotDirectory) as error:
        raise type(error)(path) from None
    if not node.is_dir:
        raise NotDirectory(path)
    return node, name


def path_of(tx: Transaction, node: Inode) -> str:
    """The path of an inode that has a name."""
    path, directory = "/" + node.name, node.parent
    while directory != ROOT:
        parent = inode(tx, directory)
        assert parent is not None, "what has a place has directories above it"
        path, directory = f"/{parent.name}{path}", parent.parent
    return path


# -- bytes ----------------------------------------------------------------------------------


def _chunk_key(number: int, chunk: int) -> bytes:
    return b"D" + _two.pack(number, chunk)


def read(tx: Transaction, node: Inode, offset: int, size: int) -> bytes:
    """At most `size` bytes; fewer at the end of the file."""
    end = min(offset + size, node.size)
    if end <= offset:
        return b""
    whole = bytearray(end - offset)
    first = _chunk_key(node.number, offset // CHUNK_BYTES)
    for key, value in tx.scan(first, _key(b"D", node.number)):
        start = _two.unpack(key[1:])[1] * CHUNK_BYTES
        if start >= end:
            break
        piece = value[max(0, offset - start) : end - start]
        begin = max(0, start - offset)
        whole[begin : begin + len(piece)] = piece
    return bytes(whole)


def write(tx: Transaction, number: int, offset: int, data: Buffer) -> None:
    """Store the bytes; only the chunks that they touch are read and written."""
    view, done = memoryview(data), 0
    while done < len(view):
        chunk, start = divmod(offset + done, CHUNK_BYTES)
        piece = view[done : done + CHUNK_BYTES - start]
        key = _chunk_key(number, chunk)
        if len(piece) == CHUNK_BYTES:
            tx.put(key, bytes(piece))
        else:
            old = bytearray(tx.get(key) or b"")
            if len(old) < start:
                old += bytes(start - len(old))
            old[start : start + len(piece)] = piece
            tx.put(key, bytes(old))
        done += len(piece)


def resize(tx: Transaction, node: Inode, size: int) -> None:
    """Truncate, or extend by zeros that are not stored; the caller stores the inode."""
    if size < node.size:
        last, kept = divmod(size, CHUNK_BYTES)
        key = _chunk_key(node.number, last)
        value = tx.get(key) if kept else None
        _cut(tx, node.number, last)
        if value is not None:
            tx.put(key, value[:kept])
    node.size = size


def _cut(tx: Transaction, number: int, first: int) -> None:
    """Delete the chunks from `first` on."""
    prefix = _key(b"D", number)
    keys = [key for key, _ in tx.scan(_chunk_key(number, first), prefix)]
    for key in keys:
        tx.delete(key)
