"""Server-sent events (WHATWG HTML, section 9.2): frames, and the answer that consists of them.

    EventSource ── frames ──> EventStream ── bytes ──> the drivers, as of any answer in pieces

A client that does not read costs the memory of two pieces, so pieces are small. A large frame is a
piece of its own, and should be one object that all clients share.

The answer goes on until its source ends (the server drains, the token expires); then the client
reconnects with the id of the last event (`Last-Event-ID`), as browsers do by themselves. Something
is sent at least every `_KEEP_ALIVE_S`, so that no timeout on the way to the client ends it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import msgspec

from fs9.http.exchange import Reply
from fs9.limits import KIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fs9.http.exchange import Exchange

MEDIA_TYPE = "text/event-stream"
#: Proxies drop a connection that is silent for a minute; so do some clients for half of it.
_KEEP_ALIVE_S = 10.0
#: Frames are sent together up to this size.
_PIECE_BYTES = 64 * KIB
#: How long a client waits before it connects again.
_RETRY_MS = 500
_KEEP_ALIVE = b": still here\n\n"
_HEADERS = (
    ("cache-control", "no-store"),
    ("x-accel-buffering", "no"),  # nginx would gather it
)


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One event. An empty `name` means `message`. Clients resume after `id`, unless it is empty.

    `data` is text of any number of lines, without CR, which clients would read as a line end.
    """

    data: str
    id: str = ""
    name: str = ""

    def encode(self) -> bytes:
        lines = [f"data: {line}\n" for line in self.data.split("\n")]
        if self.name:
            lines.insert(0, f"event: {self.name}\n")
        if self.id:
            lines.insert(0, f"id: {self.id}\n")
        return ("".join(lines) + "\n").encode()


class EventSource(Protocol):
    """Where the events of one answer come from."""

    async def next(self, wait_s: float) -> Sequence[Frame | bytes] | None:
        """The frames that arrive within the time, perhaps none. None: there will be no more.

        A frame may be `bytes` that are encoded already.
        """

    def close(self) -> None:
        """May be called more than once, and while a `next` waits."""


class EventStream:
    """The answer's pieces (`fs9.http.exchange.Stream`)."""

    __slots__ = ("_begun", "_frames", "_keep_alive_s", "_source")

    def __init__(self, source: EventSource, keep_alive_s: float = _KEEP_ALIVE_S) -> None:
        self._source = source
        self._keep_alive_s = keep_alive_s
        self._begun = False
        #: What came and is not sent yet.
        self._frames: deque[Frame | bytes] = deque()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> bytes:
        if not self._begun:  # at once, so that the client knows that it is connected
            self._begun = True
            return b"retry: %d\n\n" % _RETRY_MS
        if not self._frames:
            frames = await self._source.next(self._keep_alive_s)
            if frames is None:
                raise StopAsyncIteration
            self._frames.extend(frames)
        return self._piece() or _KEEP_ALIVE

    def _piece(self) -> bytes:
        """The next frames joined; a large frame alone, not copied."""
        pieces: list[bytes] = []
        size = 0
        while self._frames:
            frame = self._frames[0]
            encoded = frame if isinstance(frame, bytes) else frame.encode()
            size += len(encoded)
            if pieces and size > _PIECE_BYTES:
                break
            pieces.append(encoded)
            self._frames.popleft()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def aclose(self) -> None:
        self._source.close()


def wanted(x: Exchange) -> bool:
    """Does the client accept server-sent events, rather than one answer?"""
    return MEDIA_TYPE in x.headers.get("accept", "").lower()


def resumed_from(x: Exchange, field: str) -> str | None:
    """The id of the last event that the client has: of the header, or else of the query field."""
    return x.headers.get("last-event-id") or x.query.get(field)


def reply(x: Exchange, source: EventSource) -> Reply:
    """The answer made of the source's events. It closes the source, also when it is not sent."""
    # Three times within the time that our own server allows an answer to be silent.
    keep_alive_s = min(_KEEP_ALIVE_S, x.context.limits.request_timeout_s / 3)
    x.endless = True
    stream = EventStream(source, keep_alive_s)
    return Reply(200, b"", f"{MEDIA_TYPE}; charset=utf-8", _HEADERS, stream=stream)
