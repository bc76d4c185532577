"""Announces this worker's changes to all others, until every one of them has applied them.

    tell ── report ──> broker ── announcement ──> all workers, this one too   (heard)
     └────────────── heartbeat: all have acknowledged so much <─┘             (acknowledged)

A broker that dies may take a report with it, so the next one gets everything again that was not
acknowledged. Applying a change twice does no harm.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.messages import Told


class _Open:
    """`after`: all know it once all have acknowledged the announcement of this epoch and number;
    None: it was not heard yet."""

    __slots__ = ("after", "known", "message")

    def __init__(self, message: Told) -> None:
        self.message = message
        self.after: tuple[str, int] | None = None
        self.known = asyncio.Event()


class Telling:
    """The announcements of one worker. `report` sends a message to the broker."""

    def __init__(self, report: Callable[[Told], None]) -> None:
        self._report = report
        self._open: dict[str, _Open] = {}
        self._prefix = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._epoch = ""

    async def tell(self, message: Told, timeout_s: float) -> bool:
        """Announce it; True when every worker has applied it, False when the time is over."""
        ticket = f"{self._prefix}.{next(self._numbers)}"
        message = msgspec.structs.replace(message, ticket=ticket)
        waiting = self._open[ticket] = _Open(message)
        self._report(message)
        try:
            await asyncio.wait_for(waiting.known.wait(), timeout_s)
        except TimeoutError:
            return False
        finally:
            del self._open[ticket]
        return True

    def heard(self, message: Told, epoch: str, sequence: int) -> None:
        """Note that an announcement, with this number or a lower one, was applied here."""
        waiting = self._open.get(message.ticket)
        if waiting is not None:
            waiting.after = (epoch, sequence)

    def acknowledged(self, epoch: str, sequence: int) -> None:
        """Note that all workers have applied the announcements of the epoch up to this one."""
        for waiting in self._open.values():
            if waiting.after is not None and waiting.after[0] == epoch:
                done = waiting.after[1] <= sequence
                (waiting.known.set if done else waiting.known.clear)()

    def on_broker(self, epoch: str) -> None:
        """Note the broker's epoch; to be called for everything that it sends."""
        if epoch != self._epoch:
            self._epoch = epoch
            for waiting in list(self._open.values()):
                waiting.after = None
                self._report(waiting.message)
