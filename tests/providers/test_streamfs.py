"""streamfs beyond the common suite: losses, back-pressure, waiting readers, the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import Conflict, InvalidArgument, NotFound, Overloaded
from fs9.limits import Limits
from fs9.providers import streamfs
from fs9.providers.registry import ProviderContext
from fs9.types import READ, WRITE
from tests.conformance.driver import ProviderDriver
from tests.conformance.message_suite import all_of, publish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.threads import BlockingPool


@pytest.fixture
def make(tmp_path: Path, clock: ManualClock, pool: BlockingPool) -> Callable[..., Awaitable[Any]]:
    async def make(**config: Any) -> ProviderDriver:
        context = ProviderContext("acme", tmp_path, Limits(), clock, pool)
        return ProviderDriver(await streamfs.create(config, context))

    return make


async def test_a_stream_is_bytes(make: Any):
    """Chunks have no separators; the size is all that was ever written."""
    stream = await make(ring_size=2, channel_size=2)
    await publish(stream, "/s", b"one\n", b"\0two", b"3")
    info = await stream.stat("/s")
    assert (info.size, info.mode) == (9, 0o644)
    assert await all_of(stream, "/s") == b"\0two3"


async def test_a_reader_from_before_the_first_chunk_gets_each_once(make: Any):
    stream = await make()
    await publish(stream, "/s")
    readers = [(await stream.open("/s", READ))[0] for _ in range(2)]
    for number in range(5):
        await publish(stream, "/s", b"%d" % number)
    for reader in readers:
        assert bytes(await stream.read(reader, 0, 100)) == b"01234"


async def test_a_loss_is_an_error_once(make: Any):
    """It says how much; at the same offset the stream goes on."""
    stream = await make(ring_size=2, channel_size=2)
    await publish(stream, "/s", b"aa")
    reader, _ = await stream.open("/s", READ)
    await publish(stream, "/s", b"bb", b"cc", b"dd")
    with pytest.raises(Conflict, match="4 bytes were lost"):
        await stream.read(reader, 0, 100)
    assert bytes(await stream.read(reader, 0, 100)) == b"ccdd"


async def test_the_ring_is_bounded_by_bytes(make: Any):
    stream = await make(ring_bytes=1000)
    await publish(stream, "/s", *(b"%d" % number * 300 for number in range(9)))
    assert await all_of(stream, "/s") == b"6" * 300 + b"7" * 300 + b"8" * 300
    stats = await stream.statfs("/")
    assert stats.total_bytes - stats.free_bytes == 900


async def test_back_pressure_makes_writers_wait(make: Any):
    """Until the slowest reader has read on, or has gone; nothing is lost."""
    stream = await make(ring_size=2, channel_size=2, back_pressure=True, write_wait_s=20)
    await publish(stream, "/s", b"a", b"b")
    slow, _ = await stream.open("/s", READ)
    writer, _ = await stream.open("/s", WRITE)
    writing = asyncio.create_task(stream.write(writer, 0, b"c"))
    await _turns()
    assert not writing.done()
    assert bytes(await stream.read(slow, 0, 1)) == b"a"
    await _turns()
    assert not writing.done()  # that answer may not have arrived
    assert bytes(await stream.read(slow, 1, 1)) == b"b"
    assert await writing == 1
    writing = asyncio.create_task(stream.write(writer, 0, b"d"))
    await _turns()
    assert not writing.done()
    await stream.close(slow)
    await writing
    assert await all_of(stream, "/s") == b"cd"


async def test_back_pressure_holds_for_followers(make: Any):
    stream = await make(ring_size=1, channel_size=1, back_pressure=True, write_wait_s=20)
    await publish(stream, "/s")
    follower = await stream.provider.follow("/s", None)
    got: list[bytes] = []

    async def follow() -> None:
        ended = False
        while not ended:
            delivery = await follower.next(20)
            assert delivery.lost == 0
            got.extend(message.data for message in delivery.messages)
            ended = delivery.ended
            await asyncio.sleep(0)

    following = asyncio.create_task(follow())
    await publish(stream, "/s", *(b"%d" % number for number in range(50)))
    await stream.remove("/s")
    await following
    assert got == [b"%d" % number for number in range(50)]


async def test_a_writer_that_waits_too_long_is_told(make: Any):
    stream = await make(ring_size=1, channel_size=1, back_pressure=True, write_wait_s=0)
    await publish(stream, "/s", b"a")
    reader, _ = await stream.open("/s", READ)
    with pytest.raises(Overloaded):
        await publish(stream, "/s", b"b")
    assert bytes(await stream.read(reader, 0, 9)) == b"a"


async def test_a_writer_that_waits_learns_of_the_removal(make: Any):
    stream = await make(ring_size=1, channel_size=1, back_pressure=True, write_wait_s=20)
    await publish(stream, "/s", b"a")
    await stream.open("/s", READ)
    writing = asyncio.create_task(publish(stream, "/s", b"b"))
    await _turns()
    await stream.remove("/s")
    with pytest.raises(NotFound):
        await writing


async def test_a_write_to_what_was_removed_is_about_its_path(make: Any):
    """The error says the path and nothing else, because clients take its text for the path."""
    stream = await make()
    writer, _ = await stream.open("/s", WRITE)
    await stream.remove("/s")
    with pytest.raises(NotFound) as refused:
        await stream.write(writer, 0, b"late")
    assert refused.value.detail == "/s"


async def test_a_read_may_wait(make: Any):
    """Until something comes, or the stream ends; not longer than is set."""
    stream = await make(read_wait_s=20)
    await publish(stream, "/s", b"a")
    reader, _ = await stream.open("/s", READ)
    assert bytes(await stream.read(reader, 0, 9)) == b"a"
    reading = asyncio.create_task(stream.read(reader, 1, 9))
    await _turns()
    assert not reading.done()
    await publish(stream, "/s", b"b")
    assert bytes(await reading) == b"b"
    reading = asyncio.create_task(stream.read(reader, 2, 9))
    await _turns()
    await stream.remove("/s")
    assert bytes(await reading) == b""


async def test_a_stream_ends_with_its_last_writer(make: Any):
    """Its mode says so; readers get the rest; the next writer begins another one."""
    stream = await make(end_with_last_writer=True)
    first, _ = await stream.open("/s", WRITE)
    second, _ = await stream.open("/s", WRITE)
    await stream.write(first, 0, b"1")
    reader, _ = await stream.open("/s", READ)
    follower = await stream.provider.follow("/s", None)
    await stream.close(first)
    await stream.write(second, 0, b"2")
    assert (await stream.stat("/s")).mode == 0o644
    await stream.close(second)
    assert (await stream.stat("/s")).mode == 0o444
    delivery = await follower.next(0)
    assert ([message.data for message in delivery.messages], delivery.ended) == (
        [b"1", b"2"],
        True,
    )
    await publish(stream, "/s", b"new")
    assert bytes(await stream.read(reader, 0, 9)) == b"12"
    assert await all_of(stream, "/s") == b"new"


@pytest.mark.parametrize(
    "config", [{"ring_size": 0}, {"read_wait_s": 21}, {"write_wait_s": -1}, {"chunks": 5}]
)
async def test_a_wrong_config_is_refused(make: Any, config: dict[str, Any]):
    with pytest.raises(InvalidArgument, match="streamfs"):
        await make(**config)


async def _turns() -> None:
    """Let the others go as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)
