"""Errors that come from the client itself: there is no connection, or it broke.

They are errors like all others (`fs9.errors`), so `except Fs9Error` catches everything, and
`except BackendUnavailable` everything that may work later.
"""

from __future__ import annotations

from fs9.errors import BackendUnavailable, Internal, InvalidArgument


class ServerUnreachable(BackendUnavailable):
    """No connection could be made: the request surely did not reach the server."""

    prefix = ""

    @classmethod
    def at(cls, url: str, reason: str = "") -> ServerUnreachable:
        why = f" ({reason})" if reason else ""
        return cls(f"cannot reach {url}: is the server running? try `fs9 serve`{why}")


class ConnectionLost(BackendUnavailable):
    """The connection broke after the request began: it may or may not have been done."""

    prefix = "connection lost"


class ServerSilent(ConnectionLost):
    """No answer came in time; as with every lost connection, it may have been done."""


class TruncatedBody(ConnectionLost):
    """The answer ended before its announced end; the bytes so far are not all of it."""

    prefix = "the answer was cut short"


class UnexpectedAnswer(Internal):
    """A success whose content makes no sense: the other side is not an fs9 server."""

    prefix = "unexpected answer"


class Redirected(InvalidArgument):
    """The URL is not that of the server itself; requests are not sent on elsewhere."""
