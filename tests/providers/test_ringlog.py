"""The log under topics and streams: what is kept, what readers get, what they are told is lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs9.errors import Conflict, InvalidArgument, QuotaExceeded
from fs9.providers.ringlog import END, Bounds, Log, LogFollower, Memory, Tape, parse_cursor
from fs9.quota import Quota


def make_log(
    entries: int = 5, bytes_max: int = 1000, end: bytes = b"\n", quota: Quota | None = None
) -> Log:
    return Log(7, Bounds(entries, bytes_max), end, quota, 0)


def add(log: Log, *words: bytes, now_ns: int = 0) -> None:
    for word in words:
        log.commit(log.prepare(word, now_ns))


def lost_line(count: int) -> bytes:
    return b"[%d lost]\n" % count


def test_the_bounds():
    """By number, by bytes (the newest entry always stays), and by age."""
    log = make_log(entries=2)
    add(log, b"1", b"2", b"3")
    assert (log.first, log.next, log.bytes_kept) == (2, 4, 2)
    log = make_log(bytes_max=10)
    add(log, b"x" * 6, b"y" * 6, b"z" * 50)
    assert (log.first, log.next, log.bytes_kept) == (3, 4, 50)
    log = Log(1, Bounds(100, 1000, age_s=2.0), b"", None, 0)
    add(log, b"old", now_ns=0)
    add(log, b"new", now_ns=1_500_000_000)
    log.trim(2_500_000_000)
    assert Tape(log, 100).read(0, 10) == b"new"


def test_the_quota_counts_what_is_kept():
    quota = Quota(bytes_max=10)
    log = make_log(entries=2, quota=quota)
    add(log, b"1234", b"1234")
    assert quota.bytes_used == 8
    with pytest.raises(QuotaExceeded):
        log.prepare(b"1234", 0)
    add(log, b"12")
    assert (quota.bytes_used, log.bytes_kept) == (6, 6)
    log.refuse(log.prepare(b"1", 0))
    assert quota.bytes_used == 6


def test_the_logs_of_a_mount_share_its_memory():
    """Whatever their bounds: each lets go of its own oldest entries, empty ones too."""
    memory = Memory(10_000)
    one, other = (Log(1, Bounds(10**9, 10**9), b"", None, 0, memory) for _ in range(2))
    add(other, b"x" * 3000)
    for _ in range(100):
        add(one, b"")
        assert memory.used <= memory.bytes_max
    assert 10 < one.next - one.first < 30
    assert other.first == 1
    with pytest.raises(QuotaExceeded, match="max_memfs_bytes"):
        one.prepare(b"x" * 7000, 0)
    assert one.next - one.first > 10
    one.retire()
    add(other, b"x" * 5000)
    other.retire()
    assert memory.used == 0


def test_what_somebody_reads_counts_though_it_is_removed():
    memory, quota = Memory(10_000), Quota()
    quota.found(0, 1)
    log = Log(1, Bounds(100, 10**9), b"", quota, 0, memory)
    add(log, b"1234")
    reader = Tape(log, 100)
    log.readers.add(reader)
    log.retire()
    assert (quota.bytes_used, quota.files_used, reader.read(0, 9)) == (4, 1, b"1234")
    assert memory.used
    log.leave(reader)
    assert (quota.bytes_used, quota.files_used, memory.used) == (0, 0, 0)


def test_a_patient_log_lets_go_of_nothing_that_is_awaited():
    log = Log(1, Bounds(100, 10**9), b"", None, 0, Memory(10_000))
    log.patient = True
    add(log, b"x" * 6000)
    reader = Tape(log, 100)
    log.readers.add(reader)
    with pytest.raises(QuotaExceeded):
        log.prepare(b"x" * 6000, 0)
    reader.reach(6000)
    add(log, b"x" * 6000)
    assert log.first == 2


def test_a_new_reader_gets_the_history():
    log = make_log()
    add(log, b"a", b"b", b"c")
    assert Tape(log, 2).read(0, 100) == b"b\nc\n"
    assert Tape(log, 100).read(0, 100) == b"a\nb\nc\n"


def test_a_slow_reader_is_told_in_place():
    """Once, where the bytes are missing; asked again, it gets the same again."""
    log = make_log(entries=2)
    tape = Tape(log, 5, lost_line)
    add(log, b"a")
    assert tape.read(0, 100) == b"a\n"
    add(log, b"b", b"c", b"d", b"e")
    assert tape.read(2, 100) == b"[2 lost]\n"
    assert tape.read(2, 4) == b"[2 l"
    assert tape.read(6, 100) == b"ost]\n"
    assert tape.read(11, 100) == b"d\ne\n"
    assert tape.read(13, 2) == b"e\n"
    assert tape.read(15, 2) == b""
    assert log.lost == 2
    with pytest.raises(InvalidArgument, match="gone"):
        tape.read(0, 1)


def test_without_a_marker_a_loss_is_an_error_once():
    log = make_log(entries=1, end=b"")
    tape = Tape(log, 5)
    add(log, b"aa", b"bb", b"cc")
    with pytest.raises(Conflict, match="4 bytes were lost"):
        tape.read(0, 100)
    assert tape.read(0, 100) == b"cc"
    assert tape.read(2, 100) == b""


@given(
    st.lists(
        st.one_of(st.binary(max_size=9), st.tuples(st.integers(0, 2), st.integers(1, 12))),
        max_size=60,
    ),
    st.integers(1, 6),
)
def test_every_reader_gets_every_byte_once_or_is_told(steps: list, entries: int):
    """Invariant tested: what a reader got, with its losses put in, is all that was written."""
    log = make_log(entries=entries, bytes_max=30)
    written: list[bytes] = []
    marks: list[int] = []

    def marker(count: int) -> bytes:
        marks.append(count)
        return b"\xff"

    readers = [[Tape(log, 10**6, marker), b""] for _ in range(3)]
    for step in steps:
        if isinstance(step, bytes):
            word = step.replace(b"\xff", b"?").replace(b"\n", b"?")
            written.append(word)
            add(log, word)
        else:
            reader = readers[step[0]]
            reader[1] += reader[0].read(len(reader[1]), step[1])
    for tape, seen in readers:
        while piece := tape.read(len(seen), 5):
            seen += piece
        first, *later = seen.split(b"\xff")
        whole = b"".join(word + b"\n" for word in written)
        assert whole.startswith(first)
        for part in later:
            assert part in whole
        assert whole.endswith(later[-1] if later else first)
    assert log.lost == sum(marks)


async def test_a_follower_gets_messages_and_cursors():
    log = make_log()
    add(log, b"a", b"b")
    follower = LogFollower(log, None, 9)
    delivery = await follower.next(0)
    assert [message.data for message in delivery.messages] == [b"a", b"b"]
    assert (await follower.next(0)).messages == ()
    resumed = LogFollower(log, delivery.messages[0].cursor, 9)
    assert [message.data for message in (await resumed.next(0)).messages] == [b"b"]
    newcomer = LogFollower(log, END, 9)
    waiting = asyncio.create_task(newcomer.next(60))
    await asyncio.sleep(0)
    add(log, b"c")
    assert [message.data for message in (await waiting).messages] == [b"c"]
    log.end()
    assert (await newcomer.next(60)).ended
    assert [message.data for message in (await follower.next(60)).messages] == [b"c"]


async def test_a_follower_is_told_what_it_missed():
    """How many; and that nobody knows, when the log is another one."""
    log = make_log(entries=2)
    follower = LogFollower(log, None, 9)
    add(log, *(b"%d" % number for number in range(5)))
    delivery = await follower.next(0)
    assert (delivery.lost, [message.data for message in delivery.messages]) == (3, [b"3", b"4"])
    assert log.lost == 3
    for cursor in ("6-1", "7-99"):
        other = await LogFollower(log, cursor, 9).next(0)
        assert (other.lost, len(other.messages)) == (-1, 2)


async def test_closing_a_follower_ends_its_wait():
    log = make_log()
    follower = LogFollower(log, None, 1)
    with pytest.raises(QuotaExceeded):
        LogFollower(log, None, 1)
    waiting = asyncio.create_task(follower.next(60))
    await asyncio.sleep(0)
    follower.close()
    assert (await waiting).messages == ()
    assert not log.readers
    assert not log._waiters


@pytest.mark.parametrize("cursor", ["x", "-", "1-", "-1", "g-1", "1-1-1", "1" * 50 + "-1"])
def test_what_is_no_cursor(cursor: str):
    with pytest.raises(InvalidArgument, match="cursor"):
        parse_cursor(cursor)


def test_a_delivery_is_bounded():
    """By number and by bytes, but a message always fits."""

    async def deliveries() -> list[int]:
        log = Log(1, Bounds(5000, 10**9), b"", None, 0)
        add(log, *(b"x" for _ in range(1500)), b"y" * 2_000_000, b"z")
        follower = LogFollower(log, None, 1)
        counts = []
        while messages := (await follower.next(0)).messages:
            counts.append(len(messages))
        return counts

    assert asyncio.run(deliveries()) == [1000, 501, 1]
