"""A log of writes under `pubsubfs` and `streamfs`: bounded, numbered, read by any number at once.

Every entry has a number, and a position: where its bytes begin in all that was ever written. A
reader is a place in the log and keeps no bytes, so a slow one costs nothing and holds nobody up;
what it asks for again it gets again. When the log has let go of what a reader wants next, the
reader is told how much is lost.

    Log          the entries, in memory; `fs9.providers.storedlog` has them on disk
    Memory       what the logs of one mount take of the worker's memory, and may
    Tape         a reader as a file: bytes at offsets, for handles
    LogFollower  a reader as messages, for `fs9.provider.Followable`

All of it belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from fs9.errors import Conflict, InvalidArgument, QuotaExceeded
from fs9.limits import KIB
from fs9.types import Delivery, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fs9.quota import Quota

#: What one delivery holds at most, unless a single message is larger: a follower who does not take
#: it costs as much.
_DELIVERY_BYTES = 64 * KIB
_DELIVERY_MESSAGES = 1000
#: Where a follower begins that has no cursor.
END = "end"
#: What an entry in memory, and a log, take beside their bytes: rather too much.
_ENTRY_BYTES = 256
_LOG_BYTES = 1024


class Entry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """`position` counts the terminators, too."""

    number: int
    position: int
    written_ns: int
    data: bytes


class Bounds(msgspec.Struct, frozen=True):
    """What a log keeps: the newest entries within all of these. The newest one always stays."""

    entries: int
    bytes_max: int
    age_s: float | None = None


class Memory:
    """The memory that the logs of one mount use, and its bound."""

    __slots__ = ("bytes_max", "used")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used = 0

    def check_log(self) -> None:
        """Raises QuotaExceeded when there is no room for one more log."""
        if self.used + _LOG_BYTES > self.bytes_max:
            raise self.exceeded()

    def lacks(self, size: int) -> bool:
        """Is the memory too full for an entry of this size?"""
        return self.used + _ENTRY_BYTES + size > self.bytes_max

    def exceeded(self) -> QuotaExceeded:
        return QuotaExceeded(
            f"what a mount keeps in memory may take {self.bytes_max} bytes of it"
            " (server.limits.max_memfs_bytes)"
        )


class Log:
    """`generation` is another for each log there ever was, so that no cursor fits a wrong one.

    `patient`: an entry that somebody may have yet to read is not let go for want of memory.
    """

    patient = False

    def __init__(
        self,
        generation: int,
        bounds: Bounds,
        terminator: bytes,
        quota: Quota | None,
        now_ns: int,
        memory: Memory | None = None,
    ) -> None:
        self.generation = generation
        self.bounds = bounds
        self.terminator = terminator
        self.created_ns = self.modified_ns = now_ns
        #: The oldest entry that is kept, and the next one to be written.
        self.first = self.next = 1
        self.position = 0
        self.bytes_kept = 0
        #: Entries that some reader did not get, counted for each reader.
        self.lost = 0
        self.on_lost: Callable[[int], None] = lambda count: None
        self.readers: set[Tape | LogFollower] = set()
        #: Nothing more is written: it was ended, or removed.
        self.ended = False
        self._retired = False
        self._quota = quota
        self._memory = memory
        if memory is not None:
            memory.used += _LOG_BYTES
        self._entries: dict[int, Entry] = {}
        self._waiters: set[asyncio.Future[None]] = set()

    # -- writing --------------------------------------------------------------------------------

    def prepare(self, data: bytes, now_ns: int, ahead: tuple[Entry, ...] = ()) -> Entry:
        """The entry for the data, after those `ahead` that are not in the log yet.

        Charged for; `commit` or `refuse` it. Raises QuotaExceeded.
        """
        self.make_room(len(data))
        if self._quota is not None:
            self._quota.charge(len(data))
        number, position = self.next, self.position
        if ahead:
            number = ahead[-1].number + 1
            position = ahead[-1].position + self.length(ahead[-1])
        return Entry(number, position, now_ns, data)

    def refuse(self, entry: Entry) -> None:
        if self._quota is not None:
            self._quota.charge(-len(entry.data))

    def commit(self, entry: Entry) -> None:
        """Add the prepared entry: readers see it from now on."""
        self.keep(entry)
        self.next = entry.number + 1
        self.position = entry.position + self.length(entry)
        self.bytes_kept += len(entry.data)
        self.modified_ns = entry.written_ns
        self.trim(entry.written_ns)
        self.wake()

    def make_room(self, size: int) -> None:
        """Let go of the oldest entries when the memory has no room for one of this size.

        Raises QuotaExceeded when the other logs have it all, and lets go of nothing then.
        """
        memory = self._memory
        if memory is None or not memory.lacks(size):
            return
        if memory.lacks(size - self.bytes_kept - _ENTRY_BYTES * len(self._entries)):
            raise memory.exceeded()
        while memory.lacks(size):
            oldest = self.entry(self.first)
            if self.patient and self._is_awaited(oldest):
                raise memory.exceeded()
            self._drop(oldest)

    def _is_awaited(self, entry: Entry) -> bool:
        """Does a reader still have to read this entry?"""
        end = entry.position + self.length(entry)
        return any(reader.reached < end for reader in self.readers)

    def keep(self, entry: Entry) -> None:
        self._entries[entry.number] = entry
        if self._memory is not None:
            self._memory.used += _ENTRY_BYTES + len(entry.data)

    def trim(self, now_ns: int) -> None:
        """Drop entries that exceed the bounds."""
        bounds = self.bounds
        age_ns = None if bounds.age_s is None else int(bounds.age_s * 1e9)
        while self.first < self.next:
            oldest = self.entry(self.first)
            kept = self.next - self.first
            over = kept > bounds.entries or (kept > 1 and self.bytes_kept > bounds.bytes_max)
            if not over and (age_ns is None or now_ns - oldest.written_ns <= age_ns):
                return
            self._drop(oldest)

    def _drop(self, oldest: Entry) -> None:
        self.first += 1
        self.bytes_kept -= len(oldest.data)
        self.forget(oldest)
        if self._quota is not None:
            self._quota.charge(-len(oldest.data))

    def forget(self, entry: Entry) -> None:
        del self._entries[entry.number]
        if self._memory is not None:
            self._memory.used -= _ENTRY_BYTES + len(entry.data)

    def end(self) -> None:
        """End the log: readers get what is kept, and then the end."""
        self.ended = True
        self.wake()

    def retire(self) -> None:
        """The log is removed; what it keeps counts until the last one who reads it leaves."""
        self._retired = True
        self._settle()

    def leave(self, reader: Tape | LogFollower) -> None:
        """Remove the reader."""
        self.readers.discard(reader)
        self.wake()
        self._settle()

    def _settle(self) -> None:
        if self._retired and not self.readers:
            self.give_back()
            self._entries.clear()  # whoever has it open for writing holds nothing else

    def give_back(self) -> None:
        """Stop counting what the log keeps."""
        if self._quota is not None:
            self._quota.found(-self.bytes_kept, -1)
            self._quota = None
        if self._memory is not None:
            held = sum(_ENTRY_BYTES + len(entry.data) for entry in self._entries.values())
            self._memory.used -= _LOG_BYTES + held
            self._memory = None

    def lose(self, count: int) -> None:
        """Count so many entries that a reader did not get."""
        self.lost += count
        self.on_lost(count)

    # -- reading --------------------------------------------------------------------------------

    def entry(self, number: int) -> Entry:
        """The entry with this number, which must be kept."""
        return self._entries[number]

    def length(self, entry: Entry) -> int:
        return len(entry.data) + len(self.terminator)

    def place(self, number: int) -> int:
        """The position where an entry begins that is kept or comes next."""
        return self.position if number >= self.next else self.entry(number).position

    def number_at(self, position: int) -> int:
        """The entry that has the byte at the position; the next one when that is the end."""
        low, high = self.first, self.next
        while low < high:
            middle = (low + high) // 2
            entry = self.entry(middle)
            if entry.position + self.length(entry) <= position:
                low = middle + 1
            else:
                high = middle
        return low

    def read(self, position: int, size: int) -> bytes:
        """At most so many bytes from a position that is kept; empty at the end."""
        pieces: list[bytes] = []
        for number in range(self.number_at(position), self.next):
            if size <= 0:
                break
            entry = self.entry(number)
            piece = (entry.data + self.terminator)[position - entry.position :][:size]
            pieces.append(piece)
            position += len(piece)
            size -= len(piece)
        return b"".join(pieces)

    # -- waiting --------------------------------------------------------------------------------

    def wake(self) -> None:
        """Wake those who wait for the log."""
        for waiter in self._waiters:
            _finish(waiter)

    async def wait(self, ready: Callable[[], bool], wait_s: float) -> None:
        """Wait for the condition, for a bounded time. Does not need to run in a task."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_s
        while not ready() and loop.time() < until_s:
            waiter: asyncio.Future[None] = loop.create_future()
            timer = loop.call_at(until_s, _finish, waiter)
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                timer.cancel()
                self._waiters.discard(waiter)


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Tape:
    """The log as one reader's file: offset 0 is the oldest of `history` entries at its open.

    An offset always has the same bytes. Where entries are lost, `marker` makes the bytes that say
    so; without it the read fails once (Conflict), and the next one goes on behind the gap.
    """

    __slots__ = ("_gap", "_log", "_marker", "_number", "_offset", "_position", "reached")

    def __init__(
        self, log: Log, history: int, marker: Callable[[int], bytes] | None = None
    ) -> None:
        number = max(log.first, log.next - history)
        self._log = log
        self._marker = marker
        #: `_position` of the log is at `_offset` of the file; `_gap` is what stands before it.
        self._offset = 0
        self._position = log.place(number)
        self._gap = b""
        self._number = number
        #: The position up to which the reader has read on: all before it is done with.
        self.reached = self._position

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from the offset; empty at the end, or while nothing follows.

        Raises InvalidArgument for an offset of long ago.
        """
        log = self._log
        position = self._position + offset - self._offset
        if position < self._position:
            return self._read_gap(offset, size)
        start = log.place(log.first)
        if position < start:
            lost = log.first - self._number
            log.lose(lost)
            self._skip(offset, position, start, lost)
            return self.read(offset, size)
        data = log.read(position, size)
        self.reach(offset)
        self._number = log.number_at(position + len(data))
        return data

    def reach(self, offset: int) -> None:
        """The reader asks for what is at the offset: it is done with all before."""
        position = self._position + offset - self._offset
        if position > self.reached:
            self.reached = position
            self._log.wake()  # a writer may wait for this reader

    def _skip(self, offset: int, position: int, start: int, lost: int) -> None:
        """Go on with the oldest entry that is kept."""
        self._number, self._position = self._log.first, start
        self.reached = max(self.reached, start)
        if self._marker is None:
            self._offset, self._gap = offset, b""
            raise Conflict(
                f"{start - position} bytes were lost, the reader was too slow; "
                f"offset {offset} goes on behind them"
            )
        self._gap = self._marker(lost)
        self._offset = offset + len(self._gap)

    def _read_gap(self, offset: int, size: int) -> bytes:
        begin = offset - (self._offset - len(self._gap))
        if begin < 0:
            raise InvalidArgument(f"what was at offset {offset} is gone; read on, or open it again")
        return self._gap[begin : begin + size]

    @property
    def at_end(self) -> bool:
        """Has the reader got everything?"""
        return self._number >= self._log.next

    def behind(self, offset: int) -> bool:
        """Is there anything at the offset, be it a loss?"""
        return self._position + offset - self._offset < self._log.position


class LogFollower:
    """The log as messages from a cursor on (`fs9.provider.Follower`)."""

    __slots__ = ("_closed", "_log", "_number", "_restarted", "reached")

    def __init__(self, log: Log, cursor: str | None, readers_max: int) -> None:
        """Raises InvalidArgument, QuotaExceeded."""
        self._log = log
        self._closed = self._restarted = False
        if cursor == END:
            self._number = log.next
        elif not cursor:
            self._number = log.first
        else:
            generation, number = parse_cursor(cursor)
            if generation != log.generation or number > log.next:
                self._restarted = True
                number = log.first
            self._number = number
        check_readers(log, readers_max)
        #: As `Tape.reached`: whoever asks for more has got what was before.
        self.reached = log.place(max(self._number, log.first))
        log.readers.add(self)

    async def next(self, wait_s: float) -> Delivery:
        log = self._log
        self.reached = log.place(max(self._number, log.first))
        log.wake()  # a writer may wait for this reader
        await log.wait(
            lambda: self._closed or self._restarted or log.ended or self._number < log.next, wait_s
        )
        if self._closed:
            return Delivery(self._cursor())
        lost = max(0, log.first - self._number)
        if lost:
            log.lose(lost)
        self._number += lost
        if self._restarted:
            self._restarted, lost = False, -1
        messages = tuple(self._take())
        ended = log.ended and self._number >= log.next
        return Delivery(self._cursor(), messages, lost, ended)

    def _take(self) -> Iterator[Message]:
        size, last = 0, min(self._log.next, self._number + _DELIVERY_MESSAGES)
        while self._number < last and size < _DELIVERY_BYTES:
            entry = self._log.entry(self._number)
            self._number += 1
            size += len(entry.data)
            yield Message(self._cursor(), entry.data, entry.written_ns)

    def _cursor(self) -> str:
        return f"{self._log.generation:x}-{self._number:x}"

    def close(self) -> None:
        self._closed = True
        self._log.leave(self)


def parse_cursor(cursor: str) -> tuple[int, int]:
    """(generation, number); raises InvalidArgument."""
    generation, dash, number = cursor.partition("-")
    try:
        if not dash or len(cursor) > 40:
            raise ValueError
        return int(generation, 16), int(number, 16)
    except ValueError:
        raise InvalidArgument(
            f"not a cursor: {cursor[:40]!r}; take it from an answer, or {END!r}"
        ) from None


def check_readers(log: Log, readers_max: int) -> None:
    """Raises QuotaExceeded."""
    if len(log.readers) >= readers_max:
        raise QuotaExceeded(f"{readers_max} may read this at a time")
