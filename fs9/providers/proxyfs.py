"""Another fs9 server as a mount: every operation is a call of its file API.

The root of the upstream's namespace appears at the mount point. Files are replaced by an
upload that is sent on as it comes; a handle that the upstream has let go is opened again;
what was read may be kept, by version. How calls are made is in `proxyfs_upstream`.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from weakref import WeakSet

import msgspec
from msgspec import Meta

from fs9.client import ops
from fs9.client.settings import Settings
from fs9.errors import (
    AlreadyExists,
    Fs9Error,
    InvalidArgument,
    InvalidHandle,
    IsDirectory,
    NotDirectory,
    NotFound,
    NotSupported,
    PermissionDenied,
    PreconditionFailed,
    Remote,
)
from fs9.limits import MIB
from fs9.path import split
from fs9.provider import BaseProvider, OpenFile
from fs9.providers.proxyfs_ahead import ReadAhead
from fs9.providers.proxyfs_cache import BLOCK_BYTES, BlockCache, Version, fetch, missing
from fs9.providers.proxyfs_infos import at, page_of
from fs9.providers.proxyfs_upload import Upload, condition_of
from fs9.providers.proxyfs_upstream import Calls, Upstreams
from fs9.providers.registry import ProviderContext, read_config
from fs9.resilience.backoff import BackoffPolicy
from fs9.types import (
    ALWAYS,
    Buffer,
    Capability,
    Condition,
    FileInfo,
    FileType,
    FsStats,
    OpenFlags,
    StatChanges,
)
from fs9.wire.codec import CAPABILITY_NAMES, capabilities_from_names
from fs9.wire.cursor import encode_cursor
from fs9.wire.route import PAGE_ENTRIES_MAX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from fs9.client.aio_link import AsyncSource
    from fs9.clock import Clock

T = TypeVar("T")

#: Three attempts of what may be repeated, within a request's own deadline.
_RETRIES = BackoffPolicy(attempts_max=3, delay_first_s=0.1, delay_max_s=1.0, budget_s=10.0)
#: More than the listing of 100,000 names, which older servers send whole. No upstream is to fill
#: the memory of all who are served here.
_ANSWER_BYTES_MAX = 64 * MIB
#: How long a mount waits, when it is made, to hear what the upstream can do. Two servers that
#: mount each other wait for one another here.
_LEARN_S = 1.0

#: What no answer tells; the upstream refuses what it cannot do.
_UNTOLD = Capability.UTIME | Capability.ETAG | Capability.ATOMIC_RENAME
_EVERYTHING = capabilities_from_names([name for name, _ in CAPABILITY_NAMES]) | _UNTOLD


class Config(msgspec.Struct, frozen=True):
    """`upstream` is a server's URL; a path in it is the tenant, `{namespace}` this one's name.
    Times in seconds.

    `cache_bytes` 0: nothing is kept. `cache_fresh_s`: so old may be what is known of a file's
    version when it answers a read; 0 asks the upstream at each.
    """

    upstream: str
    token: str | None = None
    max_hops: Annotated[int, Meta(ge=1, le=1000)] = 10
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    cache_bytes: Annotated[int, Meta(ge=0)] = 16 * MIB
    cache_fresh_s: Annotated[float, Meta(ge=0)] = 1.0


class ProxyFactory:
    """What `fs9.providers.builtin` registers; mounts of one worker share what can be shared."""

    def __init__(self, upstreams: Upstreams | None = None) -> None:
        self._upstreams = upstreams or Upstreams()

    async def create(self, config: Mapping[str, Any], context: ProviderContext) -> ProxyFs:
        """Raises InvalidArgument for a wrong config; an upstream that is down is no error."""
        settings = read_config("proxyfs", Config, config)
        url = settings.upstream.replace("{namespace}", context.namespace)
        link = Settings(
            url,
            timeout_s=settings.timeout_s,
            retries=_RETRIES,
            answer_bytes_max=_ANSWER_BYTES_MAX,
        )
        Settings(url, token=settings.token)  # refuses what no token can be
        upstream = self._upstreams.lend(link, context.addresses, context.pool)
        release = partial(self._upstreams.give_back, upstream)
        try:
            calls = Calls(link, settings.token, upstream, settings.max_hops, context.clock)
            provider = ProxyFs(calls, settings, context.clock, release)
            if not context.trial:
                await provider.learn()
        except BaseException:
            await release()
            raise
        return provider


class ProxyOpen(OpenFile):
    """A handle at the upstream, or an upload.

    `gone`: no path leads to this file any more, as far as we know. `hops` are those of the
    request that opened it. `version`: what reads may be answered with, if anything.
    """

    __slots__ = (
        "__weakref__",
        "ahead",
        "checked_s",
        "condition",
        "epoch",
        "flags",
        "gone",
        "handle",
        "hops",
        "opening",
        "path",
        "upload",
        "version",
    )

    def __init__(self, path: str, flags: OpenFlags, hops: int) -> None:
        self.path = path
        self.flags = flags
        self.hops = hops
        self.condition = ALWAYS
        self.gone = False
        self.handle: ops.Handle | None = None
        self.upload: Upload | None = None
        self.opening = asyncio.Lock()
        self.ahead: ReadAhead | None = None
        self.version: Version | None = None
        self.checked_s = 0.0
        self.epoch = 0


class ProxyFs(BaseProvider):
    name = "proxyfs"
    untasked = True

    def __init__(
        self, calls: Calls, config: Config, clock: Clock, release: Callable[[], Awaitable[None]]
    ) -> None:
        self._calls = calls
        self._clock = clock
        self._release = release
        self._capabilities = _EVERYTHING
        self._cache = BlockCache(config.cache_bytes)
        self._fresh_s = config.cache_fresh_s
        #: Does the upstream say which version it sends? Older ones do not.
        self._versions = True
        #: Grows with every change made through this mount: what was known before is asked again.
        self._epoch = 0
        self._files: WeakSet[ProxyOpen] = WeakSet()

    async def learn(self) -> None:
        """Learn the upstream's capabilities. Until they are known, every operation is tried."""
        with contextlib.suppress(Fs9Error, TimeoutError):
            async with asyncio.timeout(_LEARN_S):
                reply = await self._calls.run(partial(ops.capabilities, "/"))
                self._capabilities = capabilities_from_names(reply.capabilities) | _UNTOLD

    def capabilities(self) -> Capability:
        return self._capabilities

    async def aclose(self) -> None:
        for file in list(self._files):
            if file.upload is not None:
                await file.upload.discard()
        await self._release()

    # -- By path. -------------------------------------------------------------------------------

    async def stat(self, path: str) -> FileInfo:
        return at(path, await self._calls.run(partial(ops.stat, path)))

    async def statfs(self, path: str) -> FsStats:
        return await self._calls.run(partial(ops.statfs, path))

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        with self._changing():
            await self._calls.run(partial(ops.wstat, path, changes, condition))
        if changes.name is not None and changes.symlink_target is None:
            self._moved(path, changes.name)

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        with self._changing():
            await self._calls.run(partial(ops.remove, path, condition))
        self._lost(path)

    async def readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        found: list[FileInfo] = []
        while len(found) < limit:
            wanted = min(limit - len(found), PAGE_ENTRIES_MAX)
            cursor = encode_cursor(after) if after else ""
            entries, more = await self._calls.run(partial(ops.readdir, path, wanted, cursor))
            page = page_of(path, entries, after, limit - len(found))
            found += page
            if not more or not page:
                break
            after = split(page[-1].path)[1]
        return found

    # -- Open files. ----------------------------------------------------------------------------

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[ProxyOpen, FileInfo]:
        file = ProxyOpen(path, flags, self._calls.hops())
        if flags.replace:
            info = await self._begin_upload(file, condition)
        else:
            open_ = partial(ops.open_handle, path, flags, condition)
            if flags.create or flags.truncate:
                with self._changing():
                    file.handle = await self._calls.run(open_)
            else:
                file.epoch, file.checked_s = self._epoch, self._clock.monotonic_s()
                file.handle = await self._calls.run(open_)
            info = at(path, file.handle.info)
            only_reads = flags.read and not flags.write and self._versions
            if only_reads and info.is_file and info.etag and self._cache.takes(info.size):
                file.version = Version(path, info.etag, info.size)
            if flags.read and info.is_file:
                read = partial(self._read_handle, file)
                file.ahead = ReadAhead(read, self._now, info.size, self._fresh_s)
        self._files.add(file)
        return file, info

    async def read(self, file: OpenFile, offset: int, size: int) -> Buffer:
        assert isinstance(file, ProxyOpen)
        if file.upload is not None:
            raise PermissionDenied("file not opened for reading")
        if file.version is not None:
            data = await self._read_version(file, file.version, offset, size)
            if data is not None:
                return data
        if file.ahead is not None:
            return await file.ahead.read(offset, size)
        return await self._read_handle(file, offset, size)

    async def _read_handle(self, file: ProxyOpen, offset: int, size: int) -> bytes:
        data = await self._with_handle(file, lambda handle: ops.read(handle, offset, size))
        if len(data) > size:
            raise Remote(f"{self._calls.url}: {len(data)} bytes of at most {size}")
        return data

    def _now(self) -> tuple[int, float]:
        return self._epoch, self._clock.monotonic_s()

    async def write(self, file: OpenFile, offset: int, data: Buffer) -> int:
        assert isinstance(file, ProxyOpen)
        if file.upload is not None:
            return await file.upload.write(offset, data)
        with self._changing():
            made = await self._with_handle(file, lambda handle: ops.write(handle, offset, data))
        if not 0 <= made <= len(data):
            raise Remote(f"{self._calls.url}: {made} bytes written of {len(data)}")
        # Older servers do not count the newline at the end of a message, which they took whole.
        return len(data) if made == len(data) - 1 and data[-1] == ord("\n") else made

    async def close(
        self, file: OpenFile, *, sync: bool = False, discard: bool = False
    ) -> FileInfo | None:
        assert isinstance(file, ProxyOpen)
        self._files.discard(file)
        if file.ahead is not None:
            file.ahead.close()
            file.ahead = None  # it knows the file
        if file.upload is None:
            # Nobody is to wait once more for one that is silent; it lets idle handles go itself.
            if not (discard and self._calls.unanswered):
                await self._close_handle(file, sync)
            return None
        if discard:
            await file.upload.discard()
            return None
        return await self._commit(file, file.upload)

    async def _close_handle(self, file: ProxyOpen, sync: bool) -> None:
        """What the upstream has let go needs no closing; its bytes may still need the disk."""
        try:
            if sync:
                await self._with_handle(file, partial(ops.close, sync=True))
            else:
                assert file.handle is not None
                await self._calls.run(partial(ops.close, file.handle), hops=file.hops)
        except InvalidHandle:
            if sync and not file.gone:
                raise

    async def _with_handle(
        self, file: ProxyOpen, make: Callable[[ops.Handle], ops.Operation[T]]
    ) -> T:
        """Run with the file's handle; one that has expired is opened again, and the call made."""
        handle = file.handle
        assert handle is not None
        try:
            return await self._calls.run(partial(make, handle), hops=file.hops)
        except InvalidHandle as error:
            if file.gone:
                raise InvalidHandle(f"{file.path} was removed, and its handle expired") from error
        async with file.opening:
            current = file.handle
            if current is None or current is handle:  # nobody else has done it meanwhile
                current = file.handle = await self._reopen(file)
        return await self._calls.run(partial(make, current), hops=file.hops)

    async def _reopen(self, file: ProxyOpen) -> ops.Handle:
        """Open the file again, by its current path, without creating or truncating it."""
        flags = msgspec.structs.replace(file.flags, create=False, truncate=False, exclusive=False)
        open_ = partial(ops.open_handle, file.path, flags)
        return await self._calls.run(open_, hops=file.hops)

    # -- Replacing. -----------------------------------------------------------------------------

    async def _begin_upload(self, file: ProxyOpen, condition: Condition) -> FileInfo:
        path, flags = file.path, file.flags
        if flags.read:
            raise InvalidArgument("a file that is replaced over HTTP cannot be read before its end")
        there = await self._there(path, flags)
        if not condition.holds(None if there is None else there.etag):
            raise PreconditionFailed(path)
        file.condition = condition_of(condition, flags)
        send = partial(self._send, path, file.condition)
        file.upload = Upload(send)
        await file.upload.begin()
        mode = 0o644 if there is None else there.mode
        now_ns = self._clock.now_ns()
        return FileInfo(path, 0, FileType.REGULAR, mode, 0, 0, now_ns, now_ns, now_ns)

    async def _send(self, path: str, condition: Condition, source: AsyncSource) -> ops.Uploaded:
        return await self._calls.run(partial(ops.upload, path, None, condition), source)

    async def _there(self, path: str, flags: OpenFlags) -> FileInfo | None:
        """The info of the file to be replaced. Raises the error that an upload would get."""
        try:
            there = await self.stat(path)
        except NotFound:
            parent = split(path)[0]
            try:
                above = await self.stat(parent)
            except NotFound:
                raise NotFound(path) from None
            if not above.is_dir:
                raise NotDirectory(path) from None
            if not flags.create:
                raise
            return None
        if flags.create and flags.exclusive:
            raise AlreadyExists(path)
        if there.is_dir:
            raise IsDirectory(path)
        if there.is_symlink:
            raise InvalidArgument("cannot write a symlink")
        return there

    async def _commit(self, file: ProxyOpen, upload: Upload) -> FileInfo:
        flags, path = file.flags, file.path
        with self._changing():
            try:
                done = await upload.commit()
            except PreconditionFailed:
                # The condition may be ours, for flags that an upload does not have.
                if flags.create and flags.exclusive:
                    raise AlreadyExists(path) from None
                if not flags.create and not await self._exists(path):
                    raise NotFound(path) from None
                raise
        self._lost(path)
        try:
            return await self.stat(path)
        except Fs9Error:
            # It was swapped in; that nobody can be asked about it now does not undo that.
            size, now_ns, regular = done.bytes_written, self._clock.now_ns(), FileType.REGULAR
            return FileInfo(path, size, regular, 0o644, 0, 0, now_ns, now_ns, now_ns, done.etag)

    async def _exists(self, path: str) -> bool:
        return await self._calls.run(partial(ops.find, path)) is not None

    # -- Reading what was read before. ----------------------------------------------------------

    async def _read_version(
        self, file: ProxyOpen, version: Version, offset: int, size: int
    ) -> bytes | None:
        """The bytes, if the file still has the version that it was opened with; else None."""
        data = None
        if await self._is_current(file, version):
            data = await self._cached(file, version, offset, min(size, version.size - offset))
        if data is None:
            file.version = None  # from now on by its handle
        return data

    async def _is_current(self, file: ProxyOpen, version: Version) -> bool:
        epoch, now_s = self._epoch, self._clock.monotonic_s()
        if file.epoch == epoch and now_s - file.checked_s < self._fresh_s:
            return True
        if file.gone or file.path != version.path:
            return False
        found = await self._calls.run(partial(ops.find, version.path), hops=file.hops)
        if found is None or found.etag != version.etag:
            return False
        file.epoch, file.checked_s = epoch, now_s
        return True

    async def _cached(
        self, file: ProxyOpen, version: Version, offset: int, size: int
    ) -> bytes | None:
        if size <= 0:
            return b""
        first, last = offset // BLOCK_BYTES, (offset + size - 1) // BLOCK_BYTES
        absent = missing(self._cache, version, first, last)
        start, data = first * BLOCK_BYTES, b""
        if absent is not None:
            begin = absent[0] * BLOCK_BYTES
            length = min((absent[1] + 1) * BLOCK_BYTES, version.size) - begin
            fetched = await self._fetch(file, version, begin, length)
            if fetched is None:
                return None
            before = [self._cache.get(version, number) for number in range(first, absent[0])]
            after = [self._cache.get(version, number) for number in range(absent[1] + 1, last + 1)]
            self._cache.put(version, begin, fetched)
            parts = [*before, fetched, *after]
        else:
            parts = [self._cache.get(version, number) for number in range(first, last + 1)]
        if None in parts:  # dropped while the others were fetched
            return await self._fetch(file, version, offset, size)
        data = b"".join(part for part in parts if part is not None)
        return data[offset - start : offset - start + size]

    async def _fetch(
        self, file: ProxyOpen, version: Version, offset: int, length: int
    ) -> bytes | None:
        try:
            return await self._calls.run(partial(fetch, version, offset, length), hops=file.hops)
        except NotSupported:
            self._versions = False
            return None
        except (PreconditionFailed, NotFound, NotDirectory, IsDirectory, InvalidArgument):
            return None

    # -- What this mount knows of its open files. -----------------------------------------------

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Around a change: whatever its result, nothing cached before is used after it."""
        try:
            yield
        finally:
            self._epoch += 1

    def _moved(self, old: str, new: str) -> None:
        if old == new:
            return
        self._lost(new)
        for file in self._files:
            if file.path == old:
                file.path = new
            elif file.path.startswith(old + "/"):
                file.path = new + file.path[len(old) :]

    def _lost(self, path: str) -> None:
        """Note that files open at `path` have no name any more."""
        for file in self._files:
            if file.path == path and file.upload is None:
                file.gone = True
