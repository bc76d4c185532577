"""Context variables: which request the running code belongs to.

The connection sets them before it starts an operation; tasks inherit them, so that every log line
written below names its request (`fs9.observe.log`).
"""

from __future__ import annotations

import itertools
import re
import secrets
from contextvars import ContextVar

#: The header, in requests and answers.
HEADER = b"x-request-id"
#: The id of the request in progress; empty outside of requests.
REQUEST_ID: ContextVar[bytes] = ContextVar("fs9_request_id", default=b"")

# A token of RFC 9110, section 5.6.2: visible ASCII without separators.
_SANE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")


class RequestIds:
    """The ids of one process: the client's own where it sent a sane one, else a new one."""

    __slots__ = ("_next", "_prefix")

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6).encode()
        self._next = itertools.count(1).__next__

    def of(self, given: bytes | None) -> bytes:
        if given is not None and _SANE.fullmatch(given):
            return given
        return b"%b-%x" % (self._prefix, self._next())


class Trail:
    """What becomes known of a request on its way, while access lines or traces are wanted."""

    __slots__ = ("span", "trace_id", "user")

    def __init__(self) -> None:
        self.user: str | None = None
        #: The span of `fs9.observe.tracing`, and the id of its trace.
        self.span: object = None
        self.trace_id = ""


#: The trail of the request in progress; None outside of requests, and when nobody looks.
TRAIL: ContextVar[Trail | None] = ContextVar("fs9_trail", default=None)
