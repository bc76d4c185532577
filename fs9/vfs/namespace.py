"""Namespaces: one tenant's tree each, loaded at its first use, unloaded when idle.

    Namespaces.find(name) ── record of the meta store ── mounts built by the registry ──┐
                                                          Namespace.attach(principal) ──┴─> Session

All of it belongs to the event loop of the worker that owns the namespaces: no locks. A loaded
namespace is found by one dict lookup.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from fs9.errors import Forbidden, Fs9Error, NotFound, OwnerUnavailable
from fs9.observe.audit_trails import AuditTrails, MemoryEvents, memory_trail
from fs9.observe.metrics import LOCK_WAITS, NAMESPACE_LOADS
from fs9.quota import NO_BOUNDS, NamespaceQuota, Quota, Refusals
from fs9.vfs.building import Builder, Loading, close_providers, outcome, record_of, take_over_watch
from fs9.vfs.follow import Followers
from fs9.vfs.handles import HandleTable, background, close_files
from fs9.vfs.locks import NO_LOCKS, NamespaceLocks
from fs9.vfs.revival import Revival
from fs9.vfs.session import Session
from fs9.vfs.vfs import Vfs
from fs9.vfs.watch import WatchLog, WatchStats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fs9.clock import Clock
    from fs9.limits import Limits
    from fs9.observe.audit_trail import AuditTrail
    from fs9.observe.metrics import Metrics
    from fs9.principal import Principal
    from fs9.threads import BlockingPool
    from fs9.types import MountSpec
    from fs9.vfs.handles import File
    from fs9.vfs.journal import HandleJournal, NamespaceJournal
    from fs9.vfs.mounts import MountTable
    from fs9.vfs.records import ProviderRegistry, Records
    from fs9.vfs.watchfile import WatchFiles

log = logging.getLogger(__name__)

_MOVING = "the namespace moves to another worker"


class Namespace:
    """One tenant's tree, handles and audit trail."""

    __slots__ = (
        "_idle_since_s",
        "_total_seen",
        "audit",
        "clock",
        "followers",
        "handles",
        "limits",
        "name",
        "quota",
        "revival",
        "vfs",
        "watch",
    )

    def __init__(
        self,
        name: str,
        mounts: MountTable,
        limits: Limits,
        clock: Clock,
        journal: NamespaceJournal | None = None,
        metrics: Metrics | None = None,
        quota: Quota | None = None,
        audit: AuditTrail | None = None,
    ) -> None:
        self.name = name
        self.quota = quota or Quota()
        self.limits = limits
        self.clock = clock
        self.vfs = Vfs(mounts, clock)
        self.handles = HandleTable(limits, clock, journal)
        self.revival = Revival(self.vfs, self.handles, journal, metrics)
        self.followers = Followers(limits.followers_per_namespace_max)
        self.audit = self.vfs.in_use.audit = audit or memory_trail(name, limits, clock)
        self.watch = self.vfs.in_use.watch = WatchLog(self.handles, limits, clock)
        self._total_seen = -1
        self._idle_since_s = clock.monotonic_s()

    @property
    def closed(self) -> bool:
        return self.vfs.in_use.closed

    def attach(self, principal: Principal) -> Session:
        return Session(principal, self)

    async def set_quota(self, quota: NamespaceQuota) -> None:
        """Let these bounds hold from now on; None: no bound, and the usual number of handles.

        The first bound on bytes or files has what is there counted; changes wait meanwhile.
        """
        await self.quota.limit(quota.bytes_max, quota.files_max)
        self.handles.handles_max = quota.handles_max or self.limits.handles_per_namespace_max

    def idle(self) -> bool:
        """Was nothing open and nothing asked for `handle_ttl_s`, as seen by calls of this?

        Never so when a provider would lose its files.
        """
        in_use = self.vfs.in_use
        now_s = self.clock.monotonic_s()
        opened = in_use.files or len(self.handles) or len(self.followers)
        if in_use.running or opened or in_use.total != self._total_seen:
            self._total_seen, self._idle_since_s = in_use.total, now_s
            return False
        if now_s - self._idle_since_s < self.limits.handle_ttl_s:
            return False
        return not any(mount.provider.volatile for mount in self.vfs.mounts)

    async def aclose(self) -> None:
        """Refuse new operations, end those in progress, close handles synced, then providers.

        Call it once. Takes about `handle_close_timeout_s` for the operations and as long for
        the handles; what takes longer is left behind.
        """
        in_use = self.vfs.in_use
        in_use.closed = True
        self.followers.end()
        if in_use.running:
            try:
                await asyncio.wait_for(in_use.wait_none(), self.limits.handle_close_timeout_s)
            except TimeoutError:
                log.warning("%s: %d operations are left behind", self.name, in_use.running)
        await self.handles.close_all(sync=True)
        await self._close_rest()

    async def hand_over(self) -> None:
        """Refuse new operations, let all that is in progress end, then close everything.

        In progress are operations, files open without a handle (uploads, downloads) and handles
        held or in use; each may go on to its end, however long that takes. Handles are closed
        synced, and stay in the journal. Call it once.
        """
        in_use, handles = self.vfs.in_use, self.handles
        in_use.closed = True
        self.followers.end()
        handles.retire()
        waiting = asyncio.get_running_loop().call_later(
            self.limits.handle_close_timeout_s, self._warn_of_waiting
        )
        try:
            while self._transfers() or in_use.running or self._busy():
                await in_use.wait_until(lambda: not in_use.running and not self._transfers())
                await asyncio.gather(*(file.wait_idle() for file in self._busy()))
            await handles.close_all(sync=True)
            await in_use.wait_until(lambda: not in_use.files)
        finally:
            waiting.cancel()
        await self._close_rest()

    def _transfers(self) -> int:
        """Files that are open without a handle, or being closed."""
        return self.vfs.in_use.files - len(self.handles.retired())

    def _busy(self) -> list[File]:
        return [file for file in self.handles.retired() if file.busy]

    def _warn_of_waiting(self) -> None:
        log.warning(
            "%s: giving it up waits for %d operations, %d transfers, %d handles in use",
            *(self.name, self.vfs.in_use.running, self._transfers(), len(self._busy())),
        )

    async def wait_ended(self) -> None:
        """After `aclose`: until what it left behind is over."""
        in_use = self.vfs.in_use
        await in_use.wait_until(lambda: not in_use.running and not in_use.files)

    async def _close_rest(self) -> None:
        if self.handles.journal is not None:
            await self.handles.journal.aclose()
        await self.audit.aclose()
        self.watch.close()
        await close_providers([mount.provider for mount in self.vfs.mounts])


class Namespaces:
    """The namespaces of one worker process."""

    def __init__(
        self,
        *,
        store: Records,
        registry: ProviderRegistry,
        template: Sequence[MountSpec],
        limits: Limits,
        clock: Clock,
        pool: BlockingPool,
        data_dir: Path,
        locks: NamespaceLocks = NO_LOCKS,
        journal: HandleJournal | None = None,
        metrics: Metrics | None = None,
        quota: NamespaceQuota = NO_BOUNDS,
        watch_files: WatchFiles | None = None,
        trails: AuditTrails | None = None,
    ) -> None:
        """`template`: the mounts of a namespace that is created at its first use. `quota`: the
        bounds of those that have none of their own.

        `locks`, `journal`, `watch_files` are a fleet's: a namespace's lock is held from before its
        record is read until its providers are closed; its handles, and watches, outlive its owner.
        """
        self._store = store
        self._builder = Builder(registry, limits=limits, clock=clock, pool=pool, data_dir=data_dir)
        self._quota_defaults = quota
        #: Refusals of quotas, of all namespaces there were.
        self.refusals = Refusals()
        self.watching = WatchStats()
        #: Who hears of a namespace's rate of requests (None: it has none of its own).
        self.on_request_rate: Callable[[str, int | None], None] | None = None
        self._template = tuple(template)
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._loaded: dict[str, Namespace] = {}
        self._loading: dict[str, Loading] = {}
        #: Unloads in progress: a namespace is loaded again only after its providers let go.
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._locks = locks
        self._journal = journal
        self._watch_files = watch_files
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
        """Those of the namespace, or of all: the worker leaves, or gives the namespace up."""
        for namespace in list(self._loaded.values()):
            if name is None or namespace.name == name:
                namespace.followers.end()

    def names(self) -> list[str]:
        """The namespaces in memory, and those on their way there."""
        return [*self._loaded, *self._loading]

    def elsewhere(self, name: str) -> bool:
        """Has an earlier owner not let go of it yet, be it another worker or this one?"""
        ours = name in self._loaded or name in self._loading or name in self._closing
        return not ours and (name in self._leaving or self._locks.busy(name))

    def loaded(self, name: str) -> Namespace | None:
        """The namespace when it is in memory."""
        return self._loaded.get(name)

    async def find(self, name: str, *, create: bool) -> Namespace:
        """The namespace, loaded now when it is not; parallel callers share one load.

        With `create` an unknown one is created from the template. Raises Forbidden when it is
        unknown or not active, OwnerUnavailable while another owner has it or it is given up,
        and what its store or providers raise. No failure is remembered: the next call tries
        again.
        """
        while True:
            namespace = self._loaded.get(name)
            if namespace is not None:
                return namespace
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
            await closing
        await self._acquire(name)
        try:
            namespace = await self._load_locked(name, create)
        except BaseException:
            self._locks.release(name)
            raise
        self._loaded[name] = namespace
        return namespace

    async def _acquire(self, name: str) -> None:
        """Take the lock; `give_up` ends the wait for it."""
        if name in self._leaving:
            raise OwnerUnavailable(_MOVING)
        if self._locks is NO_LOCKS:
            return
        since_s = self._clock.monotonic_s()
        task = self._acquiring[name] = background(self._locks.acquire(name))
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
            raise Forbidden("Namespace is not active")
        own = record.quota.or_else(self._quota_defaults)
        quota = Quota(own.bytes_max, own.files_max, self.refusals)
        mounts = await self._builder.table(name, record.mounts, quota)
        try:
            journal = None if self._journal is None else await self._journal.load(name)
            trail = await self._trails.load(name)
        except BaseException:
            await close_providers([mount.provider for mount in mounts])
            raise
        namespace = Namespace(
            name, mounts, self._limits, self._clock, journal, self._metrics, quota, trail
        )
        try:
            namespace.watch.stats = self.watching
            if self._watch_files is not None:
                await take_over_watch(self._watch_files, namespace, record.mounts)
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
            if namespace.idle():
                del self._loaded[name]
                self._unload(name, namespace)
        if self._closing:
            timeout_s = self._limits.handle_close_timeout_s
            await asyncio.wait(list(self._closing.values()), timeout=timeout_s)

    def changed(self, name: str) -> None:
        """The namespace's record is another: one that is not active any more is closed."""
        if name in self._loaded or name in self._loading:
            background(self._reread(name))

    async def _reread(self, name: str) -> None:
        loading = self._loading.get(name)
        if loading is not None:
            await asyncio.wait([loading.task])
        try:
            record = await self._store.namespace(name)
        except NotFound:
            record = None
        except Fs9Error as error:
            log.warning("%s: what changed could not be read: %s", name, error)
            return
        namespace = self._loaded.get(name)
        if namespace is None:
            return
        if record is None or record.status != "active":
            del self._loaded[name]
            self._unload(name, namespace)
            return
        try:
            await self._set_quota(namespace, record.quota)
        except (Fs9Error, OSError) as error:
            log.error("%s: its new quota does not hold yet: %s", name, error)

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
        """Close, in the background, the handles that were opened by whom it means."""
        background(self._close_handles_of(means))

    async def _close_handles_of(self, means: Callable[[Principal], bool]) -> None:
        for name, namespace in list(self._loaded.items()):
            files = namespace.handles.take_of(means, name)
            if files:
                await close_files(files, timeout_s=self._limits.handle_close_timeout_s)
            await asyncio.sleep(0)  # a table is looked through at a time

    def _unload(self, name: str, namespace: Namespace) -> None:
        namespace.vfs.in_use.closed = True  # now, not when the task begins
        task = self._closing[name] = background(self._close(name, namespace))
        task.add_done_callback(lambda _: self._closing.pop(name))

    async def _close(self, name: str, namespace: Namespace) -> None:
        await namespace.aclose()
        if namespace.vfs.in_use.running or namespace.vfs.in_use.files:
            background(self._release_later(name, namespace))
        else:
            self._locks.release(name)

    async def _release_later(self, name: str, namespace: Namespace) -> None:
        """What was left behind may still change files."""
        await namespace.wait_ended()
        self._locks.release(name)

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
        self._locks.release(name)

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
