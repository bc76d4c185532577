"""fs9.observe.audit_trail: everything recorded is stored once, in one chain, whoever owns it."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import BackendUnavailable, InvalidArgument, NotFound
from fs9.limits import Limits
from fs9.meta.sqlite import SqliteStore
from fs9.observe.audit import EventFilter, EventQuery, event_filter
from fs9.observe.audit_chain import AuditRecord, ChainCheck
from fs9.observe.audit_follower import AuditFollower
from fs9.observe.audit_trail import AuditTrail
from fs9.observe.audit_trails import AuditTrails, MemoryEvents
from fs9.threads import BlockingPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from fs9.clock import ManualClock

ALL = event_filter(event_type="all", outcome="all")


class Events(MemoryEvents):
    """A store that fails on demand, before or after it has stored."""

    def __init__(self) -> None:
        super().__init__(100_000)
        self.down = False
        self.lose_answer = False
        self.gone = False

    async def append_events(self, name: str, events: Any) -> None:
        if self.gone:
            raise NotFound(name)
        if self.down:
            raise BackendUnavailable("down")
        await super().append_events(name, events)
        if self.lose_answer:
            raise BackendUnavailable("the connection broke")

    async def all(self) -> list[AuditRecord]:
        return await self.events("acme", EventQuery(limit=10**6, after=0))


@pytest.fixture
def store() -> Events:
    return Events()


@pytest.fixture
async def sqlite(
    tmp_path: Path, clock: ManualClock, pool: BlockingPool
) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "meta.db", clock, pool)
    await store.create_namespace("acme", "root", ())
    yield store
    await store.aclose()


@pytest.fixture
def pool() -> Iterator[BlockingPool]:
    pool = BlockingPool(1)
    yield pool
    pool.shutdown()


@pytest.fixture
def trails(store: Events, clock: ManualClock, pool: BlockingPool, tmp_path: Path) -> AuditTrails:
    return AuditTrails(store, Limits(), clock, pool, tmp_path / "audit")


@pytest.fixture
def trail(store: Events, clock: ManualClock) -> AuditTrail:
    return AuditTrail("acme", store, Limits(), clock)


async def assert_whole(store: Events, count: int) -> None:
    check = ChainCheck()
    check.feed(await store.all())
    assert check.end() is None
    assert check.count == count


async def test_newest_first_whether_stored_or_not(trail: AuditTrail, clock: ManualClock):
    """Filters come first, then the offset, then the limit."""
    for number in range(10):
        trail.record("create", f"/{number % 2}/{number}", "u")
        if number == 5:
            await trail.flush(everything=True)

    async def paths(wanted: EventFilter | None = None, **window: int) -> list[str]:
        found = await trail.find(wanted or EventFilter(), **window)
        return [event.path for event in found]

    assert await paths(limit=3) == ["/1/9", "/0/8", "/1/7"]
    assert await paths(limit=2, offset=8) == ["/1/1", "/0/0"]
    assert await paths(EventFilter("/1/"), offset=1, limit=3) == ["/1/7", "/1/5", "/1/3"]
    assert await paths(EventFilter(types=frozenset({"mkdir"}))) == []
    assert await paths(offset=10) == []
    assert await paths(limit=0) == []


async def test_equal_events_within_a_second_are_counted(trail: AuditTrail, clock: ManualClock):
    """Also when something else happened elsewhere in between; not when it did at that path."""
    trail.record("create", "/f", "u")
    trail.record("delete", "/other", "u")
    clock.advance(0.9)
    trail.record("create", "/f", "u")
    clock.advance(0.1)
    trail.record("create", "/f", "u")  # a second after the first
    trail.record("delete", "/f", "u")
    trail.record("create", "/f", "u")
    trail.record("create", "/f", "v")
    trail.record("rename", "/g", "u", {"target": "/f"})
    trail.record("create", "/f", "v")
    events = await trail.find(ALL)
    assert [(event.event_type, event.count) for event in reversed(events)] == [
        *(("create", 2), ("delete", 1), ("create", 1), ("delete", 1), ("create", 1)),
        *(("create", 1), ("rename", 1), ("create", 1)),
    ]


async def test_what_adds_up_is_added_and_what_differs_is_not_counted(trail: AuditTrail):
    for size in (3, 4):
        trail.record("upload", "/f", "u", {"bytes": size})
    for target in ("/h", "/i"):
        trail.record("rename", "/g", "u", {"target": target})
    events = await trail.find(ALL)
    assert [(event.count, event.details) for event in reversed(events)] == [
        (2, {"bytes": 7}),
        (1, {"target": "/h"}),
        (1, {"target": "/i"}),
    ]


async def test_only_what_no_equal_event_can_join_is_stored(
    trail: AuditTrail, store: Events, clock: ManualClock
):
    trail.record("create", "/f", "u")
    clock.advance(0.5)
    trail.record("create", "/g", "u")
    clock.advance(0.5)
    await trail.flush()
    assert [event.path for event in await store.all()] == ["/f"]
    assert trail.waiting == 1


async def test_two_owners_in_turn_continue_one_chain(trails: AuditTrails, store: Events):
    for number in range(3):
        trail = await trails.load("acme")
        trail.record("create", f"/{number}", "u")
        await trail.aclose()
    await assert_whole(store, 3)


async def test_another_worker_may_continue_the_chain_in_between(
    trail: AuditTrail, store: Events, clock: ManualClock
):
    """An administrator's change is recorded where the namespace is not loaded."""
    other = AuditTrail("acme", store, Limits(), clock)
    for number in range(4):
        (trail if number % 2 else other).record("mount", f"/{number}", "root")
        await (trail if number % 2 else other).flush(everything=True)
    await assert_whole(store, 4)


async def test_events_survive_the_process(
    trails: AuditTrails, store: Events, clock: ManualClock, tmp_path: Path
):
    """The next owner stores what the first one journaled; of open files, that they were written."""
    trail = await trails.load("acme")
    trail.record("upload", "/f", "u", {"bytes": 1})
    trail.record("upload", "/f", "u", {"bytes": 2})
    done = trail.begin_writing("/done", "u", journaled=True)
    trail.record("write", "/done", "u", {"bytes": 5, "writes": 1}, done)
    trail.begin_writing("/open", "u", journaled=True)
    # As after kill -9: nothing is closed, and the last line is cut off.
    journal = tmp_path / "audit" / "acme"
    end = journal.read_bytes().index(b"\0")
    with journal.open("r+b") as file:
        file.seek(end)
        file.write(b'["e",9,')
    heir = await trails.load("acme")
    await heir.aclose()
    events = await store.all()
    assert [(event.event_type, event.path, event.count, event.details) for event in events] == [
        ("upload", "/f", 2, {"bytes": 3}),
        ("write", "/done", 1, {"bytes": 5, "writes": 1}),
        ("write", "/open", 1, {"unfinished": True}),
    ]
    await assert_whole(store, 3)
    assert not journal.exists()
    await trail.aclose()


@pytest.mark.parametrize("stored", [True, False])
async def test_a_batch_of_unknown_fate_is_stored_once(
    trails: AuditTrails, store: Events, *, stored: bool
):
    """The answer of the store was lost, or the process ended before it came."""
    trail = await trails.load("acme")
    trail.record("create", "/a", "u")
    trail.record("create", "/b", "u")
    store.lose_answer, store.down = stored, not stored
    with pytest.raises(BackendUnavailable):
        await trail.flush(everything=True)
    store.lose_answer = store.down = False
    trail.record("create", "/c", "u")
    heir = await trails.load("acme")
    await heir.flush(everything=True)
    assert [event.path for event in await store.all()] == ["/a", "/b", "/c"]
    await assert_whole(store, 3)


async def test_the_same_process_finds_out_too(trail: AuditTrail, store: Events):
    trail.record("create", "/a", "u")
    store.lose_answer = True
    with pytest.raises(BackendUnavailable):
        await trail.flush(everything=True)
    store.lose_answer = False
    trail.record("create", "/b", "u")
    await trail.flush(everything=True)
    await assert_whole(store, 2)


async def test_events_wait_for_a_store_that_is_down_and_then_changes_are_refused(
    store: Events, clock: ManualClock
):
    trail = AuditTrail("acme", store, dataclasses.replace(Limits(), events_waiting_max=2), clock)
    store.down = True
    trail.record("create", "/a", "u")
    trail.check_room()
    trail.record("create", "/b", "u")
    with pytest.raises(BackendUnavailable, match="audit trail"):
        trail.check_room()
    store.down = False
    await trail.flush(everything=True)
    trail.check_room()


async def test_the_events_of_a_forgotten_namespace_go_with_it(trail: AuditTrail, store: Events):
    store.gone = True
    trail.record("create", "/a", "u")
    await trail.flush(everything=True)
    assert trail.waiting == 0


async def test_refusals_cannot_flood_the_trail(trail: AuditTrail, clock: ManualClock):
    """A hundred have an event each, those beyond one for each kind and minute; all are counted."""
    for number in range(10_000):
        trail.refused("read", f"/{number}", "mallory", "PermissionDenied")
    trail.refused("create", "/q", "mallory", "QuotaExceeded")
    events = await trail.find(event_filter(outcome="refused"), limit=1000)
    assert len(events) == 102
    assert sum(event.count for event in events) == 10_001
    assert events[1].details == {"summarised": True}
    clock.advance(40)
    trail.refused("read", "/later", "mallory", "PermissionDenied")
    assert (await trail.find(event_filter(outcome="refused"), limit=1))[0].path == "/later"


async def test_refused_renames_of_one_file_cannot_flood_the_trail(trail: AuditTrail):
    """To ever other names, of any length."""
    for number in range(1000):
        details = {"target": f"/{number}\0" + "x" * 5000}
        trail.refused("rename", "/f", "mallory", "PermissionDenied", details)
    events = await trail.find(event_filter(outcome="refused"), limit=1000)
    assert len(events) == 101
    assert len(events[-1].details["target"]) == 4096


async def test_the_journal_stays_small(trails: AuditTrails, store: Events, tmp_path: Path):
    """It is emptied when all is stored, and written anew while something is always open."""
    trail = await trails.load("acme")
    trail.begin_writing("/log", "u", journaled=True)
    for number in range(30):
        for each in range(300):
            trail.record("create", f"/{number}/{each}", "u")
        await trail.flush(everything=True)
    assert (tmp_path / "audit" / "acme").stat().st_size < 900_000
    await assert_whole(store, 9000)
    await trail.aclose()


async def test_a_follower_is_told_of_each_event_once(trails: AuditTrails, store: Events):
    """From now on, or from after an event on; also when another worker has stored some of them."""

    def encode(record: AuditRecord) -> bytes:
        return record.path.encode()

    trail = await trails.load("acme")
    trail.record("create", "/old", "u")
    await trail.flush(everything=True)
    follower = await AuditFollower.begin(trail, EventFilter(), None, encode)
    waiting = asyncio.ensure_future(follower.next(30))
    await asyncio.sleep(0)
    trail.record("create", "/a", "u")
    trail.refused("create", "/no", "u", "PermissionDenied")
    trail.record("create", "/b", "u")
    await trail.flush(everything=True)
    delivery = await waiting
    assert [(m.cursor, m.data) for m in delivery.messages] == [("2", b"/a"), ("4", b"/b")]
    await trail.aclose()

    heir = await trails.load("acme")  # the client comes again to the next owner
    again = await AuditFollower.begin(heir, EventFilter(), "2", encode)
    heir.record("create", "/c", "u")
    await heir.flush(everything=True)
    delivery = await again.next(30)
    assert [message.data for message in delivery.messages] == [b"/b", b"/c"]
    assert not (await again.next(0)).messages
    follower.close()
    again.close()
    for wrong in ("x", "99"):
        with pytest.raises(InvalidArgument):
            await AuditFollower.begin(heir, EventFilter(), wrong, encode)


async def test_old_events_are_forgotten_by_age_and_number(sqlite: SqliteStore, clock: ManualClock):
    """What is left is still a chain; its first event names the digest before."""
    limits = dataclasses.replace(Limits(), events_max=5, events_days=1)
    trail = AuditTrail("acme", sqlite, limits, clock)
    for number in range(8):
        trail.record("create", f"/{number}", "u")
    await trail.flush(everything=True)
    assert await trail.trim() == 3
    clock.advance(2 * 86_400)
    trail.record("create", "/new", "u")
    await trail.flush(everything=True)
    await trail.trim()
    links = await trail.links(0, 100)
    assert [link.path for link in links] == ["/new"]
    check = ChainCheck()
    check.feed(links)
    assert check.end() is None
    assert check.first == 9
