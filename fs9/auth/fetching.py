"""One HTTP GET with a deadline for the whole answer; for threads of the blocking pool.

The timeouts of `http.client` apply to each read, so a server that sends one byte at a time could
hold a thread for as long as it likes.
"""

from __future__ import annotations

import io
from contextlib import closing
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import socket

    from fs9.clock import Clock


def fetch(url: str, timeout_s: float, bytes_max: int, clock: Clock) -> bytes:
    """The first `bytes_max` of what is there; blocks.

    No redirect is followed: another place is none that the operator has chosen. Raises OSError,
    also for another status and when the answer is not there in time, and HTTPException for what is
    not HTTP.
    """
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    latest_s = clock.monotonic_s() + timeout_s
    connection.response_class = partial(_TimedResponse, latest_s=latest_s, clock=clock)  # type: ignore[assignment]
    try:
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection.request("GET", target)
        with closing(connection.getresponse()) as answer:
            if answer.status != HTTPStatus.OK:
                raise OSError(f"answered {answer.status}")
            return answer.read(bytes_max)
    finally:
        connection.close()


class _TimedResponse(HTTPResponse):
    """Is read until a moment, not for so long after each byte."""

    def __init__(
        self,
        sock: socket.socket,
        debuglevel: int = 0,
        method: str | None = None,
        url: str | None = None,
        *,
        latest_s: float,
        clock: Clock,
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self.fp.close()
        self.fp = io.BufferedReader(_TimedReader(sock, latest_s, clock))


class _TimedReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, latest_s: float, clock: Clock) -> None:
        self._sock = sock
        # A file of its own: the connection may close the socket before the answer was read.
        self._raw = sock.makefile("rb", buffering=0)
        self._latest_s = latest_s
        self._clock = clock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401  as RawIOBase has it
        left_s = self._latest_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise TimeoutError("the answer takes too long")
        self._sock.settimeout(left_s)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
