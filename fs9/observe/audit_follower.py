"""A follower of the audit trail: gets events as they are stored, resumable by sequence number."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fs9.errors import InvalidArgument
from fs9.types import Delivery, Message

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from fs9.observe.audit import EventFilter
    from fs9.observe.audit_chain import AuditRecord
    from fs9.observe.audit_trail import AuditTrail

_AT_ONCE = 500
#: How long an event that another worker stored may go unnoticed.
_LOOK_S = 5.0


class AuditFollower:
    """A `fs9.provider.Follower` whose messages are events; the cursor of each is its sequence."""

    __slots__ = ("_cursor", "_encode", "_listener", "_open", "_trail", "_wanted")

    def __init__(
        self,
        trail: AuditTrail,
        wanted: EventFilter,
        cursor: int,
        encode: Callable[[AuditRecord], bytes],
    ) -> None:
        self._trail = trail
        self._wanted = wanted
        self._cursor = cursor
        self._encode = encode
        self._listener = trail.listen()
        self._open = True

    @classmethod
    async def begin(
        cls,
        trail: AuditTrail,
        wanted: EventFilter,
        cursor: str | None,
        encode: Callable[[AuditRecord], bytes],
    ) -> Self:
        """From after the event with this sequence number on; None: from now on.

        Raises InvalidArgument, and what the store raises.
        """
        tip = (await trail.tip()).sequence
        if cursor is None:
            return cls(trail, wanted, tip, encode)
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise InvalidArgument("'after' must be the id of an event")
        if int(cursor) > tip:
            raise InvalidArgument(f"there is no event {cursor} yet: the last one is {tip}")
        return cls(trail, wanted, int(cursor), encode)

    async def next(self, wait_s: float) -> Delivery:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_s
        told = True
        while self._open:
            self._listener.clear()
            records = self._trail.recent(self._cursor)
            if records is None or not (records or told):
                records = await self._trail.links(self._cursor, _AT_ONCE)
            delivery = self._delivery(records)
            if delivery is not None:
                return delivery
            left_s = until_s - loop.time()
            if left_s <= 0:
                break
            if not records:
                told = await self._wait(min(left_s, _LOOK_S))
        return Delivery(str(self._cursor))

    async def _wait(self, wait_s: float) -> bool:
        """Was something stored here meanwhile?"""
        try:
            async with asyncio.timeout(wait_s):
                await self._listener.wait()
        except TimeoutError:
            return False
        return True

    def _delivery(self, records: list[AuditRecord]) -> Delivery | None:
        """What is wanted of the next links; None: nothing of it."""
        if not records:
            return None
        lost = records[0].sequence - self._cursor - 1
        self._cursor = records[-1].sequence
        messages = tuple(
            Message(str(each.sequence), self._encode(self._wanted.shown(each)), each.timestamp_ns)
            for each in records
            if self._wanted.wants(each)
        )
        return Delivery(str(self._cursor), messages, lost) if messages or lost else None

    def close(self) -> None:
        self._open = False
        self._trail.unlisten(self._listener)
        self._listener.set()
