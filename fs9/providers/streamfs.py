"""Streams as files: what writers write, readers read, as bytes, while it comes.

    /README     what this is
    /STREAM     write: append a chunk; read: from the oldest of the last `ring_size` chunks on

Readers share a common log (`fs9.providers.ringlog`): the last chunks, within bounds of number and
bytes. A reader that was too slow gets an error that says how much is lost, once, and goes on
behind the gap; with `back_pressure` writers wait for readers instead. A stream ends when it is
removed or, with `end_with_last_writer`, when the last one who wrote closes: its mode is
then 0444, readers get what is kept, and whoever writes next begins a new stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from fs9.errors import NotFound, Overloaded
from fs9.limits import MIB
from fs9.providers.logfs import README, LogFs
from fs9.providers.registry import ProviderContext, read_config
from fs9.providers.ringlog import Bounds, Log, Tape

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A wait within a request must end before the request's own time is over.
_WAIT_S_MAX = 20.0
_README = b"""streamfs: streams as files

  cat song.wav > STREAM   appends; each write is one chunk
  cat STREAM              the chunks that are kept
  tail -f STREAM          and what comes
  rm STREAM               ends the stream for its readers

A reader that is too slow gets an error where bytes are lost, once, and may read on.
"""


class Config(msgspec.Struct, frozen=True):
    """What a mount may configure.

    `ring_size`: how many chunks a new reader gets; `channel_size`: how many a slow one may be
    behind; kept is the larger of the two, within `ring_bytes` of each stream. `back_pressure`:
    a write waits, at most `write_wait_s`, until no reader loses anything by it. `read_wait_s`: how
    long a read at the end waits for more.
    """

    ring_size: int = 100
    channel_size: int = 100
    ring_bytes: int = 8 * MIB
    back_pressure: bool = False
    write_wait_s: float = 10.0
    read_wait_s: float = 0.0
    end_with_last_writer: bool = False
    streams_max: int = 1000
    readers_max: int = 1000

    def __post_init__(self) -> None:
        for name in ("ring_size", "channel_size", "ring_bytes", "streams_max", "readers_max"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0")
        for name in ("write_wait_s", "read_wait_s"):
            if not 0 <= getattr(self, name) <= _WAIT_S_MAX:
                raise ValueError(f"{name} must be from 0 to {_WAIT_S_MAX:g}")


async def create(config: Mapping[str, Any], context: ProviderContext) -> StreamFs:
    return StreamFs(read_config("streamfs", Config, config), context)


class StreamFs(LogFs):
    name = "streamfs"
    volatile = True

    def __init__(self, config: Config, context: ProviderContext) -> None:
        kept = max(config.ring_size, config.channel_size)
        super().__init__(
            context,
            Bounds(kept, config.ring_bytes),
            logs_max=config.streams_max,
            readers_max=config.readers_max,
        )
        self._config = config
        #: Open handles to write.
        self._writers: dict[Log, int] = {}

    async def make(self, name: str) -> Log:
        generation, now_ns = self.next_generation(), self._clock.now_ns()
        log = Log(generation, self._bounds, b"", self._quota, now_ns, self._memory)
        log.patient = self._config.back_pressure
        return log

    async def append(self, log: Log, data: bytes) -> None:
        config = self._config
        if config.back_pressure:
            await log.wait(lambda: log.ended or not _loses(log, len(data)), config.write_wait_s)
            if log.ended:
                raise NotFound("the stream was removed; open it again")
            if _loses(log, len(data)):
                raise Overloaded("a reader of the stream is too slow; try again")
        log.commit(log.prepare(data, self._clock.now_ns()))

    async def wait_to_read(self, log: Log, tape: Tape, offset: int) -> None:
        tape.reach(offset)  # before it waits: the writer may be waiting for that
        await log.wait(lambda: log.ended or tape.behind(offset), self._config.read_wait_s)

    def tape(self, log: Log) -> Tape:
        return Tape(log, self._config.ring_size)

    def size(self, log: Log) -> int:
        return log.position

    def text(self, path: str) -> bytes | None:
        return _README if path == README else None

    def opened_to_write(self, log: Log) -> None:
        self._writers[log] = self._writers.get(log, 0) + 1

    def closed_to_write(self, log: Log, wrote: bool) -> None:
        left = self._writers.pop(log) - 1
        if left:
            self._writers[log] = left
        elif self._config.end_with_last_writer and log.next > 1:
            log.end()


def _loses(log: Log, size: int) -> bool:
    """Would a reader lose something if so many bytes were written now?"""
    first, kept_bytes = log.first, log.bytes_kept + size
    while log.next + 1 - first > log.bounds.entries or (
        first < log.next and kept_bytes > log.bounds.bytes_max
    ):
        kept_bytes -= len(log.entry(first).data)
        first += 1
    start = log.place(first)
    return any(reader.reached < start for reader in log.readers)
