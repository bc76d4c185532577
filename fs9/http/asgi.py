"""Between ASGI messages and the exchange: the request body, headers and path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fs9.errors import MalformedRequest, RequestTimeout

Message = dict[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def no_body_yet() -> Message:
    """Stands in for `receive` where the body must not be asked for."""
    return {"type": "http.request", "body": b"", "more_body": True}


class AsgiBody:
    """A request body that arrives by `receive`; the first `read` is the first `receive`."""

    __slots__ = ("_ended", "_receive", "_timeout_s", "length")

    def __init__(self, receive: Receive, headers: Mapping[str, str], timeout_s: float) -> None:
        self._receive = receive
        self._timeout_s = timeout_s
        self.length: int | None = _announced(headers)
        self._ended = self.length == 0

    async def read(self) -> bytes:
        """The next piece, empty at the end; as `fs9.http.exchange.Body` has it."""
        while not self._ended:
            try:
                async with asyncio.timeout(self._timeout_s):
                    message = await self._receive()
            except TimeoutError:
                raise RequestTimeout(f"no byte for {self._timeout_s:g} seconds") from None
            if message["type"] == "http.disconnect":
                raise MalformedRequest("the connection ended within the body")
            self._ended = not message.get("more_body", False)
            piece: bytes = message.get("body", b"")
            if piece:
                return piece
        return b""


def _announced(headers: Mapping[str, str]) -> int | None:
    """Bytes of the body (RFC 9112, section 6.3): neither header means that there is none."""
    if "transfer-encoding" in headers:
        return None
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise MalformedRequest("Content-Length must be a number")
    return int(length)


def peer(scope: Mapping[str, Any]) -> str:
    """The address at the other end of the connection; empty when the server does not say it."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def request_headers(scope: Mapping[str, Any]) -> dict[str, str]:
    """Lower-case names; the values of a repeated one joined as a list (RFC 9110, 5.3)."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1")
        value = raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def path_as_sent(scope: Mapping[str, Any]) -> str:
    """The path, not percent-decoded.

    Routes are matched against this, because the workers choose the owner of a namespace by it: a
    path that is a route only after decoding would be answered by a worker that is not the owner.
    """
    raw: bytes | None = scope.get("raw_path")
    path: str = scope["path"] if raw is None else raw.decode("latin-1")
    return path
