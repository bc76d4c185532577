"""pubsubfs beyond the common suite: topics, their info, losses, and topics on disk."""

from __future__ import annotations

import asyncio
import random
import re
from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import InvalidArgument, NotSupported, PermissionDenied, QuotaExceeded
from fs9.limits import Limits
from fs9.providers import kvstore, pubsubfs
from fs9.providers.losses import Losses
from fs9.providers.registry import ProviderContext
from fs9.quota import Quota
from fs9.types import READ, OpenFlags
from tests.conformance.driver import ProviderDriver
from tests.conformance.message_suite import all_of, publish
from tests.conformance.steps import exists, names_in
from tests.providers.killed import last_answered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.threads import BlockingPool

_RW = OpenFlags(read=True, write=True, create=True, truncate=True)


@pytest.fixture
async def make(tmp_path: Path, clock: ManualClock, pool: BlockingPool) -> AsyncIterator[Any]:
    """Makes a driver of pubsubfs, on the same directory each time."""
    made: list[ProviderDriver] = []

    async def make(
        *,
        quota: Quota | None = None,
        losses: Losses | None = None,
        limits: Limits | None = None,
        **config: Any,
    ) -> ProviderDriver:
        for driver in made:
            await driver.aclose()
        made.clear()
        context = ProviderContext(
            "acme", tmp_path, limits or Limits(), clock, pool, quota, losses=losses or Losses()
        )
        made.append(ProviderDriver(await pubsubfs.create(config, context)))
        return made[0]

    yield make
    for driver in made:
        await driver.aclose()


async def test_a_topic_and_its_info(make: Any):
    """Topics are for their owner alone, have no size, and tell about themselves."""
    ps = await make()
    await publish(ps, "/chat", b"one\n", b"two", b"three\n\n")
    assert await all_of(ps, "/chat") == b"one\ntwo\nthree\n\n"
    info = await ps.stat("/chat")
    assert (info.mode, info.size) == (0o600, 0)
    assert await names_in(ps, "/") == ["README", "chat", "chat.info"]
    reader, _ = await ps.open("/chat", READ)
    text = (await all_of(ps, "/chat.info")).decode()
    assert (await ps.stat("/chat.info")).size == len(text)
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(
        rf"name: chat\nsubscribers: 1\nmessages: 3\nring_size: 100\n"
        rf"created: {time}\nmodified: {time}\n",
        text,
    )
    await ps.close(reader)
    assert "subscribers: 0" in (await all_of(ps, "/chat.info")).decode()
    with pytest.raises(PermissionDenied):
        await ps.remove("/chat.info")
    with pytest.raises(PermissionDenied):
        await publish(ps, "/other.info", b"x")
    await ps.remove("/chat")
    assert not await exists(ps, "/chat.info")


async def test_a_lagging_reader_reads_a_line_where_messages_are_missing(make: Any):
    """And the topic counts them, as the worker does."""
    losses = Losses()
    ps = await make(losses=losses, default_ring_size=2, default_channel_size=3)
    reader, _ = await ps.open("/t", _RW)
    await publish(ps, "/t", *(b"%d" % number for number in range(8)))
    assert bytes(await ps.read(reader, 0, 100)) == b"[5 messages lost]\n"
    assert bytes(await ps.read(reader, 18, 100)) == b"5\n6\n7\n"
    assert await all_of(ps, "/t") == b"6\n7\n"
    assert (await all_of(ps, "/t.info")).endswith(b"\nlost: 5\n")
    follower = await ps.provider.follow("/t", None)
    await publish(ps, "/t", *(b"%d" % number for number in range(4)))
    assert (await follower.next(0)).lost == 4
    follower.close()
    assert losses.of("pubsubfs") == 9


async def test_a_message_is_not_read_after_its_time(make: Any, clock: ManualClock):
    """Also by whoever had the topic open when it came."""
    ps = await make(retention_s=10)
    reader, _ = await ps.open("/t", _RW)
    await publish(ps, "/t", b"old")
    clock.advance(11)
    assert bytes(await ps.read(reader, 0, 100)) == b"[1 messages lost]\n"


async def test_readers_and_topics_are_bounded(make: Any):
    ps = await make(subscribers_max=2, topics_max=2)
    for name in ("/a", "/b"):
        await publish(ps, name, b"x")
    with pytest.raises(QuotaExceeded):
        await publish(ps, "/c", b"x")
    handles = [(await ps.open("/a", READ))[0] for _ in range(2)]
    for one_more in (ps.open("/a", READ), ps.provider.follow("/a", None)):
        with pytest.raises(QuotaExceeded):
            await one_more
    await ps.close(handles[0])
    (await ps.provider.follow("/a", None)).close()
    with pytest.raises(NotSupported):
        await ps.provider.follow("/README", None)


@pytest.mark.parametrize(
    "config", [{"default_ring_size": 0}, {"topics_max": -1}, {"ring_size": 5}, {"persistent": 3}]
)
async def test_a_wrong_config_is_refused(make: Any, config: dict[str, Any]):
    with pytest.raises(InvalidArgument, match="pubsubfs"):
        await make(**config)


# -- on disk ------------------------------------------------------------------------------------


async def test_topics_last(make: Any, clock: ManualClock):
    """Messages, cursors and counts are what they were; only what is retained is kept."""
    config = {"persistent": True, "retention_messages": 3, "retention_s": 100}
    ps = await make(**config)
    await publish(ps, "/t", b"1", b"2", b"3", b"4")
    await publish(ps, "/gone", b"x")
    await ps.remove("/gone")
    before = await ps.stat("/t")
    follower = await ps.provider.follow("/t", None)
    cursor = (await follower.next(0)).messages[1].cursor
    quota = Quota()
    ps = await make(**config, quota=quota)
    assert (quota.bytes_used, quota.files_used) == (3, 1)
    assert await names_in(ps, "/") == ["README", "t", "t.info"]
    after = await ps.stat("/t")
    assert (after.etag, after.mtime_ns) == (before.etag, before.mtime_ns)
    assert await all_of(ps, "/t") == b"2\n3\n4\n"
    await publish(ps, "/t", b"5")
    follower = await ps.provider.follow("/t", cursor)
    assert [message.data for message in (await follower.next(0)).messages] == [b"4", b"5"]
    clock.advance(101)
    assert await all_of(await make(**config), "/t") == b""


async def test_many_publishers_share_commits(make: Any, monkeypatch: pytest.MonkeyPatch):
    """Each message comes once, in one order for all, and few commits are made for many."""
    ps = await make(persistent=True)
    commits = []
    apply = kvstore.LmdbStore.apply
    monkeypatch.setattr(
        kvstore.LmdbStore, "apply", lambda self, changes: commits.append(1) or apply(self, changes)
    )
    follower = await _followed(ps, "/t")
    await asyncio.gather(*(publish(ps, "/t", b"%d" % number) for number in range(100)))
    seen = [message.data for message in (await follower.next(0)).messages]
    assert sorted(map(int, seen)) == list(range(100))
    assert await all_of(ps, "/t") == b"".join(word + b"\n" for word in seen)
    assert len(commits) < 20


async def test_two_make_one_topic(make: Any):
    """At the same time: there is one, and both messages are in it."""
    for persistent in (False, True):
        ps = await make(persistent=persistent)
        await asyncio.gather(publish(ps, "/new", b"a"), publish(ps, "/new", b"b"))
        assert sorted((await all_of(ps, "/new")).split()) == [b"a", b"b"]
    ps = await make(persistent=True)
    assert sorted((await all_of(ps, "/new")).split()) == [b"a", b"b"]


async def test_a_publish_that_is_refused_leaves_no_gap(make: Any):
    """The quota refuses one of several in a commit; numbers go on without a hole."""
    quota = Quota(bytes_max=10)
    ps = await make(persistent=True, quota=quota)
    follower = await _followed(ps, "/t")
    words = (b"1234", b"x" * 20, b"5678")
    outcomes = await asyncio.gather(
        *(publish(ps, "/t", word) for word in words), return_exceptions=True
    )
    assert [isinstance(outcome, QuotaExceeded) for outcome in outcomes] == [False, True, False]
    delivery = await follower.next(0)
    assert (delivery.lost, [message.data for message in delivery.messages]) == (
        0,
        [b"1234", b"5678"],
    )
    assert quota.bytes_used == 8


async def test_of_a_removed_topic_memory_has_the_newest(make: Any):
    """As far as there is room: the reader is told of the rest. It counts until they close."""
    quota = Quota()
    ps = await make(persistent=True, quota=quota, limits=Limits(memfs_bytes_max=20_000))
    reader, _ = await ps.open("/t", _RW)
    await publish(ps, "/t", *(b"%d" % number * 4000 for number in range(9)))
    await ps.remove("/t")
    gap = await ps.read(reader, 0, 50_000)
    assert gap == b"[5 messages lost]\n"
    content = await ps.read(reader, len(gap), 50_000)
    assert content == b"".join(b"%d" % number * 4000 + b"\n" for number in range(5, 9))
    assert (quota.bytes_used, quota.files_used) == (4 * 4000, 1)
    await ps.close(reader)
    assert (quota.bytes_used, quota.files_used) == (0, 0)


#: For `last_answered`.
_VICTIM = """
import asyncio, sys
from pathlib import Path
from fs9.clock import SystemClock
from fs9.limits import Limits
from fs9.providers import pubsubfs
from fs9.providers.registry import ProviderContext
from fs9.threads import BlockingPool
from fs9.types import WRITE

async def main():
    context = ProviderContext("acme", Path(sys.argv[1]), Limits(), SystemClock(), BlockingPool(2))
    ps = await pubsubfs.create({"persistent": True, "retention_messages": 40}, context)
    file, _ = await ps.open("/t", WRITE)
    number = ps._logs["t"].next
    while True:
        await ps.write(file, 0, b"%d" % number)
        print(number, flush=True)
        number += 1

asyncio.run(main())
"""


async def test_killed_at_any_time(make: Any, tmp_path: Path):
    """What was answered is there, once and in order, as far as it is retained."""
    for _ in range(3):
        answered = last_answered(_VICTIM, tmp_path, random.randrange(2, 80))
        ps = await make(persistent=True, retention_messages=40)
        numbers = [int(word) for word in (await all_of(ps, "/t")).split()]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert numbers[-1] in {answered, answered + 1}
        assert len(numbers) == min(40, numbers[-1])
        await ps.aclose()


# -------------------------------------------------------------------------------------------


async def _followed(ps: ProviderDriver, path: str) -> Any:
    handle, _ = await ps.open(path, _RW)
    await ps.close(handle)
    return await ps.provider.follow(path, None)
