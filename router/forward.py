"""Forwards a request to its owner over the owner's private socket, streaming both ways.

For connections that change tenant at nearly every request, where handing the descriptor back and
forth costs more, and for those whose descriptor cannot move. The request's bytes go unchanged. At a
private socket a request is passed on in two cases only: to the owner by a newer view than the one
that sent it there, and to an earlier owner that keeps the namespace for a moment and answers in any
case. So it never goes in a loop.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Protocol, cast

from fs9.errors import OwnerUnavailable
from router.framing import ResponseFramer

if TYPE_CHECKING:
    from pathlib import Path


class ForwardingClient(Protocol):
    """The client's side of a forwarded request."""

    def relay(self, data: bytes) -> bool:
        """Pass on bytes of the response; False pauses reading from the owner until `resume`."""

    def forwarded(self, *, close: bool) -> None:
        """The response is complete; `close`: the owner will not take another request."""

    def forward_broken(self, *, started: bool) -> None:
        """The connection to the owner broke; `started`: after the first byte of the response."""

    def hold_body(self, *, held: bool) -> None:
        """The owner cannot take more of the request body for now (or can again)."""


class Upstream(asyncio.Protocol):
    """One connection to an owner, used by one client connection, one request at a time."""

    def __init__(self, client: ForwardingClient) -> None:
        self._client = client
        self._framer: ResponseFramer | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def connect(
        cls, path: Path, client: ForwardingClient, own_name: bytes | None = None
    ) -> Upstream:
        """Raises OwnerUnavailable when nobody listens there.

        `own_name`: the name of our end of the connection, which the owner can read.
        """
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if own_name is not None:
                sock.bind(own_name)
            await loop.sock_connect(sock, str(path))
            _, upstream = await loop.create_unix_connection(lambda: cls(client), sock=sock)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):
                raise OwnerUnavailable("the owner of the namespace is starting") from error
            raise
        return upstream

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def begin(self, head: bytes, *, head_request: bool) -> None:
        """Send the request head; the body follows through `send_body`."""
        assert self._transport is not None
        self._framer = ResponseFramer(to_head_request=head_request)
        self._transport.write(head)

    def send_body(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def resume(self) -> None:
        if self.usable and self._transport is not None:
            self._transport.resume_reading()

    def abort(self) -> None:
        self._framer = None
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        framer = self._framer
        if framer is None or self._transport is None:
            return
        taken = framer.feed(data)
        if not self._client.relay(data[:taken]):
            self._transport.pause_reading()
        if framer.done:
            self._framer = None
            if framer.close:
                self._transport.close()
            self._client.forwarded(close=framer.close)

    def pause_writing(self) -> None:
        self._client.hold_body(held=True)

    def resume_writing(self) -> None:
        self._client.hold_body(held=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        framer, self._framer = self._framer, None
        if framer is not None:
            self._client.forward_broken(started=framer.started)
