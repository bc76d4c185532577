"""A watcher: a position in the watch log of a namespace, and the events from there on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fs9.errors import InvalidArgument
from fs9.types import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from fs9.types import Message
    from fs9.vfs.watch import WatchLog
    from fs9.vfs.watchview import Happened, View

    #: An event, as somebody is told it, and its cursor, in bytes.
    Encode: TypeAlias = Callable[[Happened, str], bytes]

#: Hexadecimal digits of the name of a log.
EPOCH_LENGTH = 8


class Watcher:
    """A `fs9.provider.Follower` whose messages are events in JSON.

    Its first delivery comes at once and has no events: it says where the watch begins.
    """

    __slots__ = ("_begun", "_encode", "_epoch", "_log", "_news", "_open", "_sequence", "_view")

    def __init__(self, log: WatchLog, view: View, place: tuple[str, int], encode: Encode) -> None:
        self._log = log
        self._view = view
        self._encode = encode
        self._epoch, self._sequence = place
        self._news = asyncio.Event()
        self._begun = False
        self._open = True

    def wake(self) -> None:
        self._news.set()

    async def next(self, wait_s: float) -> Delivery:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_s
        while self._open:
            self._news.clear()
            events = self._log.after(self._epoch, self._sequence)
            if events is None:
                return self._begin_anew()
            if not self._begun:
                self._begun = True
                break
            messages = self._told(events)
            if messages:
                return Delivery(self._cursor, messages)
            left_s = until_s - loop.time()
            if left_s <= 0:
                break
            if not events:
                await self._wait(left_s)
        return Delivery(self._cursor)

    async def _wait(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._news.wait()
        except TimeoutError:
            return

    @property
    def _cursor(self) -> str:
        return f"{self._epoch}-{self._sequence}"

    def _begin_anew(self) -> Delivery:
        self._begun = True
        self._log.stats.lost += 1
        self._epoch, self._sequence = self._log.tip
        return Delivery(self._cursor, lost=-1)

    def _told(self, events: Sequence[Happened]) -> tuple[Message, ...]:
        messages = []
        for event in events:
            told = self._view.tell(event)
            if told is not None:
                messages.append(self._log.message(event, told, self._encode))
            self._sequence = event.sequence
        return tuple(messages)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._log.forget(self)
            self._news.set()


def place_of(cursor: str) -> tuple[str, int]:
    epoch, _, number = cursor.partition("-")
    hexadecimal = len(epoch) == EPOCH_LENGTH and all(c in "0123456789abcdef" for c in epoch)
    if not (hexadecimal and number.isascii() and number.isdigit() and len(number) < 19):
        raise InvalidArgument("'since' must be the cursor of an answer, or the id of an event")
    return epoch, int(number)
