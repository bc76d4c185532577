"""Watching a namespace: what changes below a path, as server-sent events or by long poll."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fs9.errors import CursorExpired
from fs9.http import events_stream
from fs9.http.decode import attached
from fs9.http.events_stream import Frame
from fs9.http.exchange import Reply
from fs9.path import clean
from fs9.vfs.watchview import LOST
from fs9.wire.messages import WatchEvent
from fs9.wire.query import number, required
from fs9.wire.routes_follow import WAIT_DEFAULT_S, WAIT_S_MAX

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange
    from fs9.types import Delivery
    from fs9.vfs.follow import Following
    from fs9.vfs.watchview import Happened

_NOT_KEPT = (("cache-control", "no-store"),)

_encode = msgspec.json.Encoder().encode


class _Reply(msgspec.Struct):
    """`messages.WatchReply`, whose events are encoded already."""

    cursor: str
    events: list[msgspec.Raw]


async def watch(x: Exchange) -> Reply:
    path = clean(required(x.query, "path"))
    wait_s = number(x.query.get("wait", str(WAIT_DEFAULT_S)), "wait", at_most=WAIT_S_MAX)
    session = x.session or await attached(x)
    cursor = events_stream.resumed_from(x, "since")
    watching = session.watch(path, cursor, _event)
    if events_stream.wanted(x):
        return events_stream.reply(x, _Events(watching, path))
    try:
        delivery = await watching.next(0)  # where it begins
        if delivery is not None and cursor and not delivery.lost:
            delivery = await watching.next(min(wait_s, x.context.limits.request_timeout_s / 2))
    finally:
        watching.close()
    if delivery is None:  # asked again with the same cursor, it is answered by whoever serves now
        return _reply(cursor or "", [])
    if delivery.lost:
        raise CursorExpired("list anew, and watch without 'since'")
    return _reply(delivery.cursor, [msgspec.Raw(message.data) for message in delivery.messages])


def _reply(cursor: str, events: list[msgspec.Raw]) -> Reply:
    return Reply(200, _encode(_Reply(cursor, events)), headers=_NOT_KEPT)


class _Events:
    """The deliveries of one watcher; each event is a `message`, in JSON."""

    def __init__(self, watching: Following, path: str) -> None:
        self._watching = watching
        self._path = path
        self._cursor = ""

    async def next(self, wait_s: float) -> list[Frame] | None:
        delivery = await self._watching.next(wait_s)
        if delivery is None:
            return None
        frames = self._frames(delivery)
        self._cursor = delivery.cursor
        return frames

    def _frames(self, delivery: Delivery) -> list[Frame]:
        if delivery.messages:
            return [Frame(message.data.decode(), message.cursor) for message in delivery.messages]
        if not delivery.lost and delivery.cursor == self._cursor:
            return []
        # So the cursor stays young where nothing happens.
        kind = LOST if delivery.lost else "cursor"
        event = WatchEvent(kind, self._path, delivery.cursor)
        return [Frame(_encode(event).decode(), delivery.cursor)]

    def close(self) -> None:
        self._watching.close()


def _event(told: Happened, cursor: str) -> bytes:
    return _encode(
        WatchEvent(
            *(told.type, told.path, cursor, told.at_ns / 1e9),
            *(told.target, told.directory, told.moved),
        )
    )
