"""The audit trail of one namespace: what happened, on its way into the store.

    record ──> open for a second: equal events are counted ──> waiting ──> links in the store
       └── journaled before the change is answered ─────────────────────────┘ forgotten

One owner at a time continues the chain; events of administration by other workers may come in
between. A trail that finds the chain continued (`Conflict`) reads its tip and follows that. A batch
that may have been stored although the connection broke or the process ended is looked for before it
is tried again, so nothing is stored twice. While the store is down events wait, and at
`events_waiting_max` changes are refused: no change is made that is not recorded.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from fs9.errors import BackendUnavailable, Conflict, Fs9Error, NotFound, Transient
from fs9.observe.audit import (
    OK,
    TEXT_MAX,
    EventQuery,
    add_up,
    clean_details,
    clean_text,
)
from fs9.observe.audit_budget import RefusalBudget
from fs9.observe.audit_chain import Tip, continued, tip_of
from fs9.observe.audit_journal import Batch, Entry, Left, Writing
from fs9.observe.audit_search import search

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fs9.clock import Clock
    from fs9.limits import Limits
    from fs9.observe.audit import EventFilter, EventStore
    from fs9.observe.audit_chain import AuditRecord
    from fs9.observe.audit_journal import AuditJournal

log = logging.getLogger(__name__)

#: Equal events within this time are counted in one.
_MERGE_NS = 10**9
#: How often events go to the store, and how long after a failure, at most.
_FLUSH_S = 0.5
_RETRY_S_MAX = 5.0
#: Events of one append, and stored ones that are kept for followers.
_BATCH_MAX = 500
_RECENT_MAX = 500
#: How often somebody else may continue the chain before one append.
_CONFLICTS_MAX = 20
#: Refusals beyond the budget are counted, by kind, in one event a minute.
_SUMMARY_NS = 60 * 10**9
_TRIM_S = 3600.0
#: Stands for what is not there yet, and stays empty.
_NOTHING: dict[Any, Any] = {}


class AuditTrail:
    """Belongs to one event loop. Small until its first event."""

    __slots__ = (
        "_appended",
        "_budget",
        "_clock",
        "_doubtful",
        "_journal",
        "_latest",
        "_limits",
        "_listeners",
        "_lock",
        "_number",
        "_pending",
        "_recent",
        "_store",
        "_summaries",
        "_task",
        "_tip",
        "_trim_at_s",
        "_waiting",
        "_writings",
        "closed",
        "name",
    )

    def __init__(
        self,
        name: str,
        store: EventStore,
        limits: Limits,
        clock: Clock,
        journal: AuditJournal | None = None,
        left: Left | None = None,
    ) -> None:
        """`left`: what an earlier owner did not store."""
        self.name = name
        self.closed = False
        self._store = store
        self._limits = limits
        self._clock = clock
        self._journal = journal
        #: Open events by number, and the last one that concerns each path.
        self._pending: dict[int, Entry] = _NOTHING
        self._latest: dict[str, Entry] = _NOTHING
        self._summaries: dict[str, Entry] = _NOTHING
        self._waiting: deque[Entry] | None = None
        self._writings: dict[int, Writing] = _NOTHING
        self._number = 0
        self._budget: RefusalBudget | None = None
        self._tip: Tip | None = None
        self._doubtful: Batch | None = None
        self._recent: deque[AuditRecord] | None = None
        self._lock: asyncio.Lock | None = None
        self._task: asyncio.Task[None] | None = None
        self._listeners: set[asyncio.Event] | None = None
        self._appended = 0
        self._trim_at_s = 0.0
        if left is not None and (left.entries or left.writings):
            self._go_on(left)

    def _go_on(self, left: Left) -> None:
        """Take over; to be called on the event loop."""
        self._number = max([*left.entries, *left.writings])
        self._doubtful = left.batch
        first = {} if left.batch is None else dict.fromkeys(left.batch.numbers)
        ordered = [left.entries.pop(number) for number in first if number in left.entries]
        self._waiting = deque([*ordered, *left.entries.values()])
        for writing in left.writings.values():
            details: dict[str, Any] = {"unfinished": True}
            self._record(
                *("write", writing.path, writing.user, OK, details, writing.number),
                writing.timestamp_ns,
            )
        self._wake()

    @property
    def waiting(self) -> int:
        """Events that are not in the store."""
        return len(self._waiting or ()) + len(self._pending)

    # -- recording ------------------------------------------------------------------------------

    def check_room(self) -> None:
        """Raise BackendUnavailable when no change more can be told of."""
        if len(self._pending) + len(self._waiting or ()) >= self._limits.events_waiting_max:
            raise BackendUnavailable(
                "the audit trail cannot be stored now, so nothing may be changed"
            )

    def record(
        self,
        event_type: str,
        path: str,
        user: str,
        details: dict[str, Any] | None = None,
        writing: Writing | None = None,
    ) -> None:
        """Something was done. `writing`: it is told of by this."""
        ends = 0
        if writing is not None and writing.number:
            ends = writing.number
            self._writings.pop(ends, None)
        self._record(event_type, path, user, OK, details or {}, ends, self._clock.now_ns())

    def refused(
        self,
        event_type: str,
        path: str,
        user: str,
        kind: str,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Something was refused by an error of this kind."""
        now_ns = self._clock.now_ns()
        path = path[:TEXT_MAX]
        details = clean_details(details or {})
        last = self._latest.get(clean_text(path))
        again = (
            last is not None
            and self._equal(last, event_type, user, kind, now_ns)
            and add_up(details, last.details)
        )
        if self._budget is None:
            self._budget = RefusalBudget()
        if again or self._budget.take(self._clock.monotonic_s()):
            self._record(event_type, path, user, kind, details, 0, now_ns)
            return
        summary = self._summaries.get(kind)
        if summary is not None and now_ns < summary.open_until_ns:
            self._count(summary, {})
            return
        entry = self._summaries[kind] = self._entry(
            *("request", "/", "", kind, {"summarised": True}, 0, now_ns)
        )
        entry.open_until_ns = now_ns + _SUMMARY_NS
        self._add(entry)

    def begin_writing(self, path: str, user: str, *, journaled: bool) -> Writing:
        """An open file was written to for the first time; `record` with it at its close."""
        if not journaled:
            return Writing(0, 0, path, user)
        self._begin()
        now_ns = self._clock.now_ns()
        writing = Writing(self._number, now_ns, clean_text(path), clean_text(user))
        if self._journal is not None:
            self._writings[writing.number] = writing
            self._journal.append(writing)
        return writing

    def _record(
        self,
        event_type: str,
        path: str,
        user: str,
        outcome: str,
        details: dict[str, Any],
        ends: int,
        now_ns: int,
    ) -> None:
        path, user = clean_text(path), clean_text(user)
        last = self._latest.get(path)
        if (
            last is not None
            and self._equal(last, event_type, user, outcome, now_ns)
            and add_up(details, last.details)
        ):
            self._count(last, details, ends)
            return
        entry = self._entry(event_type, path, user, outcome, clean_details(details), ends, now_ns)
        self._latest[path] = entry
        target = details.get("target")
        if target is not None:  # what happens there from now on is something else
            self._latest[target] = entry
        self._add(entry)

    def _entry(
        self,
        event_type: str,
        path: str,
        user: str,
        outcome: str,
        details: dict[str, Any],
        ends: int,
        now_ns: int,
    ) -> Entry:
        self._begin()
        return Entry(
            *(self._number, now_ns, event_type, path, user, 1, outcome, details),
            *(ends, now_ns + _MERGE_NS),
        )

    def _begin(self) -> None:
        """The next number, and at the first one what a namespace without events has not."""
        self._number += 1
        if self._pending is _NOTHING:
            self._pending, self._latest, self._summaries, self._writings = {}, {}, {}, {}

    def _equal(self, last: Entry, event_type: str, user: str, outcome: str, now_ns: int) -> bool:
        return (
            last.event_type == event_type
            and last.user == user
            and last.outcome == outcome
            and last.timestamp_ns <= now_ns < last.open_until_ns
        )

    def _count(self, entry: Entry, details: dict[str, Any], ends: int = 0) -> None:
        again = entry.again(details, ends)
        if self._journal is not None:
            self._journal.append(again)

    def _add(self, entry: Entry) -> None:
        self._pending[entry.number] = entry
        if self._journal is not None:
            self._journal.append(entry)
        if self._task is None:
            self._wake()

    # -- into the store -------------------------------------------------------------------------

    def _wake(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        """Store what there is, until there is nothing more."""
        failures = 0
        while self.waiting:
            await asyncio.sleep(min(_FLUSH_S * 2 ** min(failures, 8), _RETRY_S_MAX))
            try:
                await self.flush()
                if self.trim_due():
                    await self.trim()
                failures = 0
            except Exception as error:  # whatever it is, events must not wait for ever
                failures += 1
                if failures == 1:
                    unforeseen = not isinstance(error, Fs9Error)
                    log.warning("%s: events wait: %s", self.name, error, exc_info=unforeseen)
        self._task = None

    async def flush(self, *, everything: bool = False) -> None:
        """Store what may be stored; with `everything` also what is still open.

        Raises what the store raises; nothing is lost then.
        """
        async with self._locked():
            self._close_ripe(everything)
            while self._waiting:
                batch = list(islice(self._waiting, _BATCH_MAX))
                await self._store_batch(batch)

    def _locked(self) -> asyncio.Lock:
        if self._lock is None:
            self._lock = asyncio.Lock()
        return self._lock

    def _close_ripe(self, everything: bool) -> None:
        """No event is counted any more with those that are old enough, or with any."""
        now_ns = self._clock.now_ns()
        ripe = [
            entry
            for entry in self._pending.values()
            if everything or now_ns >= entry.open_until_ns or now_ns < entry.timestamp_ns
        ]
        if ripe and self._waiting is None:
            self._waiting = deque()
        for entry in ripe:
            del self._pending[entry.number]
            for path in (entry.path, entry.details.get("target")):
                if path is not None and self._latest.get(path) is entry:
                    del self._latest[path]
            if self._summaries.get(entry.outcome) is entry:
                del self._summaries[entry.outcome]
            assert self._waiting is not None
            self._waiting.append(entry)

    async def _store_batch(self, batch: list[Entry]) -> None:
        """Store the events that wait first, or find that they are stored already."""
        if self._doubtful is not None:
            doubtful = self._doubtful
            if await self._is_stored(doubtful):
                known = set(doubtful.numbers)
                self._stored([each for each in batch if each.number in known], [])
                return
            self._doubtful = None
        for _ in range(_CONFLICTS_MAX):
            try:
                records = await self._append(batch)
            except Conflict:  # somebody else went on; nothing of this was stored
                self._doubtful = self._tip = None
                if self._recent is not None:
                    self._recent.clear()
                continue
            except NotFound:
                log.warning("%s is forgotten, and %d events with it", self.name, len(batch))
                records = []
            except BaseException:
                self._tip = None
                raise
            self._stored(batch, records)
            return
        raise Transient("others continue the audit trail all the time")

    async def _append(self, batch: list[Entry]) -> list[AuditRecord]:
        if self._tip is None:
            self._tip = tip_of(await self._store.last_event(self.name))
        records = continued(self._tip, map(Entry.record, batch))
        numbers = [entry.number for entry in batch]
        self._doubtful = Batch(numbers, records[-1].sequence, records[-1].digest)
        if self._journal is not None:
            self._journal.append(self._doubtful)
        await self._store.append_events(self.name, records)
        return records

    async def _is_stored(self, batch: Batch) -> bool:
        after = batch.sequence - 1
        found = await self._store.events(self.name, EventQuery(limit=1, after=after))
        return bool(found) and tip_of(found[0]) == Tip(batch.sequence, batch.digest)

    def _stored(self, batch: list[Entry], records: list[AuditRecord]) -> None:
        assert self._waiting is not None
        for _ in batch:
            self._waiting.popleft()
        self._doubtful = None
        self._tip = tip_of(records[-1]) if records else None
        self._appended += len(records)
        if self._listeners:
            if self._recent is None:
                self._recent = deque(maxlen=_RECENT_MAX)
            if not records or (self._recent and self._recent[-1].digest != records[0].previous):
                self._recent.clear()
            self._recent.extend(records)
            for listener in self._listeners:
                listener.set()
        elif self._recent:
            self._recent = None
        if self._journal is not None:
            entries = [*self._waiting, *self._pending.values()]
            self._journal.stored(entries, list(self._writings.values()))

    async def aclose(self) -> None:
        """Store everything, if the store takes it in time; what remains is journaled.

        What is recorded later is stored without a journal.
        """
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        if self.waiting:
            try:
                async with asyncio.timeout(self._limits.handle_close_timeout_s):
                    await self.flush(everything=True)
            except (Fs9Error, TimeoutError) as error:
                if self._journal is None:
                    log.error("%s: %d events are lost: %s", self.name, self.waiting, error)
                else:
                    log.warning(
                        "%s: %d events are left to the next owner: %s",
                        self.name,
                        self.waiting,
                        repr(error),
                    )
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close(empty=not self.waiting and not self._writings)
        self._pending = self._latest = self._summaries = self._writings = _NOTHING
        self._waiting = None
        self.closed = True

    # -- retention ------------------------------------------------------------------------------

    def trim_due(self) -> bool:
        """Is it time to look for events that are too old or too many?"""
        return (
            self._appended > self._limits.events_max // 100
            or self._clock.monotonic_s() >= self._trim_at_s
        )

    async def trim(self) -> int:
        """Forget what is too old or too much; how many events."""
        self._appended = 0
        self._trim_at_s = self._clock.monotonic_s() + _TRIM_S
        before_ns = max(0, self._clock.now_ns() - self._limits.events_days * 86_400 * 10**9)
        return await self._store.trim_events(self.name, before_ns, self._limits.events_max)

    # -- reading --------------------------------------------------------------------------------

    async def find(
        self, wanted: EventFilter, *, limit: int = 100, offset: int = 0
    ) -> list[AuditRecord]:
        """Newest first; those that are not stored yet have no sequence (0) and no digest.

        The filter applies before `offset`, and that before `limit`. Raises what the store raises.
        """
        if limit < 1:
            return []
        async with self._locked():  # nothing goes from here to the store meanwhile
            memory = list(self._in_memory())
            return await search(memory, self._store, self.name, wanted, limit=limit, offset=offset)

    def _in_memory(self) -> Iterator[AuditRecord]:
        yield from map(Entry.record, reversed(self._pending.values()))
        yield from map(Entry.record, reversed(self._waiting or ()))

    async def links(self, after: int, limit: int) -> list[AuditRecord]:
        """The chain from the link that follows `after` on."""
        return await self._store.events(self.name, EventQuery(limit=limit, after=after))

    async def tip(self) -> Tip:
        """The end of what is stored."""
        return tip_of(await self._store.last_event(self.name))

    # -- for followers (`fs9.observe.audit_follower`) -------------------------------------------

    def listen(self) -> asyncio.Event:
        """It is set whenever something was stored here."""
        listener = asyncio.Event()
        self._listeners = self._listeners or set()
        self._listeners.add(listener)
        return listener

    def unlisten(self, listener: asyncio.Event) -> None:
        if self._listeners is not None:
            self._listeners.discard(listener)

    def recent(self, after: int) -> list[AuditRecord] | None:
        """The links that follow `after`, from memory, as far as known; None: ask the store."""
        recent = self._recent
        if not recent or not recent[0].sequence - 1 <= after <= recent[-1].sequence:
            return None
        return [record for record in recent if record.sequence > after]
