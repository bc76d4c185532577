"""What a connection has received and nobody has taken yet, and where the request in it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.framing import LengthFramer, body_framer

if TYPE_CHECKING:
    from router.framing import Framer
    from workers.request import Heads, Request

#: Part of a refused body that is read and dropped to keep the connection.
DRAIN_BYTES_MAX = 256 * 1024


class Intake:
    """The unread input of one connection, cut at request boundaries."""

    __slots__ = ("data", "framer")

    def __init__(self, data: bytes) -> None:
        self.data = data
        #: Of the body of the request in progress; done between requests.
        self.framer: Framer = LengthFramer(0)

    def add(self, data: bytes) -> None:
        self.data = self.data + data if self.data else data

    def next_request(self, heads: Heads) -> Request | None:
        """The next request if its head is complete; it stays until `begin`.

        Raises as `Heads.read`.
        """
        if self.data.startswith(b"\r\n"):  # an empty line before a request (RFC 9112, 2.2)
            self.data = self.data[2:]
        return heads.read(self.data)

    def begin(self, request: Request) -> None:
        """Take the head; what follows is the body."""
        self.data = self.data[len(request.head) :]
        self.framer = body_framer(request.block)

    def take_body(self) -> bytes:
        """What has arrived of the body, with its framing. Raises MalformedRequest."""
        end, _ = self.framer.feed(self.data, 0, len(self.data))
        part, self.data = self.data[:end], self.data[end:]
        return part

    def take_all(self) -> bytes:
        data, self.data = self.data, b""
        return data

    def give_back(self, data: bytes) -> None:
        """Put back what was taken too much."""
        self.data = data + self.data

    def drainable(self, request: Request | None) -> bool:
        """Is what is left of the body small enough to be read and dropped?

        A client that still waits for `100 Continue` may send its body or not: never then.
        """
        framer = self.framer
        if framer.done:
            return True
        waits = request is not None and request.block.expect_continue and not self.data
        return (
            not waits and isinstance(framer, LengthFramer) and framer.remaining <= DRAIN_BYTES_MAX
        )
