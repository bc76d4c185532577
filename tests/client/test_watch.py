"""fs9.client.aio_watch and the parser of server-sent events, without a server."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import httpx2
import pytest

from fs9.client import AsyncClient, aio_watch
from fs9.client.server_events import EventParser, Followed, ServerEvent
from fs9.errors import Fs9Error
from fs9.http.events_stream import Frame
from fs9.resilience.backoff import NEVER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FRAMES = [Frame("one\ntwo", "1"), Frame("", "2", "end"), Frame("snow ☃", "", "lost")]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_events_are_the_same_however_they_arrive(size: int):
    """Byte by byte, and with comments and retry times in between."""
    raw = b"retry: 500\n\n" + b": still here\n\n".join(frame.encode() for frame in FRAMES)
    parser = EventParser()
    found = []
    for start in range(0, len(raw), size):
        found += parser.feed(raw[start : start + size])
    assert found == [ServerEvent(frame.data, frame.id, frame.name) for frame in FRAMES]


class Breaking(httpx2.AsyncByteStream):
    """Some bytes, and then no end of the body."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._raw
        raise httpx2.RemoteProtocolError("cut")


def client_of(
    bodies: list[bytes], asked: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> AsyncClient:
    """A client whose answers break off after these bodies, one after the other."""
    monkeypatch.setattr(aio_watch, "_PAUSE_S", 0)
    left = iter(bodies)

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["accept"] == "text/event-stream"
        asked.append(request.headers.get("last-event-id"))
        body = next(left, None)
        if body is None:
            return httpx2.Response(403, stream=Breaking(b""))
        return httpx2.Response(200, stream=Breaking(body))

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    return AsyncClient("http://server", http=http, retries=NEVER)


async def test_a_watch_goes_on_after_the_last_event_it_had_whole(monkeypatch: pytest.MonkeyPatch):
    """Cursors that only say where to go on are not told, but for the first."""
    asked: list[str | None] = []

    def event(number: int, type_: str = "create") -> bytes:
        text = f'{{"type": "{type_}", "path": "/{number}", "cursor": "a-{number}"}}'
        return Frame(text, f"a-{number}").encode()

    bodies = [
        event(1, "cursor") + event(2) + event(3)[:-1],
        event(3, "cursor") + event(4),
        b"",
        event(9, "lost"),
    ]
    seen: list[tuple[str, str]] = []

    async def watch(client: AsyncClient) -> None:
        async with client, aclosing(client.watch("/")) as events:
            async for each in events:
                seen.append((each.type, each.cursor))  # noqa: PERF401 - it ends with an error

    with pytest.raises(Fs9Error):
        await watch(client_of(bodies, asked, monkeypatch))
    assert seen == [("cursor", "a-1"), ("create", "a-2"), ("create", "a-4"), ("lost", "a-9")]
    assert asked == [None, "a-2", "a-4", "a-4", "a-9"]


async def test_a_follower_counts_what_was_lost_once(monkeypatch: pytest.MonkeyPatch):
    """Text and bytes; the end is the end."""
    asked: list[str | None] = []
    lost = Frame('{"messages":3}', name="lost").encode()
    bodies = [
        Frame("one", "1").encode() + lost,
        lost + Frame("/wA=", "5", "binary").encode() + Frame("two", "6").encode(),
        Frame("", "6", "end").encode(),
    ]
    async with client_of(bodies, asked, monkeypatch) as client:
        seen = [each async for each in client.follow("/t", since="0")]
    assert seen == [Followed(b"one", "1"), Followed(b"\xff\0", "5", 3), Followed(b"two", "6")]
    assert asked == ["0", "1", "6"]
