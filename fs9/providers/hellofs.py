"""The smallest complete provider, and the one to copy: a greeting beside a few flat files.

`/hello` holds the configured greeting and cannot be changed; other files live in `/`, in
memory. There are no directories to make, nothing can be renamed or truncated: the capabilities
say so, and `BaseProvider` answers for what is left out. What a provider must do itself is
here: honour the flags it is opened with, raise the errors of `fs9.provider`, keep a limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import msgspec

from fs9.errors import (
    AlreadyExists,
    InvalidArgument,
    IsDirectory,
    NotDirectory,
    NotFound,
    NotSupported,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
)
from fs9.provider import BaseProvider, OpenFile
from fs9.providers.registry import ProviderContext, read_config
from fs9.types import (
    ALWAYS,
    BASIC_RW,
    Buffer,
    Capability,
    Condition,
    FileInfo,
    FileType,
    FsStats,
    OpenFlags,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fs9.clock import Clock

_GREETING_PATH = "/hello"
#: All files together: a provider that keeps things in memory needs a bound.
_TOTAL_BYTES = 64 * 1024 * 1024
_FILES_MAX = 10_000


class Config(msgspec.Struct, frozen=True):
    """What a mount may configure; `read_config` refuses everything else."""

    greeting: str = "Hello, World!"


async def create(config: Mapping[str, Any], context: ProviderContext) -> HelloFs:
    """What `fs9.providers.builtin` registers."""
    settings = read_config("hellofs", Config, config)
    return HelloFs(settings.greeting, context.clock)


class _File:
    __slots__ = ("__weakref__", "content", "mode", "mtime_ns", "version")

    def __init__(self, content: bytes, mode: int, version: int, now_ns: int) -> None:
        self.content = bytearray(content)
        self.mode = mode
        self.version = version
        self.mtime_ns = now_ns


class HelloOpen(OpenFile):
    """An open file; `file` is None for the directory. `path` and `condition`: for a swap."""

    __slots__ = ("condition", "created", "file", "flags", "path")

    def __init__(
        self,
        file: _File | None,
        flags: OpenFlags,
        path: str,
        condition: Condition,
        *,
        created: bool = False,
    ) -> None:
        self.created = created
        self.file = file
        self.flags = flags
        self.path = path
        self.condition = condition


class HelloFs(BaseProvider):
    name = "hellofs"
    untasked = True
    volatile = True

    def __init__(self, greeting: str, clock: Clock) -> None:
        self._clock = clock
        self._version = self._made_ns = clock.now_ns()
        hello = _File(f"{greeting}\n".encode(), 0o444, self._version, self._made_ns)
        self._files = {_GREETING_PATH: hello}
        #: Every file in memory: listed, or removed or not yet listed but open.
        self._alive = WeakSet([hello])

    def capabilities(self) -> Capability:
        return BASIC_RW | Capability.ETAG

    async def stat(self, path: str) -> FileInfo:
        return self._info(path, self._find(path))

    async def statfs(self, path: str) -> FsStats:
        free_inodes = _FILES_MAX - len(self._alive)
        free_bytes = _TOTAL_BYTES - self._used_bytes()
        return FsStats(_TOTAL_BYTES, free_bytes, _FILES_MAX, free_inodes, 4096, 255)

    async def readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        if self._find(path) is not None:
            raise NotDirectory(path)
        paths = sorted(path for path in self._files if path[1:] > after)
        return [self._info(path, self._files[path]) for path in paths[:limit]]

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[HelloOpen, FileInfo]:
        if flags.truncate and not flags.write:
            raise InvalidArgument("truncate needs write")
        if flags.replace and not flags.write:
            raise InvalidArgument("replace needs write and a file")
        if flags.create and flags.directory:
            raise self._no_directory(path)
        created = False
        try:
            file = self._find(path)
        except NotFound:
            if not flags.create:
                raise
            created = True
            self._check(condition, None, path)
            file = self._new_file(path, enter=not flags.replace)
        else:
            self._check_existing(path, file, flags)
            self._check(condition, file, path)
            if flags.replace:
                file = self._new_file(path, enter=False)
            elif flags.truncate and file is not None:
                file.content.clear()
                self._touch(file)
        opened = HelloOpen(file, flags, path, condition, created=created)
        return opened, self._info(path, file)

    async def read(self, file: OpenFile, offset: int, size: int) -> Buffer:
        assert isinstance(file, HelloOpen)
        if not file.flags.read:
            raise PermissionDenied("file not opened for reading")
        if file.file is None:
            raise IsDirectory(file.path)
        return bytes(file.file.content[offset : offset + size])

    async def write(self, file: OpenFile, offset: int, data: Buffer) -> int:
        assert isinstance(file, HelloOpen)
        if not file.flags.write:
            raise PermissionDenied("file not opened for writing")
        assert file.file is not None  # a directory is not opened for writing
        content = file.file.content
        if file.flags.append:
            offset = len(content)
        grown = max(len(content), offset + len(data)) if data else len(content)
        if self._used_bytes() - len(content) + grown > _TOTAL_BYTES:
            raise QuotaExceeded(f"hellofs may hold {_TOTAL_BYTES} bytes")
        content.extend(bytes(max(0, offset - len(content)) if data else 0))
        content[offset : offset + len(data)] = data
        self._touch(file.file)
        return len(data)

    async def close(
        self, file: OpenFile, *, sync: bool = False, discard: bool = False
    ) -> FileInfo | None:
        assert isinstance(file, HelloOpen)
        if not file.flags.replace or discard:
            return None
        assert file.file is not None
        old = self._files.get(file.path)
        if old is None and not file.flags.create:
            raise NotFound(file.path)
        self._check(file.condition, old, file.path)
        if old is not None and file.flags.create and file.flags.exclusive:
            raise AlreadyExists(file.path)
        self._files[file.path] = file.file
        return self._info(file.path, file.file)

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        file = self._find(path)
        if file is None:
            raise PermissionDenied("cannot remove root")
        if path == _GREETING_PATH:
            raise PermissionDenied(f"cannot remove {path}")
        self._check(condition, file, path)
        del self._files[path]

    # -------------------------------------------------------------------------------------------

    def _find(self, path: str) -> _File | None:
        """The file; None for the directory. Raises NotFound, NotDirectory (below a file)."""
        if path == "/":
            return None
        file = self._files.get(path)
        if file is None:
            if "/" + path.split("/", 2)[1] in self._files:
                raise NotDirectory(path)
            raise NotFound(path)
        return file

    def _new_file(self, path: str, *, enter: bool) -> _File:
        """A new empty file, in the listing when `enter`."""
        parent = path.rpartition("/")[0]
        if parent:
            raise NotFound(parent)
        if len(self._alive) >= _FILES_MAX:
            raise QuotaExceeded(f"hellofs may hold {_FILES_MAX} files")
        file = _File(b"", 0o644, 0, 0)
        self._touch(file)
        self._alive.add(file)
        if enter:
            self._files[path] = file
        return file

    def _check_existing(self, path: str, file: _File | None, flags: OpenFlags) -> None:
        if flags.create and flags.exclusive:
            raise AlreadyExists(path)
        if file is None and (flags.write or flags.create):
            raise IsDirectory(path)
        if file is not None and flags.directory:
            raise NotDirectory(path)
        if path == _GREETING_PATH and flags.write:
            raise PermissionDenied(f"{path} is read-only")

    def _no_directory(self, path: str) -> AlreadyExists | NotSupported:
        known = path == "/" or path in self._files
        return AlreadyExists(path) if known else NotSupported("directories")

    def _check(self, condition: Condition, file: _File | None, path: str) -> None:
        if not condition.holds(None if file is None else f"{file.version:x}"):
            raise PreconditionFailed(path)

    def _touch(self, file: _File) -> None:
        """The content has changed: another time, another version."""
        self._version += 1
        file.version, file.mtime_ns = self._version, self._clock.now_ns()

    def _used_bytes(self) -> int:
        return sum(len(file.content) for file in self._alive)

    def _info(self, path: str, file: _File | None) -> FileInfo:
        if file is None:
            ns = self._made_ns
            return FileInfo(path, 0, FileType.DIRECTORY, 0o755, 0, 0, ns, ns, ns, f"{ns:x}")
        ns = file.mtime_ns
        size, etag = len(file.content), f"{file.version:x}"
        return FileInfo(path, size, FileType.REGULAR, file.mode, 0, 0, ns, ns, ns, etag)
