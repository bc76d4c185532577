"""Server-sent events (WHATWG HTML, section 9.2.6), from the bytes of an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import httpx2
import msgspec

from fs9.client.failures import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Iterator


class ServerEvent(NamedTuple):
    """`name` "": a message. `id` "": it brings whoever resumes no further."""

    data: str
    id: str
    name: str


class Followed(msgspec.Struct, frozen=True):
    """One message of a file that is followed. `cursor`: to go on after it. `lost`: so many
    messages before it are gone, -1 when nobody knows how many."""

    data: bytes
    cursor: str
    lost: int = 0


class EventParser:
    """Feed it the bytes of one answer as they come. Our servers end every line with LF."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._fields = {"id": "", "event": ""}

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """The events that are complete now."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        events = []
        for line in lines:
            event = self._take(line.decode("utf-8", "replace"))
            if event is not None:
                events.append(event)
        return events

    def _take(self, line: str) -> ServerEvent | None:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                self._data.append(value)
            elif name in self._fields:
                self._fields[name] = value
            return None
        data, fields = self._data, self._fields
        self._data, self._fields = [], {"id": "", "event": ""}
        return ServerEvent("\n".join(data), fields["id"], fields["event"]) if data else None


def server_events(response: httpx2.Response) -> Iterator[ServerEvent]:
    """Those of an answer, until the server ends it. Raises ConnectionLost."""
    parser = EventParser()
    try:
        for piece in response.iter_raw():
            yield from parser.feed(piece)
    except httpx2.TransportError as error:
        raise ConnectionLost(str(error) or type(error).__name__) from error
