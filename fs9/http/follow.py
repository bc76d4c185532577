"""Following a file: its messages as they are written, as server-sent events or by long poll."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from fs9.http import events_stream
from fs9.http.decode import attached
from fs9.http.events_stream import Frame
from fs9.http.exchange import Reply
from fs9.limits import KIB
from fs9.types import Message
from fs9.wire.codec import encode
from fs9.wire.messages import FollowReply, MessageReply
from fs9.wire.query import number, required
from fs9.wire.routes_follow import WAIT_DEFAULT_S, WAIT_S_MAX

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange
    from fs9.types import Delivery
    from fs9.vfs.follow import Following

_NOT_KEPT = (("cache-control", "no-store"),)
#: Messages from this size on are encoded once for all who follow at the same pace.
_SHARED_BYTES_MIN = 16 * KIB
_SHARED_FRAMES = 4


async def follow(x: Exchange) -> Reply:
    path = required(x.query, "path")
    wait_s = number(x.query.get("wait", str(WAIT_DEFAULT_S)), "wait", at_most=WAIT_S_MAX)
    session = x.session or await attached(x)
    cursor = events_stream.resumed_from(x, "since")
    following = await session.follow(path, cursor)
    if events_stream.wanted(x):
        return events_stream.reply(x, Events(following))
    try:
        delivery = await following.next(min(wait_s, x.context.limits.request_timeout_s / 2))
    finally:
        following.close()
    if delivery is None:  # asked again with the same cursor, it is answered by whoever serves now
        return Reply(200, encode(FollowReply(cursor or "", [])), headers=_NOT_KEPT)
    messages = [_message(message) for message in delivery.messages]
    answer = FollowReply(delivery.cursor, messages, delivery.lost, delivery.ended)
    return Reply(200, encode(answer), headers=_NOT_KEPT)


class Events:
    """The deliveries of one follower as events: `message`, `binary`, `lost`, `end`."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._ended = False

    async def next(self, wait_s: float) -> list[Frame | bytes] | None:
        delivery = None if self._ended else await self._following.next(wait_s)
        if delivery is None:
            return None
        self._ended = delivery.ended
        return _frames(delivery)

    def close(self) -> None:
        self._following.close()


def _frames(delivery: Delivery) -> list[Frame | bytes]:
    frames: list[Frame | bytes] = []
    if delivery.lost:
        # Without an id: only what follows it brings the client further.
        count = msgspec.json.encode({"messages": delivery.lost}).decode()
        frames.append(Frame(count, name="lost"))
    for message in delivery.messages:
        large = len(message.data) > _SHARED_BYTES_MIN
        frames.append(_encoded(message.cursor, message.data) if large else _frame(message))
    if delivery.ended:
        frames.append(Frame("", delivery.cursor, "end"))
    return frames


def _frame(message: Message) -> Frame:
    text = _text(message)
    if text is not None and "\r" not in text:
        return Frame(text, message.cursor)
    return Frame(_base64(message), message.cursor, "binary")


@lru_cache(_SHARED_FRAMES)
def _encoded(cursor: str, data: bytes) -> bytes:
    """The encoded event; the followers of a topic share one object, so slow ones cost no memory."""
    return _frame(Message(cursor, data, 0)).encode()


def _message(message: Message) -> MessageReply:
    text = _text(message)
    at_s = message.written_ns / 1e9
    if text is not None:
        return MessageReply(message.cursor, at_s, text=text)
    return MessageReply(message.cursor, at_s, base64=_base64(message))


def _text(message: Message) -> str | None:
    """The message as text; None when it is not UTF-8 or has control characters."""
    if b"\0" in message.data:
        return None
    try:
        return message.data.decode()
    except UnicodeDecodeError:
        return None


def _base64(message: Message) -> str:
    return base64.b64encode(message.data).decode()
