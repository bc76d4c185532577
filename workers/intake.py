"""The bytes that a connection has received and not consumed, and where the request in them ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.framing import LengthFramer, body_framer

if TYPE_CHECKING:
    from router.framing import Framer
    from workers.request import Heads, Request

#: Part of a refused body that is read and dropped to keep the connection.
DRAIN_BYTES_MAX = 256 * 1024


class Intake:
    """The unread input of one connection, cut at request boundaries.

    What is taken is not cut off at once, for who sends a hundred requests ahead would have all
    of them copied for each: that is done when it is at least half of what is kept.
    """

    __slots__ = ("_at", "_data", "framer", "left")

    def __init__(self, data: bytes) -> None:
        self._data = data
        #: Where in it the unread part begins, and how many bytes that has.
        self._at = 0
        self.left = len(data)
        #: The framer of the body in progress; done between requests.
        self.framer: Framer = LengthFramer(0)

    @property
    def data(self) -> bytes:
        """A copy of all that nobody has taken yet."""
        return self._data[self._at :]

    def clear(self) -> None:
        self._data = b""
        self._at = self.left = 0

    def add(self, data: bytes) -> None:
        self._data = data = self.data + data if self.left else data
        self._at = 0
        self.left = len(data)

    def _take(self, end: int) -> None:
        """Consume everything before `end`."""
        size = len(self._data)
        self.left = size - end
        if end == size:  # as a rule
            self._data = b""
            end = 0
        elif 2 * end >= size:
            self._data = self._data[end:]
            end = 0
        self._at = end

    def next_request(self, heads: Heads) -> Request | None:
        """The next request if its head is complete; it stays until `begin`.

        Raises as `Heads.read`.
        """
        if self._data.startswith(b"\r\n", self._at):  # before a request (RFC 9112, 2.2)
            self._take(self._at + 2)
        return heads.read(self._data, self._at)

    def begin(self, request: Request) -> None:
        """Take the head; what follows is the body."""
        self._take(self._at + len(request.head))
        self.framer = body_framer(request.block)

    def take_body(self) -> bytes:
        """What has arrived of the body, with its framing. Raises MalformedRequest."""
        end, _ = self.framer.feed(self._data, self._at, len(self._data))
        part = self._data[self._at : end]
        self._take(end)
        return part

    def take_all(self) -> bytes:
        data = self.data
        self.clear()
        return data

    def give_back(self, data: bytes) -> None:
        """Put back what was taken too much."""
        self._data = data = data + self.data
        self._at = 0
        self.left = len(data)

    def drainable(self, request: Request | None) -> bool:
        """Is what is left of the body small enough to be read and dropped?

        A client that still waits for `100 Continue` may send its body or not: never then.
        """
        framer = self.framer
        if framer.done:
            return True
        waits = request is not None and request.block.expect_continue and not self.left
        return (
            not waits and isinstance(framer, LengthFramer) and framer.remaining <= DRAIN_BYTES_MAX
        )
