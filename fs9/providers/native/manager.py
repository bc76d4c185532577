"""Which plugins there are: names, the files behind them, and who uses them.

Three sources: files in the configured directories (named by themselves), the settings' own list,
and what administrators load while the server runs. The last is kept in `plugins.json` in the
data directory, and read anew when it has changed, so that all workers of a fleet know the same.
Nothing is loaded that is not below a configured directory or in the settings; by default there
is neither.

A library runs code when it is opened. So it is looked at in a process of its own, always.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import math
import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fs9.errors import (
    AlreadyExists,
    BackendUnavailable,
    Conflict,
    Fs9Error,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Transient,
)
from fs9.providers.native.process import PluginProcess
from fs9.providers.native.provider import NativeFs, create

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from fs9.provider import Provider
    from fs9.providers.registry import Factory, ProviderContext
    from fs9.resources import Resources
    from fs9.types import PluginSpec

log = logging.getLogger(__name__)

_EXTENSIONS = (".so", ".dylib", ".dll")
#: Files that are looked at together, each in a process.
_LOOKED_AT_MAX = 4
#: A file whose process ended or hung is looked at again: the host may have been too busy.
_LOOK_AGAIN_S = 60.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class _Kept(msgspec.Struct, frozen=True):
    """`plugins.json`: what was loaded (name -> path), and what was unloaded of the settings."""

    loaded: dict[str, str] = {}
    unloaded: tuple[str, ...] = ()


class _Seen(NamedTuple):
    """What came of looking at a file: the plugin's name, or None; it holds until then."""

    signature: tuple[int, ...]
    name: str | None
    until_s: float


class PluginManager:
    """The plugins of one server, as one worker knows them. Belongs to the event loop."""

    def __init__(
        self,
        directories: Sequence[Path],
        preload: Sequence[PluginSpec],
        *,
        taken: Collection[str],
        resources: Resources,
    ) -> None:
        """`taken`: names of built-in providers, which no plugin can have."""
        self._directories = tuple(directories)
        self._preload = tuple(preload)
        self._taken = frozenset(taken)
        self._file = resources.data_dir / "plugins.json"
        self._uses = resources.data_dir / "run" / "plugins"
        self._limits = resources.limits
        self._clock = resources.clock
        self._pool = resources.pool
        self._seen: dict[Path, _Seen] = {}
        #: Files that are left out for their names, and the log says so: once.
        self._left_out: set[tuple[Path, str]] = set()
        self._kept = _Kept()
        self._kept_signature: tuple[int, ...] | None = None

    # -- looking --------------------------------------------------------------------------------

    async def names(self) -> list[str]:
        """The names of all plugins, sorted."""
        return sorted(await self._known())

    async def find(self, name: str) -> Factory | None:
        """How to make a mount of the plugin; None: there is none of this name."""
        path = await self._path(name)
        return None if path is None else partial(self._create, name)

    async def _path(self, name: str) -> Path | None:
        kept = await self._read_kept()
        if name in kept.loaded:
            return Path(kept.loaded[name])
        if name in kept.unloaded or name in self._taken:
            return None
        for spec in self._preload:
            if spec.name == name:
                return spec.path
        return (await self._known()).get(name) if self._directories else None

    async def _known(self) -> dict[str, Path]:
        kept = await self._read_kept()
        known: dict[str, Path] = {}
        paths = await self._pool.run(self._libraries)
        # Together: one that hangs at its start holds up the answer once, not once for each.
        for path, name in zip(paths, await self._names_of(paths), strict=True):
            if name in self._taken:
                self._leave_out(path, name, "a provider of the server")
            elif name is not None and known.setdefault(name, path) != path:
                self._leave_out(path, name, str(known[name]))
        known |= {spec.name: spec.path for spec in self._preload}
        known = {name: path for name, path in known.items() if name not in kept.unloaded}
        known |= {name: Path(path) for name, path in kept.loaded.items()}
        return {name: path for name, path in known.items() if name not in self._taken}

    def _leave_out(self, path: Path, name: str, other: str) -> None:
        if (path, name) not in self._left_out:
            self._left_out.add((path, name))
            log.warning("plugin %s: %s is left out, %s has the name", name, path, other)

    def _libraries(self) -> list[Path]:
        """Files in the configured directories that may be plugins; not those below them."""
        found: list[Path] = []
        for directory in self._directories:
            try:
                entries = sorted(directory.iterdir())
            except OSError as error:
                raise BackendUnavailable(f"plugins: {directory}: {error.strerror}") from None
            found += [entry for entry in entries if entry.suffix in _EXTENSIONS and entry.is_file()]
        return found

    async def _names_of(self, paths: Sequence[Path]) -> list[str | None]:
        slots = asyncio.Semaphore(_LOOKED_AT_MAX)

        async def look(path: Path) -> str | None:
            async with slots:
                return await self._name_of(path)

        return await asyncio.gather(*map(look, paths))

    async def _name_of(self, path: Path) -> str | None:
        """What the plugin calls itself; None: it is none. A file is looked at once."""
        signature = _signature(path)
        seen = self._seen.get(path)
        now_s = self._clock.monotonic_s()
        if seen is not None and seen.signature == signature and now_s < seen.until_s:
            return seen.name
        until_s = math.inf
        try:
            name: str | None = await self._inspect(path)
            _check_name(name or "")
        except Fs9Error as error:
            if isinstance(error, BackendUnavailable):
                until_s = self._clock.monotonic_s() + _LOOK_AGAIN_S
            if seen is None or seen.signature != signature:
                log.warning("%s is left out: %s", path, error)
            name = None
        self._seen[path] = _Seen(signature, name, until_s)
        return name

    async def _inspect(self, path: Path) -> str:
        """Load the file in a process of its own, and say what the plugin calls itself.

        Raises InvalidArgument: it is no plugin, BackendUnavailable: the process ended or hung.
        """
        process = PluginProcess(
            path.name,
            path,
            None,
            clock=self._clock,
            pool=self._pool,
            timeout_s=self._limits.plugin_call_timeout_s,
            threads=1,
            file_bytes_max=self._limits.plugin_file_bytes_max,
        )
        try:
            return (await process.inspect()).name
        except BackendUnavailable:
            raise BackendUnavailable(f"{path} crashes or hangs when it is loaded") from None

    async def _inspect_now(self, path: Path) -> None:
        """For who waits for the answer: raises InvalidArgument in any case."""
        try:
            await self._inspect(path)
        except BackendUnavailable as error:
            raise InvalidArgument(error.detail) from None

    async def check(self) -> None:
        """Look at what the settings name. Raises Fs9Error with what is wrong."""
        await self._pool.run(self._libraries)
        names = set(self._taken)
        for spec in self._preload:
            _check_name(spec.name)
            if spec.name in names:
                raise AlreadyExists(f"provider {spec.name}")
            names.add(spec.name)
            await self._inspect_now(spec.path)

    # -- mounting -------------------------------------------------------------------------------

    async def _create(
        self, name: str, config: Mapping[str, Any], context: ProviderContext
    ) -> Provider:
        use = await self._pool.run(self._take, name, fcntl.LOCK_SH)
        if use is None:
            raise Transient(f"plugin {name} is being unloaded")
        try:
            path = await self._path(name)  # again: now nobody can unload it
            if path is None:
                raise NotFound(f"provider {name}")
            provider: NativeFs = await create(
                name, path, config, context, on_close=partial(os.close, use)
            )
        except BaseException:
            os.close(use)
            raise
        return provider

    def _take(self, name: str, how: int) -> int | None:
        """Lock the plugin: shared by each mount, whatever the worker; exclusive to unload it."""
        self._uses.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._uses / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    # -- changes while the server runs ----------------------------------------------------------

    async def load(self, name: str, path: str) -> None:
        """Make the library known by the name, in all workers, also after a restart.

        Raises InvalidArgument (a name that cannot be, a file that is no plugin), NotFound (no
        such file), PermissionDenied (not below a configured directory), AlreadyExists.
        """
        _check_name(name)
        place = await self._pool.run(self._place, path)
        if name in self._taken or name in await self._known():
            raise AlreadyExists(f"provider {name}")
        await self._inspect_now(place)

        def add(kept: _Kept) -> _Kept:
            if name in kept.loaded:
                raise AlreadyExists(f"provider {name}")
            unloaded = tuple(other for other in kept.unloaded if other != name)
            return _Kept(kept.loaded | {name: str(place)}, unloaded)

        await self._pool.run(self._change_kept, add)

    def _place(self, path: str) -> Path:
        """The file, links resolved; a relative path is sought in the configured directories."""
        if "\0" in path or not path:
            raise InvalidArgument("a plugin needs the path of a file")
        roots = [directory.resolve() for directory in self._directories]
        for root in roots:
            place = (root / path).resolve()
            if place.is_relative_to(root) and place.is_file():
                return place
        if not any(Path(root / path).resolve().is_relative_to(root) for root in roots):
            raise PermissionDenied("plugins are loaded from the directories of the settings alone")
        raise NotFound(path)

    async def unload(self, name: str) -> None:
        """Forget the plugin, in all workers. Raises NotFound, Conflict: it is mounted."""
        if name not in await self._known():
            raise NotFound(f"plugin {name}")
        use = await self._pool.run(self._take, name, fcntl.LOCK_EX)
        if use is None:
            raise Conflict(f"plugin {name} is in use")

        def forget(kept: _Kept) -> _Kept:
            loaded = {other: path for other, path in kept.loaded.items() if other != name}
            return _Kept(loaded, tuple(sorted({*kept.unloaded, name})))

        try:
            await self._pool.run(self._change_kept, forget)
        finally:
            os.close(use)

    async def _read_kept(self) -> _Kept:
        signature = _signature(self._file)
        if signature != self._kept_signature:
            self._kept = await self._pool.run(_decoded, self._file)
            self._kept_signature = signature
        return self._kept

    def _change_kept(self, change: Callable[[_Kept], _Kept]) -> None:
        """Read, change and replace the file, alone among all workers."""
        self._uses.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self._uses / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            changed = change(_decoded(self._file))
            fresh = self._file.with_suffix(".new")
            with open(fresh, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(changed)))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._file)


def _decoded(path: Path) -> _Kept:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kept)
    except FileNotFoundError:
        return _Kept()
    except msgspec.MsgspecError as error:
        raise BackendUnavailable(f"{path} cannot be read: {error}") from None


def _signature(path: Path) -> tuple[int, ...]:
    """Another one when the file was changed or replaced."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name!r} cannot be a plugin's name: letters, digits, `_`, `-`, `.`; 64 at most"
        )
