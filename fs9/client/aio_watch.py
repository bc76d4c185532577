"""Endless answers (watch, follow): reconnects, and yields each event exactly once."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import httpx2
import msgspec

from fs9.client import ops
from fs9.client.server_events import EventParser, Followed
from fs9.wire.messages import WatchEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fs9.client.aio_link import AsyncLink
    from fs9.client.colour import AsyncColour
    from fs9.client.server_events import ServerEvent

#: Before it is connected again: a server that leaves has another one serve by then.
_PAUSE_S = 0.1

_decode_event = msgspec.json.Decoder(WatchEvent).decode


async def watch(
    link: AsyncLink, colour: AsyncColour, path: str, since: str | None
) -> AsyncIterator[WatchEvent]:
    """What `AsyncClient.watch` says."""
    begun = since is not None
    async for event in _events(link, colour, "watch", path, since or ""):
        if event is None:
            continue
        told = ops.decoded(_decode_event, event.data.encode())
        if told.type != "cursor" or not begun:
            begun = True
            yield told


async def follow(
    link: AsyncLink, colour: AsyncColour, path: str, since: str | None
) -> AsyncIterator[Followed]:
    """What `AsyncClient.follow` says."""
    lost = 0
    async for event in _events(link, colour, "follow", path, since or ""):
        if event is None:
            lost = 0  # it is told again
        elif event.name == "end":
            return
        elif event.name == "lost":
            lost = msgspec.json.decode(event.data)["messages"]
        else:
            binary = event.name == "binary"
            data = base64.b64decode(event.data) if binary else event.data.encode()
            yield Followed(data, event.id, lost)
            lost = 0


async def _events(
    link: AsyncLink, colour: AsyncColour, route: str, path: str, cursor: str
) -> AsyncIterator[ServerEvent | None]:
    """The events of one answer after the other, each from the last one's id on; None between.

    Raises what the request raises when it is refused, or fails as often as the policy allows.
    """
    while True:
        _, response = await link.open(ops.endless(route, path, cursor))
        parser = EventParser()
        try:
            async for piece in response.aiter_raw():
                colour.checkpoint()
                for event in parser.feed(piece):
                    cursor = event.id or cursor
                    yield event
        except httpx2.TransportError:
            pass  # the server died, or the way to it: what was not received whole comes again
        finally:
            await response.aclose()
        yield None
        await colour.sleep(_PAUSE_S)
