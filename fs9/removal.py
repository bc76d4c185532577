"""The data of deleted namespaces: kept for the retention, then removed for ever.

    deleted ── retention over, or purge ──> each mount's `destroy` ── directories ── forgotten

Removal begins when the owner has closed the namespace. A new namespace may have the name by then;
its storage is another one. A removal that breaks off is started again the next time, until
everything is gone.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from fs9.auth.revocations import TIME_MAX_S
from fs9.directories import journals, storage_directories
from fs9.errors import Fs9Error, InvalidArgument, NotFound, OwnerUnavailable
from fs9.meta.announce import Revoked
from fs9.meta.models import Revocation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from fs9.meta.models import NamespaceRecord
    from fs9.providers.registry import Registry
    from fs9.resources import Resources
    from fs9.types import MountSpec
    from fs9.vfs.locks import NamespaceLocks

log = logging.getLogger(__name__)

#: How often expired data is looked for, at most and at least: ten times in a retention.
_INTERVAL_MIN_S, _INTERVAL_MAX_S = 1.0, 600.0
_LOOKS = 10
#: For this long after its deletion a namespace may still be closing somewhere.
_CLOSING_S = 300
#: Ends the name of a lock; no name of a namespace has a dot.
_LOCK = ".removal"


class DeletedNamespaces(Protocol):
    """The part of the metadata that is used here."""

    async def deleted_namespaces(self, before_s: int) -> list[NamespaceRecord]:
        """As `fs9.meta.store.Metadata.deleted_namespaces`."""

    async def forget_namespace(self, namespace_id: str) -> None:
        """As `fs9.meta.store.Metadata.forget_namespace`."""

    async def revoke(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        """As `fs9.meta.store.Metadata.revoke`."""


def last_tokens_of(record: NamespaceRecord) -> Revocation:
    """All tokens of a deleted namespace, which must not hold in the next one of its name."""
    deleted_at_s = record.deleted_at_s or 0
    return Revocation(
        "namespace",
        record.name,
        record.name,
        TIME_MAX_S,
        deleted_at_s,
        record.created_by,
        issued_until_s=deleted_at_s,
    )


def interval_s(retention_s: float) -> float:
    """How often to look for data that was kept for so long."""
    return min(max(_INTERVAL_MIN_S, retention_s / _LOOKS), _INTERVAL_MAX_S)


class Removal:
    """Removes the data of deleted namespaces, for one worker."""

    def __init__(
        self,
        store: DeletedNamespaces,
        registry: Registry,
        locks: NamespaceLocks,
        wait_closed: Callable[[str], Awaitable[None]],
        retention_s: int,
        resources: Resources,
    ) -> None:
        """`retention_s`: for so long after its deletion a namespace's data is kept."""
        self._store = store
        self._registry = registry
        self._locks = locks
        self._wait_closed = wait_closed
        self._retention_s = retention_s
        self._resources = resources
        self._clock = resources.clock

    async def forever(self, owns: Callable[[str], bool]) -> None:
        """Remove what is due, to the end of the task; of the names that this worker `owns`."""
        while True:
            await asyncio.sleep(interval_s(self._retention_s))
            await self.due(owns)

    async def due(self, owns: Callable[[str], bool]) -> int:
        """Remove all whose retention is over; how many that were. Errors are logged."""
        before_s = int(self._clock.now_s()) - self._retention_s
        count = 0
        try:
            # What was deleted in this very second is due, too, when nothing is kept.
            for record in await self._store.deleted_namespaces(before_s + 1):
                if owns(record.name):
                    await self._remove_or_log(record)
                    count += 1
        except Fs9Error as error:
            log.warning("deleted namespaces could not be listed: %s", error)
        return count

    async def _remove_or_log(self, record: NamespaceRecord) -> None:
        try:
            await self.remove(record)
        except (Fs9Error, OSError) as error:
            log.error("%s: its data could not be removed yet: %s", record.name, error)

    async def deleted(self, name: str) -> list[NamespaceRecord]:
        """All deleted namespaces of this name, as long as their data is there."""
        # Those of this second, too, by whatever host's clock.
        records = await self._store.deleted_namespaces(int(self._clock.now_s()) + 2)
        return [record for record in records if record.name == name]

    async def purge(self, name: str, tell: Callable[[Revoked], Awaitable[object]]) -> int:
        """Remove the data of all deleted namespaces of this name, now; how many there were.

        `tell`: what other workers should hear of, also when the rest fails. Raises what keeps some
        of it from being removed.
        """
        meant = await self.deleted(name)
        for record in meant:
            revoked = await self.remove(record)
            if revoked:
                await tell(Revoked(tuple(revoked)))
        return len(meant)

    async def remove(self, record: NamespaceRecord) -> list[Revocation]:
        """Remove all data of one, and forget it; the revocations of what was issued for it.

        Raises OwnerUnavailable while it is still being closed, and the errors of backends.
        """
        await self._ended(record)
        lock = f"{record.storage}{_LOCK}"
        await self._locks.acquire(lock)  # one worker at a time
        try:
            for spec in record.mounts:
                await self._destroy(record, spec)
            await self._resources.pool.run(_remove_files, self._resources.data_dir, record.storage)
            # When the record is gone, nobody knows any more that there was one.
            revoked = await self._store.revoke([last_tokens_of(record)])
            await self._store.forget_namespace(record.id)
        finally:
            self._locks.release(lock)
        log.info("%s: the data of the deleted namespace (%s) is removed", record.name, record.id)
        return revoked

    async def _ended(self, record: NamespaceRecord) -> None:
        """Wait until its owner has closed it. A later holder of the name is another namespace."""
        await self._wait_closed(record.name)
        try:
            await self._locks.acquire(record.name)
        except OwnerUnavailable:
            if self._clock.now_s() - (record.deleted_at_s or 0) < _CLOSING_S:
                raise
        else:
            self._locks.release(record.name)

    async def _destroy(self, record: NamespaceRecord, spec: MountSpec) -> None:
        try:
            provider = await self._registry.create(
                spec, self._resources, namespace=record.name, storage=record.storage
            )
        except (NotFound, InvalidArgument) as error:
            # Its provider is not installed any more, or its directory is gone.
            log.warning("%s: nothing is removed of %s: %s", record.name, spec.path, error)
            return
        try:
            await provider.destroy()
        finally:
            with suppress(Fs9Error, OSError):  # what it would have kept is gone
                await provider.aclose()


def _remove_files(data_dir: Path, storage: str) -> None:
    """Remove all that is kept of the namespace on this host."""
    for path in storage_directories(data_dir, storage):
        with suppress(FileNotFoundError):
            shutil.rmtree(path)
    for path in journals(data_dir, storage):
        path.unlink(missing_ok=True)
