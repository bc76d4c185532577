"""The audit trails of one worker: those of loaded namespaces, and of others in passing.

Only the owner of a namespace has its journal. Another worker that records something
(administration, requests refused before the namespace is loaded) appends to the stored chain
directly.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any

from fs9.errors import Conflict, Fs9Error
from fs9.observe.audit_journal import AuditJournal, load
from fs9.observe.audit_trail import AuditTrail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fs9.clock import Clock
    from fs9.limits import Limits
    from fs9.observe.audit import EventQuery, EventStore
    from fs9.observe.audit_chain import AuditRecord
    from fs9.threads import BlockingPool

log = logging.getLogger(__name__)

#: Trails in passing that are remembered, with what is left of their budget for refusals.
_PASSING_MAX = 1000
#: How often it is looked for events that are too old.
_TRIM_CHECK_S = 60.0


class AuditTrails:
    def __init__(
        self,
        store: EventStore,
        limits: Limits,
        clock: Clock,
        pool: BlockingPool,
        directory: Path | None = None,
    ) -> None:
        """With a `directory`, which is made, the trails of loaded namespaces are journaled."""
        if directory is not None:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._store = store
        self._limits = limits
        self._clock = clock
        self._pool = pool
        self._directory = directory
        self._loaded: dict[str, AuditTrail] = {}
        self._passing: dict[str, AuditTrail] = {}

    async def load(self, name: str, storage: str = "") -> AuditTrail:
        """The namespace's, for its owner, who holds its lock until the trail is closed.

        The journal is that of the `storage`, which no other namespace ever has ("": as the name).
        """
        await self.store_passing(name)  # else who asks now does not see it
        journal = left = None
        if self._directory is not None:
            path = self._directory / (storage or name)
            left = await self._pool.run(load, path)
            journal = AuditJournal(path, left.lines, left.bytes)
        trail = AuditTrail(name, self._store, self._limits, self._clock, journal, left)
        self._loaded[name] = trail
        return trail

    def trail(self, name: str) -> AuditTrail:
        """The namespace's, be it loaded here or not."""
        loaded = self._loaded.get(name)
        if loaded is not None:
            if not loaded.closed:
                return loaded
            del self._loaded[name]
        return self._passing_trail(name)

    async def record(
        self, name: str, event_type: str, user: str, details: dict[str, Any], path: str = "/"
    ) -> None:
        """Something was done to the namespace, and is stored when this returns.

        When the store does not take it, it is tried again later.
        """
        trail = self.trail(name)
        trail.record(event_type, path, user, details)
        await self.store_passing(name)

    async def store_passing(self, name: str) -> None:
        """Store what waits of the namespace while it is not loaded; later, if the store is down.

        Also when the namespace has changed: if it was deleted, the next one may soon have its name.
        """
        trail = self._passing.get(name)
        if trail is not None and trail.waiting:
            try:
                await trail.flush(everything=True)
            except Fs9Error as error:
                log.warning("%s: events wait, the store does not take them: %s", name, error)

    async def trim_forever(self) -> None:
        """Forget old events of the loaded namespaces, now and then."""
        while True:
            await asyncio.sleep(_TRIM_CHECK_S)
            self._loaded = {n: trail for n, trail in self._loaded.items() if not trail.closed}
            for trail in list(self._loaded.values()):
                if trail.trim_due():
                    try:
                        await trail.trim()
                    except Fs9Error as error:
                        log.warning("%s: old events are not forgotten: %s", trail.name, error)

    def _passing_trail(self, name: str) -> AuditTrail:
        trail = self._passing.get(name)
        if trail is None:
            if len(self._passing) >= _PASSING_MAX:
                self._passing = {
                    name: trail for name, trail in self._passing.items() if trail.waiting
                }
            trail = AuditTrail(name, self._store, self._limits, self._clock)
            self._passing[name] = trail
        return trail

    async def aclose(self) -> None:
        for trail in self._passing.values():
            await trail.aclose()


def memory_trail(name: str, limits: Limits, clock: Clock) -> AuditTrail:
    """A trail that lives no longer than this process."""
    return AuditTrail(name, MemoryEvents(limits.events_max), limits, clock)


class MemoryEvents:
    """Keeps events in memory, for namespaces without metadata."""

    def __init__(self, events_max: int) -> None:
        self._kept: defaultdict[str, deque[AuditRecord]] = defaultdict(
            lambda: deque(maxlen=events_max)
        )

    async def append_events(self, name: str, events: Sequence[AuditRecord]) -> None:
        kept = self._kept[name]
        last = kept[-1].sequence if kept else 0
        if events and events[0].sequence != last + 1:
            raise Conflict("the events do not follow the last one kept")
        kept.extend(events)

    async def events(self, name: str, wanted: EventQuery) -> list[AuditRecord]:
        found = [
            event
            for event in self._kept.get(name, ())
            if event.path.startswith(wanted.path)
            and wanted.event_type in {None, event.event_type}
            and (wanted.since_ns is None or event.timestamp_ns >= wanted.since_ns)
            and (wanted.until_ns is None or event.timestamp_ns < wanted.until_ns)
            and (wanted.after is None or event.sequence > wanted.after)
        ]
        if wanted.after is None:
            found.reverse()
        return found[wanted.offset : wanted.offset + wanted.limit]

    async def last_event(self, name: str) -> AuditRecord | None:
        kept = self._kept.get(name)
        return kept[-1] if kept else None

    async def trim_events(self, name: str, before_ns: int, keep_max: int) -> int:
        return 0
