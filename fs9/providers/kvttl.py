"""`/.ttl` of `kvfs`: a file for each key, where its time to live is read and set.

`/.ttl/a/b` belongs to the key `/a/b`. It contains the seconds that the key has left, or `never`;
what is written into it, such as `60` or `never`, applies from now on and to every later value of
the key. Removing it means `never`. So `echo 60 > /kv/.ttl/a/b` works from every client. The tree
has the same directories and names as the keys' tree, and is not listed in the root.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.errors import (
    AlreadyExists,
    InvalidArgument,
    IsDirectory,
    NotDirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from fs9.provider import OpenFile
from fs9.providers import kvtree
from fs9.providers.kvrules import CONTROL
from fs9.types import FileInfo, FileType, StatChanges

if TYPE_CHECKING:
    from fs9.clock import Clock
    from fs9.providers.kvstore import Store, Transaction
    from fs9.providers.kvtree import Inode
    from fs9.providers.kvwriter import Change, Writer
    from fs9.types import Buffer, Condition, OpenFlags

_NEVER = "never"
#: Longer than every number of seconds that is allowed.
_TEXT_BYTES_MAX = 64


class TtlOpen(OpenFile):
    """An open control file: what has been written into it."""

    __slots__ = ("condition", "flags", "is_dir", "path", "text")

    def __init__(self, path: str, flags: OpenFlags, condition: Condition, *, is_dir: bool) -> None:
        self.path = path
        self.flags = flags
        self.condition = condition
        self.is_dir = is_dir
        self.text = bytearray()


class TtlTree:
    def __init__(self, store: Store, writer: Writer, clock: Clock) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock

    def stat(self, path: str) -> FileInfo:
        """Raises NotFound where there is no key."""
        with self._store.reading() as tx:
            return self._info(self._find(tx, path), path)

    def readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        found: list[FileInfo] = []
        now_ns = self._clock.now_ns()
        with self._store.reading() as tx:
            directory = self._find(tx, path)
            if not directory.is_dir:
                raise NotDirectory(path)
            for node in kvtree.children(tx, directory.number, after):
                if len(found) == limit:
                    break
                if node.file_type is not FileType.SYMLINK and not node.expired(now_ns):
                    found.append(self._info(node, f"{path}/{node.name}"))
        return found

    def open(self, path: str, flags: OpenFlags, condition: Condition) -> tuple[TtlOpen, FileInfo]:
        """Raises AlreadyExists for one to be made, PermissionDenied where there is no key."""
        try:
            info = self.stat(path)
        except NotFound:
            if flags.create:
                raise PermissionDenied(f"there is no key {_key_path(path)}") from None
            raise
        if flags.create and (flags.directory or flags.exclusive):
            raise AlreadyExists(path)
        if info.is_dir and (flags.write or flags.create):
            raise IsDirectory(path)
        if not info.is_dir and flags.directory:
            raise NotDirectory(path)
        if not condition.holds(info.etag):
            raise PreconditionFailed(path)
        return TtlOpen(path, flags, condition, is_dir=info.is_dir), info

    def read(self, file: TtlOpen, offset: int, size: int) -> bytes:
        if not file.flags.read:
            raise PermissionDenied("file not opened for reading")
        if file.is_dir:
            raise IsDirectory(file.path)
        with self._store.reading() as tx:
            text = self._text(self._find(tx, file.path))
        return text[offset : offset + size]

    async def write(self, file: TtlOpen, offset: int, data: Buffer) -> int:
        """Obeyed at once; of a replacement, at its close."""
        if not file.flags.write:
            raise PermissionDenied("file not opened for writing")
        if offset + len(data) > _TEXT_BYTES_MAX:
            raise InvalidArgument(f"a time to live is seconds, or {_NEVER!r}")
        if file.flags.replace:
            file.text += data
        else:
            await self._set(file.path, _parse(bytes(data)), None)
        return len(data)

    async def close(self, file: TtlOpen, *, discard: bool) -> FileInfo | None:
        if not file.flags.replace or discard:
            return None
        return await self._set(file.path, _parse(bytes(file.text)), file.condition)

    async def remove(self, path: str, condition: Condition) -> None:
        if self.stat(path).is_dir:
            raise PermissionDenied(f"cannot remove {path}")
        await self._set(path, 0, condition)

    def check_wstat(self, path: str, changes: StatChanges) -> None:
        """Emptying the file before it is written is allowed, and nothing else."""
        self.stat(path)
        if changes not in (StatChanges(), StatChanges(size=0)):
            raise PermissionDenied(f"{path} is a control file: write seconds, or {_NEVER!r}")

    # -------------------------------------------------------------------------------------------

    async def _set(self, path: str, ttl_ns: int, condition: Condition | None) -> FileInfo:
        def work(change: Change) -> FileInfo:
            node = self._find(change.tx, path)
            if condition is not None and not condition.holds(self._etag(node)):
                raise PreconditionFailed(path)
            node.ttl_ns = ttl_ns
            change.set_expiry(node, change.now_ns + ttl_ns if ttl_ns else 0)
            node.ctime_ns = change.now_ns
            kvtree.put_inode(change.tx, node)
            return self._info(node, path)

        return await self._writer.commit(work)

    def _find(self, tx: Transaction, path: str) -> Inode:
        try:
            node = kvtree.find(tx, _key_path(path), self._clock.now_ns())
        except (NotFound, NotDirectory) as error:
            raise type(error)(path) from None
        if node.file_type is FileType.SYMLINK:
            raise NotFound(path)
        return node

    def _info(self, node: Inode, path: str) -> FileInfo:
        ns = node.ctime_ns
        if node.is_dir:
            return FileInfo(path, 0, FileType.DIRECTORY, 0o555, 0, 0, ns, ns, ns, node.etag)
        size, mode, etag = len(self._text(node)), node.mode, self._etag(node)
        return FileInfo(path, size, FileType.REGULAR, mode, node.uid, node.gid, ns, ns, ns, etag)

    def _etag(self, node: Inode) -> str:
        return f"{node.version:x}-{node.ttl_ns:x}-{node.expires_ns:x}"

    def _text(self, node: Inode) -> bytes:
        if not node.expires_ns:
            return f"{_NEVER}\n".encode()
        # Of one length while the key lives, as its size must be.
        return b"%17.6f\n" % ((node.expires_ns - self._clock.now_ns()) / 1e9)


def _key_path(path: str) -> str:
    return path[len(CONTROL) :] or "/"


def _parse(text: bytes) -> int:
    """Nanoseconds, 0 for never; raises InvalidArgument."""
    word = text.decode("ascii", "replace").strip()
    if word == _NEVER:
        return 0
    try:
        seconds = float(word)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= kvtree.TTL_S_MAX:
        raise InvalidArgument(
            f"a time to live is seconds, up to {kvtree.TTL_S_MAX}, or {_NEVER!r}; got {word!r}"
        )
    return max(1, int(seconds * 1e9))
