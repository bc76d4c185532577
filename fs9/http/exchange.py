"""One request and its reply, free of any web framework.

An operation (`fs9.http.operations`) takes an `Exchange` and returns a `Reply`. Two drivers
make exchanges: the Falcon application for everything (`fs9.http.app`) and the protocol class
of the workers for small hot requests and for large bodies (`workers.protocol`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

from fs9.http.context import Context
from fs9.principal import Principal
from fs9.types import Buffer
from fs9.vfs.session import Session

JSON = "application/json"
BYTES = "application/octet-stream"


#: Lends the file of a descriptor to the proxy: where that one finds it; None: send it yourself.
Lend = Callable[[int], Awaitable[str | None]]


class Body(Protocol):
    """A request body that has not been read yet."""

    @property
    def length(self) -> int | None:
        """Bytes announced by Content-Length; None when chunked."""

    async def read(self) -> Buffer:
        """The next piece, empty at the end; valid until the next call.

        The first call is what invites a client that sent `Expect: 100-continue`. Raises
        RequestTimeout when no byte arrives for too long, PayloadTooLarge when more arrives
        than the route allows, MalformedRequest when the connection ends early.
        """


class BytesBody:
    """A body that is in memory already."""

    __slots__ = ("_data", "length")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length: int | None = len(data)

    async def read(self) -> bytes:
        data, self._data = self._data, b""
        return data


class Exchange(msgspec.Struct, gc=False):
    """A decoded request on its way to an operation.

    `query` holds decoded values, each key once. `headers` has lower-case names. `session` is
    the caller attached to the namespace; None on routes that need none, or before attach.
    `params` are the values of the path template (`ns`). `peer` is the address at the other end
    of the connection, `unix`, or empty when nobody knows. `tenant` is the path's on routes that
    check the credentials themselves.
    """

    context: Context
    method: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Body
    principal: Principal | None = None
    session: Session | None = None
    params: Mapping[str, str] = {}
    #: Set when a proxy in front offers to send the bytes of a file itself.
    lend: Lend | None = None
    #: Set by an operation whose answer goes on as long as the client stays: no request is in
    #: progress then, and a client that sends no more has gone.
    endless: bool = False
    #: Is it refused, and told so late?
    held: bool = False
    peer: str = ""
    tenant: str | None = None
    #: The decoded JSON body, for those who tell of the request when it is over.
    request: object = None


class Stream(Protocol):
    """The pieces of a reply, none of them empty."""

    def __aiter__(self) -> AsyncIterator[Buffer]: ...

    async def __anext__(self) -> Buffer: ...

    async def aclose(self) -> None:
        """Release what the stream holds; may be called at any time, and more than once."""


class Reply(msgspec.Struct, gc=False):
    """The answer to an exchange. A `stream` has `length` bytes, or is chunked when that is None.

    An exception raised by the stream aborts the connection: a broken answer never looks
    complete. The driver closes the stream (`aclose`) in every case, also when it sends
    nothing of it. The answer to HEAD is the same head without body or stream.
    """

    status: int
    body: Buffer = b""
    content_type: str | None = JSON
    headers: tuple[tuple[str, str], ...] = ()
    stream: Stream | None = None
    length: int | None = None
