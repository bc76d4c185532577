"""The composition root: from settings to every long-lived object of one worker process.

Everything is opened here, in order, and closed here in the reverse one; nothing else makes
long-lived objects or reads settings. A `Services` belongs to the event loop that opened it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fs9.auth.identity import Identity
from fs9.auth.verifier import REVOKED
from fs9.changes import ChangeFeed
from fs9.clock import SystemClock
from fs9.default_namespace import ensure_default
from fs9.directories import (
    audit_directory,
    handles_directory,
    locks_directory,
    make_data_dir,
    metrics_directory,
    watch_directory,
)
from fs9.errors import NOT_ACTIVE, Forbidden, Fs9Error, Unauthenticated
from fs9.meta.announce import Revoked
from fs9.meta.calls import Hooks, Wire
from fs9.meta.client import MetaClient
from fs9.meta.open import open_store
from fs9.meta.upkeep import Upkeep
from fs9.names import DEFAULT_NAMESPACE, SYSTEM_USER
from fs9.observe.audit_trails import AuditTrails
from fs9.observe.metrics import (
    BLOCKING_CALLS,
    BLOCKING_WAITING,
    HANDLES,
    MESSAGES_LOST,
    META_BREAKER,
    NAMESPACES,
    QUOTA_BYTES,
    QUOTA_FILES,
    QUOTA_REFUSALS,
    TOKEN_HITS,
    TOKEN_MISSES,
    WATCHERS,
    WATCHERS_LOST,
    Metrics,
)
from fs9.observe.readiness import Readiness
from fs9.observe.tracing import Tracing
from fs9.providers import builtin
from fs9.providers.mount_policy import MountPolicy
from fs9.providers.native.manager import PluginManager
from fs9.providers.traced import TracedRegistry
from fs9.quota import NamespaceQuota
from fs9.removal import Removal
from fs9.resilience.limiter import RequestLimiter
from fs9.resources import Resources
from fs9.threads import BlockingPool
from fs9.vfs.handles import background
from fs9.vfs.journal import HandleJournal
from fs9.vfs.locks import FileLocks
from fs9.vfs.namespaces import Namespaces
from fs9.vfs.ownership import ALONE, Ownership
from fs9.vfs.watchfile import WatchFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, Self

    from fs9.auth.validator import Refresher
    from fs9.auth.verifier import Verifier
    from fs9.clock import Clock
    from fs9.config import Settings
    from fs9.limits import Limits
    from fs9.meta.announce import Announce, Change
    from fs9.meta.store import Metadata, Store
    from fs9.principal import Principal
    from fs9.providers.registry import Registry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Process:
    """Which worker this is; the id is eight hexadecimal digits, another one in each process."""

    slot: int
    instance_id: str


@dataclass(frozen=True, slots=True)
class Observers:
    """What records the worker's doings; `tracing` is None when nobody wants traces."""

    metrics: Metrics
    tracing: Tracing | None
    trails: AuditTrails


@dataclass(frozen=True, slots=True)
class Providers:
    """Where mounts get their providers from; the registry asks the manager for plugins."""

    registry: Registry
    plugins: PluginManager


class Services:
    """What a worker serves with.

    `verifier` is None when authentication is off, `tracing` when nobody wants traces.
    """

    def __init__(
        self,
        settings: Settings,
        process: Process,
        resources: Resources,
        store: Store | MetaClient,
        namespaces: Namespaces,
        identity: Identity | None,
        observers: Observers,
        providers: Providers,
    ) -> None:
        self.settings = settings
        self.slot = process.slot
        self.instance_id = process.instance_id
        self.resources = resources
        self.clock = resources.clock
        self.pool = resources.pool
        self.store = store
        self.namespaces = namespaces
        self.verifier = None if identity is None else identity.verifier
        self.key_set = None if identity is None else identity.key_set
        self.metrics = observers.metrics
        self.tracing = observers.tracing
        self.trails = observers.trails
        self.registry = providers.registry
        self.plugins = providers.plugins
        self.mount_policy = MountPolicy.of(settings)
        self.limiter = _limiter(settings)
        self.removal = Removal(
            store,
            providers.registry,
            namespaces.locks,
            namespaces.wait_closed,
            settings.namespace_retention_s,
            resources,
        )
        #: Is a namespace served by this worker? The fleet knows.
        self.owns: Callable[[str], bool] = lambda _: True
        #: Tells every worker of a change, this one too; the fleet knows the others.
        self.announce: Announce = self._announce_here
        #: Ends what is in progress for principals that this is true of.
        self.end_requests: Callable[[Callable[[Principal], bool], Fs9Error], None] = _nothing_ends
        self.changes = ChangeFeed(store, self.apply, namespaces.names)
        self.refresher: Refresher | None = None if identity is None else identity.refresher
        checks = {"meta": self._check_meta, "root": self._check_root}
        self.readiness = Readiness(checks, resources.clock)
        self._stack = AsyncExitStack()
        self._closing: asyncio.Task[None] | None = None

    @property
    def limits(self) -> Limits:
        return self.settings.limits

    @property
    def observed(self) -> bool:
        """Does somebody want to know of each request?"""
        return self.settings.log_access or self.tracing is not None

    def apply(self, change: Change) -> None:
        """Make a change of the metadata true in this worker, however often it is told."""
        if not isinstance(change, Revoked):
            self.namespaces.changed(change.name)
            background(self.trails.store_passing(change.name))
        elif self.verifier is not None:
            means = self.verifier.revoke(change.revocations)
            self.end_requests(means, Unauthenticated(REVOKED))
            self.namespaces.close_handles_of(means)

    def _connect(self) -> None:
        """Have those below call those above."""
        self.namespaces.on_request_rate = self.limiter.set_namespace_rate
        self.namespaces.on_end = self._namespace_ended
        if self.verifier is not None:
            self.namespaces.revoked = self.verifier.revocations.mean
        self.registry.on_lost = partial(_give_up, self.namespaces)
        self.registry.addresses_of = self.mount_policy.addresses_of

    def _namespace_ended(self, name: str) -> None:
        self.end_requests(lambda by: by.namespace == name, Forbidden(NOT_ACTIVE))

    async def _announce_here(self, change: Change) -> bool:
        self.apply(change)
        return True

    def housekeeping(self) -> list[Coroutine[Any, Any, None]]:
        """What a worker that serves runs all the time, as tasks."""
        work = [
            self.changes.follow(self.limits.reconcile_interval_s),
            self.trails.trim_forever(),
            self.removal.forever(lambda name: self.owns(name)),
        ]
        if not isinstance(self.store, MetaClient):  # a service sees to its own
            work.append(Upkeep(self.store, self.clock).forever())
        elif not self.slot:
            work.append(self.store.mount_untouched_default(self.settings.mounts, SYSTEM_USER))
        if self.key_set is not None:
            work.append(self.key_set.read_forever(self.settings.jwks_refresh_s))
        if self.verifier is not None:
            work.append(self._forget_revocations(self.verifier))
        return work

    async def _learn_revocations(self) -> None:
        """Nothing that was revoked is accepted, from the first request on."""
        if self.settings.meta_endpoints:
            await self.changes.try_catch_up()
        else:
            await self.changes.catch_up()

    async def _forget_revocations(self, verifier: Verifier) -> None:
        while True:
            await asyncio.sleep(self.limits.reconcile_interval_s)
            verifier.revocations.forget_expired(self.clock.now_s())

    async def _check_meta(self) -> None:
        await self.store.ping()
        if not self.settings.meta_endpoints:
            await self.store.namespace(DEFAULT_NAMESPACE)

    async def _check_root(self) -> str | None:
        """The root mount of `default`, where that is served: its owner alone may load it."""
        if not self.owns(DEFAULT_NAMESPACE):
            return "another worker serves it"
        namespace = await self.namespaces.find(DEFAULT_NAMESPACE, create=False)
        if self.settings.meta_endpoints and not tuple(namespace.vfs.mounts):
            return "nothing is mounted in it"
        await namespace.vfs.stat("/")
        return None

    @classmethod
    async def open(
        cls,
        settings: Settings,
        *,
        slot: int = 0,
        clock: Clock | None = None,
        fleet: bool = False,
    ) -> Self:
        """Make the data directory and open everything in it.

        `fleet`: other processes serve the same data directory, so that each namespace is locked
        while it is loaded here, and its handles are journaled for its next owner.
        With the metadata kept here the namespace `default` exists from now on, with the mounts
        of the settings; with a metadata service it is as that has it, which is learned later
        when it says nothing for the moment. Raises ConfigError when the settings cannot be
        used here, BackendUnavailable when the metadata cannot; nothing stays open then.
        """
        clock = clock or SystemClock()
        make_data_dir(settings.data_dir)
        async with AsyncExitStack() as stack:
            pool = BlockingPool(settings.limits.blocking_threads_max)
            stack.push_async_callback(pool.aclose)
            resources = Resources(settings.data_dir, settings.limits, clock, pool)
            process = Process(slot, instance_id=secrets.token_hex(4))
            tracing: Tracing | None = None
            if settings.otlp_endpoint:
                endpoint = settings.otlp_endpoint
                tracing = Tracing(endpoint, instance_id=process.instance_id, slot=slot)
                stack.push_async_callback(pool.run, tracing.close)
            store = await _metadata(settings, clock, pool, tracing, fleet)
            stack.push_async_callback(store.aclose)
            metrics = Metrics(metrics_directory(settings.data_dir), slot)
            stack.callback(metrics.close)
            registry = builtin.registry()
            providers = Providers(registry, plugin_manager(settings, registry, resources))
            audit = audit_directory(settings.data_dir) if fleet else None
            trails = AuditTrails(store, settings.limits, clock, pool, audit)
            stack.push_async_callback(trails.aclose)
            namespaces = Namespaces(
                store=store,
                registry=registry if tracing is None else TracedRegistry(registry, tracing),
                template=settings.namespace_template,
                resources=resources,
                ownership=_ownership(settings, pool) if fleet else ALONE,
                metrics=metrics,
                quota=NamespaceQuota(settings.quota_bytes_max, settings.quota_files_max),
                trails=trails,
            )
            stack.push_async_callback(namespaces.aclose)
            identity = Identity(settings, clock, pool, store) if settings.auth_enabled else None
            observers = Observers(metrics, tracing, trails)
            services = cls(
                settings, process, resources, store, namespaces, identity, observers, providers
            )
            _watch(metrics, namespaces, services.verifier, pool, store, registry)
            services._connect()
            stack.push_async_callback(services.readiness.aclose)
            await services._learn_revocations()
            services._stack = stack.pop_all()
        return services

    async def aclose(self) -> None:
        """Close every handle synced, then providers, store and threads, in the time allowed.

        What takes longer than `shutdown_timeout_s` is abandoned; the process should end then.
        """
        self._closing = asyncio.create_task(self._stack.aclose())
        # Not a timeout that cancels: a cancelled call still waits for its blocked thread.
        done, _ = await asyncio.wait({self._closing}, timeout=self.limits.shutdown_timeout_s)
        if not done:
            log.error("closing took longer than %s s; abandoned", self.limits.shutdown_timeout_s)
            return
        self._closing.result()


async def _metadata(
    settings: Settings, clock: Clock, pool: BlockingPool, tracing: Tracing | None, fleet: bool
) -> Store | MetaClient:
    """The store, with `default` in it, or the client of the metadata service."""
    if settings.meta_endpoints:
        hooks = Hooks() if tracing is None else Hooks(tracing.carrier, tracing.call)
        calls = Wire(settings.meta_endpoints, settings.meta_key, settings.limits, clock, hooks)
        return MetaClient(calls)
    store = await open_store(settings, clock, pool)
    try:
        await ensure_default(store, settings, pool, fleet=fleet)
    except BaseException:
        await store.aclose()
        raise
    return store


def _give_up(namespaces: Namespaces, name: str) -> None:
    """Another host has the storage of the namespace: what is known of it here is not true now."""
    background(namespaces.give_up(name))


def _nothing_ends(means: Callable[[Principal], bool], error: Fs9Error) -> None:
    """Without a fleet nobody knows of requests in progress."""


def _ownership(settings: Settings, pool: BlockingPool) -> Ownership:
    """Of a fleet: locks and journals are files in the data directory."""
    return Ownership(
        FileLocks(locks_directory(settings.data_dir), settings.limits.owner_wait_s),
        HandleJournal(handles_directory(settings.data_dir), pool),
        WatchFiles(watch_directory(settings.data_dir), pool),
    )


def _watch(
    metrics: Metrics,
    namespaces: Namespaces,
    verifier: Verifier | None,
    pool: BlockingPool,
    metadata: Metadata,
    registry: Registry,
) -> None:
    metrics.watch(BLOCKING_CALLS, lambda: pool.calls)
    metrics.watch(BLOCKING_WAITING, lambda: pool.waiting)
    metrics.watch(HANDLES, lambda: namespaces.open_handles)
    metrics.watch(NAMESPACES, lambda: len(namespaces))
    metrics.watch(WATCHERS, lambda: namespaces.watching.watchers)
    metrics.watch(WATCHERS_LOST, lambda: namespaces.watching.lost)
    for name in ("pubsubfs", "streamfs"):
        metrics.watch(MESSAGES_LOST, partial(registry.losses.of, name), name)
    metrics.watch(QUOTA_REFUSALS, lambda: namespaces.refusals.bytes, "bytes")
    metrics.watch(QUOTA_REFUSALS, lambda: namespaces.refusals.files, "files")
    metrics.watch(QUOTA_BYTES, lambda: namespaces.usage()[0])
    metrics.watch(QUOTA_FILES, lambda: namespaces.usage()[1])
    if verifier is not None:
        metrics.watch(TOKEN_HITS, lambda: verifier.stats().hits)
        metrics.watch(TOKEN_MISSES, lambda: verifier.stats().verified + verifier.stats().refused)
    if isinstance(metadata, MetaClient):
        metrics.watch(META_BREAKER, lambda: float(metadata.calls.breaker_state))


def plugin_manager(settings: Settings, registry: Registry, resources: Resources) -> PluginManager:
    """The manager of native plugins, where the registry finds them from now on."""
    plugins = PluginManager(
        settings.plugin_directories,
        settings.plugin_preload,
        taken=registry.names(),
        resources=resources,
    )
    registry.use(plugins)
    return plugins


def _limiter(settings: Settings) -> RequestLimiter:
    return RequestLimiter(
        enabled=settings.rate_limit_enabled,
        namespace_qps=settings.rate_limit_namespace_qps,
        user_qps=settings.rate_limit_user_qps,
        keys_max=settings.limits.rate_limit_keys_max,
    )
