"""Server-sent events (WHATWG HTML, section 9.2.6) of an answer whose body is still to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import httpx2

from fs9.client.failures import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Iterator


class ServerEvent(NamedTuple):
    """`name` "": a message. `id` "": it brings whoever resumes no further."""

    data: str
    id: str
    name: str


def server_events(response: httpx2.Response) -> Iterator[ServerEvent]:
    """Its events, until the server ends it. Raises ConnectionLost."""
    data: list[str] = []
    fields = {"id": "", "event": ""}
    try:
        for line in response.iter_lines():
            if not line:
                if data:
                    yield ServerEvent("\n".join(data), fields["id"], fields["event"])
                data, fields = [], {"id": "", "event": ""}
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data.append(value)
            elif name in fields:
                fields[name] = value
    except httpx2.TransportError as error:
        raise ConnectionLost(str(error) or type(error).__name__) from error
