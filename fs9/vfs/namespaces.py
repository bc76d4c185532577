"""The namespaces of one worker: loaded at their first use, unloaded when idle.

    Namespaces.find(name) ── record of the meta store ── mounts built by the registry ──┐
                                                          Namespace.attach(principal) ──┴─> Session

All of it belongs to the event loop of the worker that owns the namespaces: no locks. A loaded
namespace is found by one dict lookup.

When the record of a namespace has changed (`changed`), it is read again before anything more is
answered: until then the namespace is `doubtful`, and requests wait in `find`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from fs9.errors import NO_ACCESS, NOT_ACTIVE, Forbidden, Fs9Error, NotFound, OwnerUnavailable
from fs9.observe.audit_trails import AuditTrails, MemoryEvents
from fs9.observe.metrics import LOCK_WAITS, NAMESPACE_LOADS
from fs9.quota import NO_BOUNDS, NamespaceQuota, Quota, Refusals
from fs9.vfs.building import Builder, Loading, begin_watch, close_providers, outcome, record_of
from fs9.vfs.handles import background, close_files
from fs9.vfs.locks import NO_LOCKS
from fs9.vfs.mounting import Mounting
from fs9.vfs.namespace import Namespace
from fs9.vfs.ownership import ALONE, Ownership
from fs9.vfs.watch import WatchStats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fs9.observe.metrics import Metrics
    from fs9.principal import Principal
    from fs9.resources import Resources
    from fs9.types import MountSpec
    from fs9.vfs.records import ProviderRegistry, Record, Records

log = logging.getLogger(__name__)

_MOVING = "the namespace moves to another worker"


class Namespaces:
    """The namespaces of one worker process."""

    def __init__(
        self,
        *,
        store: Records,
        registry: ProviderRegistry,
        template: Sequence[MountSpec],
        resources: Resources,
        ownership: Ownership = ALONE,
        metrics: Metrics | None = None,
        quota: NamespaceQuota = NO_BOUNDS,
        trails: AuditTrails | None = None,
    ) -> None:
        """`template`: the mounts of a namespace that is created at its first use. `quota`: the
        bounds of those that have none of their own.
        """
        limits, clock, pool = resources.limits, resources.clock, resources.pool
        self._store = store
        self._builder = Builder(registry, resources)
        self._quota_defaults = quota
        #: Refusals by quotas, of all namespaces that were ever loaded.
        self.refusals = Refusals()
        self.watching = WatchStats()
        #: Called with a namespace's own rate of requests (None: it has none).
        self.on_request_rate: Callable[[str, int | None], None] | None = None
        self._template = tuple(template)
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._loaded: dict[str, Namespace] = {}
        self._loading: dict[str, Loading] = {}
        #: Unloads in progress: a namespace is loaded again only after its providers let go.
        self._closing: dict[str, asyncio.Task[None]] = {}
        self.locks = ownership.locks
        self._journal = ownership.journal
        self._watch_files = ownership.watch_files
        #: Namespaces whose changed records are being read.
        self._reading: dict[str, asyncio.Task[None]] = {}
        #: Called with a namespace that is no longer active, to cut what is in progress for it.
        self.on_end: Callable[[str], None] = lambda name: None
        #: Was the credential revoked? Then handles of an earlier owner are not taken over.
        self.revoked: Callable[[Principal], bool] = lambda by: False
        self._trails = trails or AuditTrails(MemoryEvents(limits.events_max), limits, clock, pool)
        #: Loads that wait for the lock, and namespaces that go to another owner.
        self._acquiring: dict[str, asyncio.Task[None]] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._loaded)

    @property
    def open_handles(self) -> int:
        """Open handles of all namespaces in memory."""
        return sum(len(namespace.handles) for namespace in self._loaded.values())

    def end_followers(self, name: str | None = None) -> None:
        """End the followers of the namespace, or of all: it is given up, or the worker leaves."""
        for namespace in list(self._loaded.values()):
            if name is None or namespace.name == name:
                namespace.followers.end()

    def names(self) -> list[str]:
        """The namespaces in memory, and those that are being loaded."""
        return [*self._loaded, *self._loading]

    def elsewhere(self, name: str) -> bool:
        """Does an earlier owner, another worker or this one, still hold the namespace?"""
        ours = name in self._loaded or name in self._loading or name in self._closing
        return not ours and (name in self._leaving or self.locks.busy(name))

    def loaded(self, name: str) -> Namespace | None:
        """The namespace when it is in memory."""
        return self._loaded.get(name)

    async def find(self, name: str, *, create: bool) -> Namespace:
        """The namespace, loaded now when it is not; parallel callers share one load.

        With `create` an unknown one is created from the template. Raises Forbidden when it is
        unknown or not active, OwnerUnavailable while another owner has it or it is given up,
        and what its store or providers raise. No failure is remembered.
        """
        while True:
            namespace = self._loaded.get(name)
            if namespace is not None:
                if not namespace.doubtful:
                    return namespace
                await self._wait_read(name)
                continue
            if name in self._leaving:
                raise OwnerUnavailable(_MOVING)
            loading = self._loading.get(name) or self._start_loading(name, create)
            try:
                # A cancelled caller must not cancel the load under the others.
                return await asyncio.shield(loading.task)
            except Forbidden:
                if not create or loading.create:
                    raise

    def _start_loading(self, name: str, create: bool) -> Loading:
        task = background(self._load(name, create))
        since_s = self._clock.monotonic_s()
        loading = self._loading[name] = Loading(task, create)

        def finished(task: asyncio.Task[Namespace]) -> None:
            del self._loading[name]
            ended = outcome(task)  # sees its exception, even if every caller went away
            if self._metrics is not None:
                self._metrics.observe(NAMESPACE_LOADS, self._clock.monotonic_s() - since_s, ended)

        task.add_done_callback(finished)
        return loading

    async def _load(self, name: str, create: bool) -> Namespace:
        closing = self._closing.get(name)
        if closing is not None:
            await self.refuse_inactive(name, create=create)  # at once, not when it is closed
            await closing
        await self._acquire(name)
        try:
            namespace = await self._load_locked(name, create)
        except BaseException:
            self.locks.release(name)
            raise
        namespace.handles.take_of(self.revoked)
        self._loaded[name] = namespace
        return namespace

    async def refuse_inactive(self, name: str, *, create: bool = False) -> None:
        """Raise Forbidden when it is suspended, or unknown and not to be created."""
        try:
            status = (await self._store.namespace(name)).status
        except NotFound:
            if create:
                return
            raise Forbidden(NO_ACCESS) from None
        if status != "active":
            raise Forbidden(NOT_ACTIVE)

    async def _acquire(self, name: str) -> None:
        """Take the lock; `give_up` ends the wait for it."""
        if name in self._leaving:
            raise OwnerUnavailable(_MOVING)
        if self.locks is NO_LOCKS:
            return
        since_s = self._clock.monotonic_s()
        task = self._acquiring[name] = background(self.locks.acquire(name))
        try:
            await asyncio.wait([task])
        finally:
            del self._acquiring[name]
            if self._metrics is not None:
                self._metrics.observe(LOCK_WAITS, self._clock.monotonic_s() - since_s)
        if task.cancelled():
            raise OwnerUnavailable(_MOVING)
        task.result()

    async def _load_locked(self, name: str, create: bool) -> Namespace:
        record = await record_of(self._store, name, self._template, create=create)
        if record.status != "active":
            raise Forbidden(NOT_ACTIVE)
        own = record.quota.or_else(self._quota_defaults)
        quota = Quota(own.bytes_max, own.files_max, self.refusals)
        mounts = await self._builder.table(name, record, quota)
        try:
            journal = await self._journal.load(record.storage or name) if self._journal else None
            trail = await self._trails.load(name, record.storage)
        except BaseException:
            await close_providers([mount.provider for mount in mounts])
            raise
        namespace = Namespace(
            name, mounts, self._limits, self._clock, journal, self._metrics, quota, trail
        )
        namespace.id = record.id
        namespace.mounting = Mounting(namespace, record, self._builder)
        try:
            namespace.watch.stats = self.watching
            await begin_watch(self._watch_files, namespace, record.mounts, record.storage)
            await self._set_quota(namespace, record.quota)
            await namespace.revival.settle()
            if self._closed:
                raise OwnerUnavailable("the server is stopping")
            if name in self._leaving:
                raise OwnerUnavailable(_MOVING)
        except BaseException:
            await namespace.aclose()
            raise
        return namespace

    async def sweep(self) -> None:
        """Close idle handles, unload idle namespaces. Waits for the closes, within limits."""
        tables = [namespace.handles for namespace in self._loaded.values()]
        # Together, so that a slow provider of one namespace delays no other's.
        await asyncio.gather(*(table.sweep() for table in tables if len(table)))
        for name, namespace in list(self._loaded.items()):
            if namespace.handles.journal is not None:
                namespace.handles.journal.tidy()
            if namespace.doubtful and name not in self._reading:
                self.changed(name)
            elif namespace.idle():
                del self._loaded[name]
                self._unload(name, namespace)
        if self._closing:
            timeout_s = self._limits.handle_close_timeout_s
            await asyncio.wait(list(self._closing.values()), timeout=timeout_s)

    # -- changes of the record ------------------------------------------------------------------

    def changed(self, name: str) -> None:
        """The namespace's record has changed: from now on nobody enters by the old one.

        It is read in the background. A namespace that is not active any more is closed then,
        with its handles, and what is in progress for it is cut.
        """
        namespace = self._loaded.get(name)
        if namespace is not None:
            namespace.doubtful = True
        if namespace is not None or name in self._loading:
            reading = self._reading.get(name)
            self._reading[name] = task = background(self._read_anew(name, reading))
            task.add_done_callback(lambda task: self._read(name, task))

    def _read(self, name: str, task: asyncio.Task[None]) -> None:
        if self._reading.get(name) is task:
            del self._reading[name]
        if not task.cancelled():
            task.exception()  # seen, even if nobody waits

    async def _wait_read(self, name: str) -> None:
        """Wait until a doubtful namespace has been read again; raises what the store raises."""
        reading = self._reading.get(name)
        if reading is None:  # the store did not answer then
            self.changed(name)
            reading = self._reading[name]
        await asyncio.shield(reading)

    async def _read_anew(self, name: str, before: asyncio.Task[None] | None) -> None:
        waited = [before, None if name not in self._loading else self._loading[name].task]
        for task in waited:
            if task is not None:
                await asyncio.wait([task])
        namespace = self._loaded.get(name)
        if namespace is None:
            return
        try:
            record: Record | None = await self._store.namespace(name)
        except NotFound:
            record = None
        except Fs9Error as error:
            log.warning("%s: what changed could not be read: %s", name, error)
            raise
        if self._loaded.get(name) is not namespace:
            return
        if record is None or record.status != "active" or record.id != namespace.id:
            self._end(name, namespace)
            return
        await self._conform(namespace, record)
        if self._reading.get(name) is asyncio.current_task():  # else it changed once more
            namespace.doubtful = False

    async def _conform(self, namespace: Namespace, record: Record) -> None:
        name = namespace.name
        try:
            await self._set_quota(namespace, record.quota)
        except (Fs9Error, OSError) as error:
            log.error("%s: its new quota does not hold yet: %s", name, error)
        assert namespace.mounting is not None
        try:
            if not namespace.mounting.conforms(record):
                await namespace.mounting.conform(lambda: self._store.namespace(name))
        except OwnerUnavailable:  # it is being given up
            return
        except (Fs9Error, OSError) as error:
            log.error("%s: not everything is mounted: %s", name, error)

    def _end(self, name: str, namespace: Namespace) -> None:
        """End everything that is in progress for a namespace that is no longer the same."""
        del self._loaded[name]
        self._unload(name, namespace, for_good=True)
        self.on_end(name)

    async def wait_closed(self, name: str) -> None:
        """Wait until a namespace of this name that was unloaded is closed."""
        for tasks in (self._reading, self._closing):
            if name in tasks:
                await asyncio.wait([tasks[name]])

    # -- mounts ---------------------------------------------------------------------------------

    async def mount(
        self, name: str, spec: MountSpec, by: str, *, create: bool, force: bool
    ) -> bool:
        """Mount it in the namespace, and keep it; False: exactly this is mounted there already.

        With `force`, or while it is empty, the root is replaced. Raises as `find`,
        `Mounting.add` and `Mounting.replace`. A cancelled caller leaves it to go on.
        """
        mounting = await self._mounting(name, create=create)

        async def add() -> None:
            await self._store.add_mount(name, spec, by)

        async def exchange() -> None:
            (old,) = [
                each for each in (await self._store.namespace(name)).mounts if each.path == "/"
            ]
            await self._store.remove_mount(name, "/", by)
            try:
                await add()
            except BaseException:
                await self._store.add_mount(name, old, by)
                raise

        if spec.path == "/" and mounting.has("/"):
            if mounting.has("/", spec):
                return False
            if force or await mounting.root_is_empty():
                await asyncio.shield(background(mounting.replace(spec, exchange)))
                return True
        return await asyncio.shield(background(mounting.add(spec, add)))

    async def unmount(self, name: str, path: str, by: str, *, create: bool, force: bool) -> None:
        """Unmount, and keep that. Raises as `find` and `Mounting.remove`.

        Where the namespace cannot be loaded, perhaps because of this very mount, it is unmounted in
        the metadata alone.
        """

        async def keep() -> None:
            await self._store.remove_mount(name, path, by)

        try:
            mounting = await self._mounting(name, create=create)
        except (Forbidden, OwnerUnavailable):
            raise
        except (Fs9Error, OSError) as error:
            log.warning("%s: %s is unmounted though it cannot be loaded: %s", name, path, error)
            await keep()
            return
        await asyncio.shield(background(mounting.remove(path, keep, force=force)))

    async def _mounting(self, name: str, *, create: bool) -> Mounting:
        mounting = (await self.find(name, create=create)).mounting
        assert mounting is not None
        return mounting

    # -------------------------------------------------------------------------------------------

    async def _set_quota(self, namespace: Namespace, quota: NamespaceQuota) -> None:
        quota = quota.or_else(self._quota_defaults)
        await namespace.set_quota(quota)
        if self.on_request_rate is not None:
            self.on_request_rate(namespace.name, quota.requests_per_second_max)

    def usage(self) -> tuple[int, int]:
        """(bytes, files) of the loaded namespaces that have a quota."""
        quotas = [each.quota for each in self._loaded.values() if each.quota.limited]
        return sum(quota.bytes_used for quota in quotas), sum(quota.files_used for quota in quotas)

    def close_handles_of(self, means: Callable[[Principal], bool]) -> None:
        """Close, in the background, the handles whose opener matches."""
        background(self._close_handles_of(means))

    async def _close_handles_of(self, means: Callable[[Principal], bool]) -> None:
        for namespace in list(self._loaded.values()):
            files = namespace.handles.take_of(means)
            if files:
                await close_files(files, timeout_s=self._limits.handle_close_timeout_s)
            await asyncio.sleep(0)  # a table is looked through at a time

    def _unload(self, name: str, namespace: Namespace, *, for_good: bool = False) -> None:
        """`for_good`: its handles end with it, no later owner revives them."""
        namespace.vfs.in_use.closed = True  # now, not when the task begins
        task = self._closing[name] = background(self._close(name, namespace, for_good))
        task.add_done_callback(lambda _: self._closing.pop(name))

    async def _close(self, name: str, namespace: Namespace, for_good: bool) -> None:
        if for_good:
            await namespace.close_handles()
        await namespace.aclose()
        if namespace.vfs.in_use.running or namespace.vfs.in_use.files:
            background(self._release_later(name, namespace))
        else:
            self.locks.release(name)

    async def _release_later(self, name: str, namespace: Namespace) -> None:
        """Release the lock when the operations left behind are over: they may change files."""
        await namespace.wait_ended()
        self.locks.release(name)

    async def give_up(self, name: str) -> bool:
        """Let another owner have the namespace; was all done within `shutdown_timeout_s`?

        From the call on, new operations raise OwnerUnavailable, those of handles too. What is in
        progress ends first (see `Namespace.hand_over`), then handles are closed synced, then
        providers, then the lock is let go. False: that goes on in the background. A namespace
        that is being loaded is given up as well; one that is not loaded is no error.
        """
        task = self._leaving.get(name)
        if task is None:
            namespace = self._loaded.pop(name, None)
            if namespace is not None:
                namespace.vfs.in_use.closed = True  # now, not when the task begins
                namespace.handles.retire()
            task = self._leaving[name] = background(self._give_up(name, namespace))
            task.add_done_callback(lambda _: self._leaving.pop(name))
        done, _ = await asyncio.wait([task], timeout=self._limits.shutdown_timeout_s)
        if not done:
            log.error("%s: not given up yet, something is still in progress", name)
            return False
        task.result()
        return True

    async def _give_up(self, name: str, namespace: Namespace | None) -> None:
        acquiring = self._acquiring.get(name)
        if acquiring is not None:
            acquiring.cancel()
        loading = self._loading.get(name)
        before = [self._closing.get(name), None if loading is None else loading.task]
        for task in before:  # a load that is not over yet ends with OwnerUnavailable
            if task is not None:
                await asyncio.wait([task])
        if namespace is None:
            return
        await namespace.hand_over()
        self.locks.release(name)

    async def aclose(self) -> None:
        """Close every namespace; no new one is loaded."""
        self._closed = True
        for acquiring in self._acquiring.values():
            acquiring.cancel()
        if self._loading:
            await asyncio.wait([loading.task for loading in self._loading.values()])
        namespaces, self._loaded = self._loaded, {}
        for name, namespace in namespaces.items():
            self._unload(name, namespace)
        if self._closing or self._leaving:
            await asyncio.wait([*self._closing.values(), *self._leaving.values()])
