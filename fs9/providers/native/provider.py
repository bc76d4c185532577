"""A mount of a native plugin, as a provider.

The rules of providers are enforced beside the plugin (`tree`); this module makes the requests, and
tells living handles from those of a process that is gone.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from fs9.errors import Fs9Error, InvalidArgument, InvalidHandle
from fs9.provider import BaseProvider, OpenFile
from fs9.providers.native import frames
from fs9.providers.native.inline import InlineCalls
from fs9.providers.native.process import PluginProcess
from fs9.types import (
    ALWAYS,
    Buffer,
    Capability,
    Condition,
    FileInfo,
    FsStats,
    OpenFlags,
    StatChanges,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fs9.provider import Departures
    from fs9.providers.registry import ProviderContext

log = logging.getLogger(__name__)

#: The key of a mount's config that is ours; all others are the plugin's.
ISOLATION = "isolation"
#: What the interface cannot say, whatever a plugin claims: versions, links, attributes.
_UNSPEAKABLE = Capability.ETAG | Capability.VERSIONING | Capability.HARDLINK | Capability.XATTR
_KNOWN = sum(Capability)


class Calls(Protocol):
    """Calls to an instance of a plugin, in this process or another."""

    @property
    def generation(self) -> int: ...

    async def start(self) -> frames.Ready: ...

    async def call(
        self, request: frames.Request, data: Buffer = b""
    ) -> tuple[frames.Answer, Buffer]: ...

    async def aclose(self) -> None: ...


class NativeOpen(OpenFile):
    """An open file of one process of the plugin."""

    __slots__ = ("generation", "handle")

    def __init__(self, handle: int, generation: int) -> None:
        self.handle = handle
        self.generation = generation


async def create(
    name: str,
    path: Path,
    config: Mapping[str, Any],
    context: ProviderContext,
    on_close: Callable[[], None],
) -> NativeFs:
    """Start the plugin for a mount; `on_close` is called when it is over.

    Raises InvalidArgument when the file is no plugin or the plugin does not accept the config,
    BackendUnavailable when it crashes at its start.
    """
    isolation = _isolation(config)
    limits = context.limits
    text = plugin_config(config, context.storage)
    calls: Calls
    if isolation == "inline":
        calls = InlineCalls(
            name,
            path,
            text,
            timeout_s=limits.plugin_call_timeout_s,
            threads=limits.plugin_threads_max,
            file_bytes_max=limits.plugin_file_bytes_max,
        )
    else:
        calls = PluginProcess(
            name,
            path,
            text,
            clock=context.clock,
            pool=context.pool,
            timeout_s=limits.plugin_call_timeout_s,
            threads=limits.plugin_threads_max,
            file_bytes_max=limits.plugin_file_bytes_max,
        )
    ready = await calls.start()
    return NativeFs(name, calls, ready.capabilities, on_close)


def _isolation(config: Mapping[str, Any]) -> Literal["process", "inline"]:
    match config.get(ISOLATION, "process"):
        case "process":
            return "process"
        case "inline":
            return "inline"
        case other:
            raise InvalidArgument(f"isolation is `process` or `inline`, not {other!r}")


def plugin_config(config: Mapping[str, Any], storage: str) -> bytes:
    """The JSON text for the plugin: the mount's keys, and the namespace's storage as `ns`."""
    own = {key: value for key, value in config.items() if key != ISOLATION}
    return msgspec.json.encode(own | {"ns": storage})


class NativeFs(BaseProvider):
    """A mount of a plugin. Volatile: plugins mostly keep their files in memory."""

    volatile = True

    def __init__(
        self, name: str, calls: Calls, capabilities: int, on_close: Callable[[], None]
    ) -> None:
        self.name = name
        self.calls = calls
        self.untasked = isinstance(calls, PluginProcess)
        self._call = calls.call
        self._capabilities = Capability(capabilities & _KNOWN & ~_UNSPEAKABLE)
        self._on_close = on_close

    def capabilities(self) -> Capability:
        return self._capabilities

    async def stat(self, path: str) -> FileInfo:
        answer, _ = await self._call(frames.Stat(_checked(path)))
        assert isinstance(answer, frames.Found)
        return answer.info

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        for text in (changes.name, changes.symlink_target):
            if text is not None:
                _checked(text)
        await self._call(frames.Wstat(_checked(path), changes, condition))

    async def statfs(self, path: str) -> FsStats:
        answer, _ = await self._call(frames.Statfs(_checked(path)))
        assert isinstance(answer, frames.Space)
        return answer.stats

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[NativeOpen, FileInfo]:
        opening = asyncio.ensure_future(self._call(frames.Open(_checked(path), flags, condition)))
        try:
            answer, _ = await asyncio.shield(opening)
        except asyncio.CancelledError:
            await self._close_unclaimed(opening)
            raise
        assert isinstance(answer, frames.Opened)
        return NativeOpen(answer.handle, self.calls.generation), answer.info

    async def _close_unclaimed(self, opening: asyncio.Future[tuple[frames.Answer, Buffer]]) -> None:
        """A caller that went away has not the handle; without it nobody would close the file."""
        try:
            answer, _ = await opening
            assert isinstance(answer, frames.Opened)
            await self._call(frames.Close(answer.handle, sync=False, discard=True))
        except Fs9Error as error:
            log.debug("plugin %s: closing what nobody waits for: %s", self.name, error)

    async def read(self, file: OpenFile, offset: int, size: int) -> Buffer:
        _, data = await self._call(frames.Read(self._handle(file), offset, size))
        return data

    async def write(self, file: OpenFile, offset: int, data: Buffer) -> int:
        answer, _ = await self._call(frames.Write(self._handle(file), offset), data)
        assert isinstance(answer, frames.Count)
        return answer.written

    async def close(
        self, file: OpenFile, *, sync: bool = False, discard: bool = False
    ) -> FileInfo | None:
        answer, _ = await self._call(frames.Close(self._handle(file), sync, discard))
        return answer.info if isinstance(answer, frames.Found) else None

    async def readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        answer, _ = await self._call(frames.Readdir(_checked(path), after, limit))
        assert isinstance(answer, frames.Listed)
        if answer.unreadable:
            log.warning("plugin %s: %s: %d names are not UTF-8", self.name, path, answer.unreadable)
        return answer.entries

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        await self._call(frames.Remove(_checked(path), condition))

    def tell_departures(self, to: Departures) -> None:
        """See `fs9.provider.Departing`: a process that dies takes its files with it."""
        if isinstance(self.calls, PluginProcess):
            self.calls.on_death = to.lost

    async def aclose(self) -> None:
        try:
            await self.calls.aclose()
        finally:
            self._on_close()

    def _handle(self, file: OpenFile) -> int:
        assert isinstance(file, NativeOpen)
        if file.generation != self.calls.generation:
            raise InvalidHandle("the plugin was started again, and its files were closed")
        return file.handle


def _checked(path: str) -> str:
    """The path. Raises InvalidArgument: what C would cut or what is no Unicode."""
    if "\0" in path:
        raise InvalidArgument("a path cannot contain a NUL character")
    if not path.isascii():
        try:
            path.encode()
        except UnicodeEncodeError:
            raise InvalidArgument("a path must be valid Unicode") from None
    return path
