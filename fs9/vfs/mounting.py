"""Mount and unmount in a namespace that is in use: the mount table is replaced whole.

    add      build the provider ── keep it in the metadata ── new table
    remove   keep it in the metadata ── new table ── handles closed ── the rest ends ── closed
    replace  the old one is closed before the new one is built: both may be of the same storage

Operations end on the table that they began on; a provider is closed after the last of them and
after its last open file. Whatever fails leaves the namespace as it was. One change at a time.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from fs9.errors import (
    AlreadyExists,
    Conflict,
    Fs9Error,
    InvalidArgument,
    NotDirectory,
    NotFound,
    OwnerUnavailable,
    PermissionDenied,
    QuotaExceeded,
)
from fs9.vfs.building import close_providers
from fs9.vfs.departures import tell_departures
from fs9.vfs.handles import background, close_files
from fs9.vfs.inuse import UNLOADING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import TypeAlias

    from fs9.types import MountSpec
    from fs9.vfs.building import Builder
    from fs9.vfs.inuse import Operations
    from fs9.vfs.mounts import Mount
    from fs9.vfs.namespace import Namespace
    from fs9.vfs.records import Record

    #: Keeps a change in the metadata.
    Keep: TypeAlias = Callable[[], Awaitable[object]]

log = logging.getLogger(__name__)

#: Errors of a provider whose configuration names something that does not exist.
_NOT_USABLE = (NotFound, NotDirectory, PermissionDenied)


class Mounting:
    """The mounts of one loaded namespace, and what they were made of."""

    def __init__(self, namespace: Namespace, record: Record, builder: Builder) -> None:
        """`record` is what the namespace was loaded from."""
        self._name = namespace.name
        self._storage = record.storage
        self._quota = namespace.quota
        self._builder = builder
        self._limits = namespace.limits
        self._vfs = namespace.vfs
        self._handles = namespace.handles
        self._watch = namespace.watch
        self._specs = {spec.path: spec for spec in record.mounts}
        self._lock = asyncio.Lock()
        #: Mounts that are not in the table any more, by their path.
        self._closing: dict[str, asyncio.Task[None]] = {}

    @property
    def busy(self) -> bool:
        return self._lock.locked() or bool(self._closing)

    def has(self, path: str, spec: MountSpec | None = None) -> bool:
        """Is something mounted at the path, or exactly this?"""
        found = self._specs.get(path)
        return found is not None if spec is None else found == spec

    async def add(self, spec: MountSpec, keep: Keep) -> bool:
        """Mount it; False: exactly this is mounted there already.

        Raises AlreadyExists, InvalidArgument (the configuration), QuotaExceeded (too many),
        Conflict (an earlier mount at this path is still in use), what `keep` raises, and the
        errors of a backend that is down. Nothing is mounted then.
        """
        async with self._lock:
            self._check_open()
            if self._specs.get(spec.path) == spec:
                return False
            if spec.path in self._specs:
                raise AlreadyExists(spec.path)
            if len(self._specs) >= self._limits.mounts_per_namespace_max:
                raise QuotaExceeded(
                    f"a namespace may have {self._limits.mounts_per_namespace_max} mounts"
                )
            await self._closed_before(spec.path)
            await self._mount(spec, keep)
            return True

    async def replace(self, spec: MountSpec, keep: Keep) -> None:
        """Mount it instead of what is mounted there, whose handles are closed.

        Raises as `add`; NotFound where nothing is mounted; Conflict when a transfer does not end in
        `handle_close_timeout_s`. The old mount is there then.
        """
        async with self._lock:
            self._check_open()
            old, old_spec = self._at(spec.path)
            await self._try(spec)
            retiring = self._take_out(old)
            try:
                async with asyncio.timeout(self._limits.handle_close_timeout_s):
                    await _quiet(old, *retiring)
            except TimeoutError:
                self._swap(old, old_spec)
                raise Conflict(f"something is in progress at {spec.path}; try again") from None
            await close_providers([old.provider])
            try:
                await self._mount(spec, keep)
            except BaseException:
                await self._mount(old_spec, _nothing_to_keep)
                raise

    async def root_is_empty(self) -> bool:
        """Is the root still empty? Then it can be replaced without taking anything from anybody."""
        async with self._lock:
            self._check_open()
            root, _ = self._at("/")
            return not root.use.files and not await root.provider.readdir("/", "", 1)

    async def remove(self, path: str, keep: Keep, *, force: bool) -> None:
        """Unmount. Returns when all is closed, or after `handle_close_timeout_s`.

        Raises NotFound; Conflict unless `force` while files are open and for the root; what `keep`
        raises.
        """
        async with self._lock:
            self._check_open()
            mount, _ = self._at(path)
            if not force:
                self._check_unused(mount)
            await keep()
            await self._remove(mount)

    def _check_unused(self, mount: Mount) -> None:
        if mount.path == "/":
            raise Conflict("the root is unmounted only with force=true")
        count = mount.use.files + len(self._handles.dormant_at(self._vfs.mounts, mount))
        if count:
            raise Conflict(
                f"{count} files are open at {mount.path}: close them, or give force=true and"
                " they are closed"
            )

    def conforms(self, record: Record) -> bool:
        return self._specs == {spec.path: spec for spec in record.mounts}

    async def conform(self, read: Callable[[], Awaitable[Record]]) -> None:
        """Make the mounts equal to those of the record, which somebody else has changed.

        It is read while no change is made here. Raises what that raises, and the first error of
        a mount that cannot be made; the others are.
        """
        async with self._lock:
            self._check_open()
            record = await read()
            wanted = {spec.path: spec for spec in record.mounts}
            for path, spec in list(self._specs.items()):
                if wanted.get(path) != spec:
                    await self._remove(self._at(path)[0])
            failed: Fs9Error | OSError | None = None
            for path, spec in wanted.items():
                if path not in self._specs:
                    try:
                        await self._closed_before(path)
                        await self._mount(spec, _nothing_to_keep)
                    except (Fs9Error, OSError) as error:
                        failed = failed or error
            if failed is not None:
                raise failed

    async def aclose(self) -> None:
        """Close what is mounted; no operation runs or follows."""
        async with self._lock:
            if self._closing:
                timeout_s = self._limits.handle_close_timeout_s
                await asyncio.wait(list(self._closing.values()), timeout=timeout_s)
            await close_providers([mount.provider for mount in self._vfs.mounts])

    # -- Steps, under the lock ------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._vfs.in_use.closed:
            raise OwnerUnavailable(UNLOADING)

    def _at(self, path: str) -> tuple[Mount, MountSpec]:
        mount = self._vfs.mounts.at(path)
        if mount is None:
            raise NotFound(path)
        return mount, self._specs[path]

    async def _closed_before(self, path: str) -> None:
        closing = self._closing.get(path)
        if closing is not None:
            await asyncio.wait([closing], timeout=self._limits.handle_close_timeout_s)
            if not closing.done():
                raise Conflict(f"what was mounted at {path} before is still in use; try again")

    async def _build(self, spec: MountSpec, *, trial: bool = False) -> Mount:
        try:
            return await self._builder.mount(
                self._name, self._storage, spec, self._quota, trial=trial
            )
        except _NOT_USABLE as error:
            raise InvalidArgument(f"cannot be mounted: {error}") from error

    async def _try(self, spec: MountSpec) -> None:
        mount = await self._build(spec, trial=True)
        await mount.provider.aclose()

    async def _mount(self, spec: MountSpec, keep: Keep) -> None:
        mount = await self._build(spec)
        try:
            self._check_open()
            await keep()
            self._check_open()
        except BaseException:
            await close_providers([mount.provider])
            raise
        self._swap(mount, spec)

    def _swap(self, mount: Mount, spec: MountSpec) -> None:
        self._specs[spec.path] = spec
        self._vfs.replace_mounts(self._vfs.mounts.with_mount(mount))
        self._watch.lost(spec.path)
        tell_departures(self._vfs, mount)

    def _take_out(self, mount: Mount) -> tuple[list[Operations], asyncio.Task[None]]:
        """Take it out of the table; returns what must end before it can be closed."""
        table = self._vfs.mounts
        files = self._handles.take_at(mount, self._handles.dormant_at(table, mount))
        del self._specs[mount.path]
        operations = self._vfs.replace_mounts(table.without(mount.path))
        self._watch.lost(mount.path)
        timeout_s = self._limits.handle_close_timeout_s
        return operations, background(close_files(files, timeout_s=timeout_s, sync=True))

    async def _remove(self, mount: Mount) -> None:
        retiring = self._take_out(mount)
        task = self._closing[mount.path] = background(_retire(mount, *retiring))
        task.add_done_callback(lambda _: self._closing.pop(mount.path))
        await asyncio.wait([task], timeout=self._limits.handle_close_timeout_s)


async def _quiet(mount: Mount, operations: Iterable[Operations], closes: Awaitable[None]) -> None:
    """Wait until nothing of the mount is in progress or open."""
    for each in operations:
        await each.wait_none()
    await closes
    await mount.use.wait_none()


async def _retire(mount: Mount, operations: list[Operations], closes: Awaitable[None]) -> None:
    await _quiet(mount, operations, closes)
    await close_providers([mount.provider])


async def _nothing_to_keep() -> None:
    """The metadata has it already."""
