"""Builds namespaces: their mounts, each a provider from the registry, and loading them."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from fs9.errors import NO_ACCESS, AlreadyExists, BackendUnavailable, Forbidden, Fs9Error, NotFound
from fs9.path import clean
from fs9.vfs.departures import tell_departures
from fs9.vfs.mounts import Mount, MountTable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from fs9.provider import Provider
    from fs9.quota import Quota
    from fs9.resources import Resources
    from fs9.types import MountSpec
    from fs9.vfs.namespace import Namespace
    from fs9.vfs.records import ProviderRegistry, Record, Records
    from fs9.vfs.watchfile import WatchFiles

log = logging.getLogger(__name__)

#: `created_by` of a namespace that is created at its first use.
_SYSTEM = "system"


class Builder:
    """Makes mounts, with what all mounts of a worker share."""

    def __init__(self, registry: ProviderRegistry, resources: Resources) -> None:
        self._registry = registry
        self._resources = resources

    async def mount(
        self, namespace: str, storage: str, spec: MountSpec, quota: Quota, *, trial: bool = False
    ) -> Mount:
        """One mount, whose provider the caller closes; raises as `ProviderRegistry.create`.

        `trial`: to find out whether it can be made; of the same storage as one in use.
        """
        provider = await self._registry.create(
            spec,
            self._resources,
            namespace=namespace,
            storage=storage,
            quota=None if trial else quota,
            trial=trial,
        )
        return Mount.of(clean(spec.path), provider)

    async def table(self, namespace: str, record: Record, quota: Quota) -> MountTable:
        """The mount table, all of it or, after an error, nothing left open.

        A mount that cannot be made is BackendUnavailable, whatever the reason: a client that
        was told "not found" would take every file of the namespace for deleted.
        """
        mounts: list[Mount] = []
        at = ""
        try:
            for spec in record.mounts:
                at = spec.path
                mount = await self.mount(namespace, record.storage, spec, quota)
                mounts.append(mount)
            return MountTable(mounts)
        except BaseException as error:
            await close_providers(mount.provider for mount in mounts)
            if isinstance(error, Fs9Error) and error.status < 500:
                raise BackendUnavailable(f"mount {at}: {error}") from error
            raise


async def record_of(
    store: Records, name: str, template: tuple[MountSpec, ...], *, create: bool
) -> Record:
    """The namespace's record, made now when it may be; else Forbidden when there is none."""
    try:
        return await store.namespace(name)
    except NotFound:
        if not create:
            raise Forbidden(NO_ACCESS) from None
    try:
        return await store.create_namespace(name, _SYSTEM, template)
    except AlreadyExists:  # another worker was faster
        return await store.namespace(name)


async def begin_watch(
    files: WatchFiles | None, namespace: Namespace, specs: Iterable[MountSpec], storage: str = ""
) -> None:
    """Go on with the log that an earlier owner left, if logs are kept; tell what goes unasked.

    `storage` is the record's ("": as the name).
    """
    if files is not None:
        file, left = await files.load(storage or namespace.name)
        mounts = hashlib.sha256(repr(tuple(specs)).encode()).hexdigest()
        volatile = [mount.path for mount in namespace.vfs.mounts if mount.provider.volatile]
        namespace.watch.go_on(file, left, mounts, volatile)
    for mount in namespace.vfs.mounts:
        tell_departures(namespace.vfs, mount)


class Loading:
    """A load in progress, and whether it may create the namespace."""

    __slots__ = ("create", "task")

    def __init__(self, task: asyncio.Task[Namespace], create: bool) -> None:
        self.task = task
        self.create = create


def outcome(task: asyncio.Task[Namespace]) -> str:
    """The outcome of a finished load: ok, refused (no such namespace), failed."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, Forbidden):
        return "refused"
    return "failed" if error is not None or task.cancelled() else "ok"


async def close_providers(providers: Iterable[Provider]) -> None:
    """Close all; errors are only logged, because nothing can follow."""
    for provider in providers:
        try:
            await provider.aclose()
        except (Fs9Error, OSError) as error:
            log.warning("closing a %s failed: %s", provider.name, error)
