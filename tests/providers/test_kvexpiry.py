"""fs9.providers.kvexpiry: what has expired goes, is told once, and gives its room back."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from fs9.clock import ManualClock, SystemClock
from fs9.errors import BackendUnavailable, NotFound, OwnerUnavailable, QuotaExceeded
from fs9.limits import Limits
from fs9.providers import kvfs
from fs9.providers.kvexpiry import Expiry
from fs9.providers.registry import ProviderContext
from fs9.quota import Quota
from fs9.types import REPLACE, OpenFlags, StatChanges
from tests.conformance.driver import ProviderDriver
from tests.conformance.steps import exists, make_directory, make_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from fs9.clock import Clock
    from fs9.threads import BlockingPool


class Told:
    """What was told, in order; `closed`: the mount is being closed."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.something = asyncio.Event()
        self.sweeps = 0
        self.closed = False

    @contextmanager
    def going(self, paths: Sequence[str]) -> Iterator[set[str]]:
        if self.closed:
            raise OwnerUnavailable("closed")
        self.sweeps += 1
        told = set(paths)
        yield told
        self.paths += [path for path in paths if path in told]
        self.something.set()

    def gone(self, path: str) -> None:
        self.paths.append(path)

    def lost(self) -> None:
        raise AssertionError("a store is not lost")


@pytest.fixture(params=[True, False], ids=["disk", "memory"])
async def make(
    tmp_path: Path,
    clock: ManualClock,
    pool: BlockingPool,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Any]:
    """Makes a driver of kvfs; with a clock that stands still its timer does, too."""
    made: list[ProviderDriver] = []

    async def make(clock: Clock = clock, quota: Quota | None = None, **config: Any) -> Any:
        if isinstance(clock, ManualClock):
            monkeypatch.setattr(Expiry, "_wait_for", lambda *_: None)
        context = ProviderContext("acme", tmp_path, Limits(), clock, pool, quota or Quota())
        made.append(
            ProviderDriver(await kvfs.create({"persistent": request.param, **config}, context))
        )
        return made[-1]

    yield make
    for driver in made:
        await driver.aclose()


def begin(kv: Any) -> Told:
    told = Told()
    kv.provider.tell_departures(told)
    return told


async def sweep(kv: Any) -> None:
    await kv.provider._expiry.sweep()
    await kv.provider._writer.settle()


async def test_what_has_expired_is_told_once_and_its_room_given_back(make: Any, clock: ManualClock):
    """The first ones first, a bounded number in each commit; nothing is left in the store."""
    quota = Quota(bytes_max=10_000)
    kv = await make(ttl_s=5, quota=quota)
    told = begin(kv)
    for number in range(100):
        await make_file(kv, f"/k{number:02}", b"x" * 100)
        clock.advance(0.01)
    more, _ = await kv.open("/more", OpenFlags(write=True, create=True))
    await sweep(kv)
    assert not told.paths
    clock.advance(6)
    with pytest.raises(QuotaExceeded):
        await kv.write(more, 0, b"x")
    await kv.close(more)
    await sweep(kv)
    await sweep(kv)
    assert told.paths == [*(f"/k{number:02}" for number in range(100)), "/more"]
    assert told.sweeps == 4
    assert (quota.bytes_used, quota.files_used) == (0, 0)
    with kv.provider._store.reading() as tx:
        assert not list(tx.scan(b"X", b"X"))
        assert not list(tx.scan(b"D", b"D"))


async def test_a_timer_takes_them_out_when_it_is_their_time(make: Any):
    """Also one that is set to expire before the others."""
    kv = await make(clock=SystemClock(), ttl_s=1000)
    told = begin(kv)
    await make_file(kv, "/long", b"x")
    await make_file(kv, "/short", b"x")
    await make_file(kv, "/.ttl/short", b"0.05")
    async with asyncio.timeout(30):
        await told.something.wait()
    assert told.paths == ["/short"]
    assert await exists(kv, "/long")


async def test_one_that_is_in_the_way_is_told_before_what_found_it(make: Any, clock: ManualClock):
    """And not again; one that was in the way of what failed is told when it goes."""
    kv = await make(ttl_s=5)
    told = begin(kv)
    await make_directory(kv, "/d")
    for path in ("/new", "/target", "/d/in", "/uploaded", "/missing"):
        await make_file(kv, path, b"x")
    clock.advance(6)
    await make_file(kv, "/source", b"y")
    await make_file(kv, "/new", b"y")
    assert told.paths == ["/new"]
    await kv.wstat("/source", StatChanges(name="/target"))
    await kv.remove("/d")
    assert told.paths == ["/new", "/target", "/d/in"]
    staged, _ = await kv.open("/uploaded", REPLACE)
    assert told.paths[3:] == []
    await kv.close(staged)
    assert told.paths[3:] == ["/uploaded"]
    with pytest.raises(NotFound):
        await kv.remove("/missing")
    await sweep(kv)
    assert told.paths[4:] == ["/missing"]


async def test_writing_through_a_handle_does_not_bring_an_expired_key_back(
    make: Any, clock: ManualClock
):
    kv = await make(ttl_s=5)
    told = begin(kv)
    await make_file(kv, "/k", b"x")
    handle, _ = await kv.open("/k", OpenFlags(write=True))
    clock.advance(6)
    await kv.write(handle, 0, b"y")
    assert not await exists(kv, "/k")
    await kv.close(handle)
    await sweep(kv)
    assert told.paths == ["/k"]


async def test_what_a_restart_finds_expired_is_told_by_the_path_where_it_is(
    make: Any, clock: ManualClock
):
    """Nothing goes before somebody is there to be told; and nothing when the mount closes."""
    kv = await make()
    await make_directory(kv, "/d")
    await make_directory(kv, "/d/e")
    await make_file(kv, "/d/e/k", b"x")
    await make_file(kv, "/.ttl/d/e/k", b"5")
    await kv.wstat("/d", StatChanges(name="/c"))
    clock.advance(6)
    await make_directory(kv, "/other")
    if not kv.provider.volatile:
        await kv.aclose()
        kv = await make()
    told = begin(kv)
    told.closed = True
    with pytest.raises(OwnerUnavailable):
        await sweep(kv)
    told.closed = False
    await sweep(kv)
    assert told.paths == ["/c/e/k"]


async def test_a_store_that_fails_is_asked_again_and_nothing_is_told_twice(
    make: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    kv = await make(ttl_s=5)
    told = begin(kv)
    await make_file(kv, "/k", b"x")
    clock.advance(6)

    def fails(*_: Any) -> Any:
        raise BackendUnavailable("no")

    with monkeypatch.context() as patch:
        patch.setattr(kv.provider._store, "apply", fails)
        with pytest.raises(BackendUnavailable):
            await sweep(kv)
    assert not told.paths
    await sweep(kv)
    assert told.paths == ["/k"]
