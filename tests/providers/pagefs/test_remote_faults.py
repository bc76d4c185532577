"""The fault matrix on what several hosts share: PostgreSQL, S3, SlateDB.

Each operation is killed at some of its steps, and fails at some: afterwards the tree is as before
or as after, the check finds no fault and no garbage, and the counters are exact. Which steps an
operation has is found out on stores in memory that behave alike; a sample of them, another one
for each operation, is tried here. `pytest -s` prints how many of how many.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from fs9.clock import SystemClock
from fs9.errors import BackendUnavailable, Fs9Error
from fs9.limits import Limits
from fs9.providers.pagefs import pgstore, s3blocks, slatestore
from fs9.providers.pagefs.core import Core, Policy
from fs9.providers.pagefs.memory import Memory, MemoryBlocks, MemoryStore
from fs9.providers.pagefs.pgconnections import Connections
from fs9.providers.pagefs.provider import PageFs
from fs9.providers.pagefs.s3client import Bucket, S3Client
from fs9.providers.pagefs.s3lease import S3Lease
from fs9.providers.pagefs.store import Batch
from tests.providers.pagefs.faults import Crash, FaultPoints, FaultyBlocks, FaultyMeta
from tests.providers.pagefs.scenario import BRANCHING, OPERATIONS, Operation, look, make_tree
from tests.providers.pagefs.test_faults import check, differences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fs9.providers.pagefs.pgstore import PostgresStore
    from fs9.providers.pagefs.slatestore import SlateStore
    from fs9.providers.pagefs.store import BlockStore, Item
    from tests.fix_postgres import PostgresServer
    from tests.fix_s3 import S3Server

#: Stores -> at how many steps of an operation it is killed, and how often one step fails.
SAMPLES = {"postgres+inline": (2, 1.0), "postgres+s3": (3, 1.0), "slatedb+s3": (1, 0.3)}
_END = b"\xff" * 16


class WholeObjects(MemoryBlocks):
    """As in S3."""

    appends = False
    put_bytes_max = s3blocks.S3Blocks.put_bytes_max


@dataclass
class Rehearsal:
    """What an operation does to the scenario's tree: its steps, and what is seen."""

    items: list[Item]
    objects: dict[str, bytes]
    points: list[str]
    before: Any
    after: Any

    @classmethod
    async def of(cls, operation: Operation, *, inline: bool) -> Rehearsal:
        memory, objects = Memory(), dict[str, bytearray]()
        fs, _ = await started(MemoryStore(memory), blocks_in(objects, inline=inline))
        await make_tree(fs, snapshot=inline or operation in BRANCHING)
        await fs.aclose()
        items = list(memory.table.items.items())
        kept = {name: bytes(data) for name, data in objects.items()}
        fs, points = await started(MemoryStore(memory), blocks_in(objects, inline=inline))
        before = await look(fs)
        points.arm()
        await operation(fs)
        hits = list(points.hits)
        points.armed = False
        after = await look(fs)
        await fs.aclose()
        return cls(items, kept, hits, before, after)


def blocks_in(objects: dict[str, bytearray], *, inline: bool) -> BlockStore | None:
    return None if inline else WholeObjects(objects, 2**30)


async def started(store: Any, blocks: BlockStore | None) -> tuple[PageFs, FaultPoints]:
    points = FaultPoints()
    meta: Any = FaultyMeta(store, None, points)
    faulty: Any = None if blocks is None else FaultyBlocks(blocks, None, points)
    fs = PageFs(Core(meta, faulty, Policy(inline_bytes=64), Limits(), SystemClock()))
    await fs.start()
    return fs, points


async def stopped(fs: PageFs, points: FaultPoints) -> None:
    """As the process ends: nothing more happens."""
    points.dead = True
    core = fs.core
    tasks = [task for task in (*core._tasks, core._tidying) if task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Storage:
    """One storage on the real servers, opened by one process after the other."""

    def __init__(self, kind: str, place: str, dsn: str, bucket: Bucket) -> None:
        self._kind = kind
        self._place = place
        self._dsn = dsn
        self._bucket = bucket
        self._store: PostgresStore | SlateStore | None = None
        #: Of the objects there are: what a reset need not put again.
        self.blocks: BlockStore | None = None

    async def open(self) -> PostgresStore | SlateStore:
        """As a new process; the one before, if any, died."""
        before = self._store
        clock = SystemClock()
        if "s3" in self._kind and self.blocks is None:
            self.blocks = await s3blocks.open_blocks(self._bucket, clock)
        if "postgres" in self._kind:
            limits = {"lease_s": 600, "wait_s": 30, "timeout_s": 60}
            store: Any = await pgstore.open_store(self._dsn, self._place, "host", clock, **limits)
        else:
            client = S3Client(self._bucket, clock)
            lease = S3Lease(client, f"{self._place}/lease", "host", clock, 600)
            await lease.take(30)
            path = f"{self._place}/meta"
            objects = s3blocks.S3Blocks(S3Client(Bucket(self._bucket.name, path), clock))
            store = await slatestore.open_store(
                self._bucket.name, path, lease, objects, timeout_s=60
            )
        self._store = store
        if before is not None:
            await self._end(before)
        return store

    async def _end(self, store: PostgresStore | SlateStore) -> None:
        """Of a store whose successor is open: it cannot do anything, but has threads."""
        store.lease.lost = "dead"
        with contextlib.suppress(Fs9Error):
            await store.aclose()

    async def reset(self, rehearsal: Rehearsal) -> None:
        assert self._store is not None
        changes: dict[bytes, bytes | None] = dict.fromkeys(
            [key for key, _ in await self._store.scan(b"", _END, 2000)]
        )
        await self._store.commit(Batch(changes | dict(rehearsal.items)))
        if self.blocks is None:
            return
        there = [name for name, _ in await self.blocks.list("", "", 2000)]
        await self.blocks.delete([name for name in there if name not in rehearsal.objects])
        for name, data in rehearsal.objects.items():
            if name not in there:
                await self.blocks.put(name, 0, data)

    async def close(self) -> None:
        if self._store is not None:
            await self._store.aclose()


@pytest.fixture(scope="module")
def counts() -> Iterator[Counter[tuple[str, str]]]:
    counts: Counter[tuple[str, str]] = Counter()
    yield counts
    for kind in SAMPLES:
        killed, failed, of = (counts[kind, how] for how in ("killed", "failed", "of"))
        text = f"killed at {killed} and failing at {failed} of the {of} steps"
        print(f"\n{kind}: {text} of {len(OPERATIONS)} operations", end="")


@pytest.mark.parametrize("kind", SAMPLES)
async def test_faults(
    kind: str,
    postgres: PostgresServer,
    s3: S3Server,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    counts: Counter[tuple[str, str]],
) -> None:
    """At a step of each operation the process dies, or its storage does not answer."""
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    place = f"faults-{kind}"
    bucket = Bucket(s3_bucket, f"{place}/objects", **s3.settings)
    dsn = postgres.new_database()
    storage = Storage(kind, place, dsn, bucket)
    connections = Connections.acquire(dsn, 8, 60) if "postgres" in kind else None
    dice = random.Random(kind)
    for operation in OPERATIONS:
        rehearsal = await Rehearsal.of(operation, inline="inline" in kind)
        kills, errors = SAMPLES[kind]
        possible = [point for point in rehearsal.points if ".after" not in point]
        counts[kind, "of"] += len(rehearsal.points)
        for point in dice.sample(rehearsal.points, min(kills, len(rehearsal.points))):
            await fail(storage, rehearsal, operation, point, None)
            counts[kind, "killed"] += 1
        if possible and dice.random() < errors:
            point = dice.choice(possible)
            error = BackendUnavailable("injected")
            await fail(storage, rehearsal, operation, point, error)
            counts[kind, "failed"] += 1
    await storage.close()
    if connections is not None:
        await connections.release()


async def fail(
    storage: Storage,
    rehearsal: Rehearsal,
    operation: Operation,
    point: str,
    error: Exception | None,
) -> None:
    before, after = rehearsal.before, rehearsal.after
    store = storage._store or await storage.open()
    await storage.reset(rehearsal)
    fs, points = await started(store, storage.blocks)
    await fs.core.settle()
    points.arm(point, error)
    done = True
    try:
        await operation(fs)
    except (Crash, Fs9Error):
        done = False
    await stopped(fs, points)
    fs, points = await started(await storage.open(), storage.blocks)
    seen = await look(fs)
    allowed = [after] if done else [before, after]
    assert seen in allowed, (operation, point, differences(seen, before, after))
    await check(fs)
    await stopped(fs, points)
