"""The head of one request: from the bytes on the wire to what decides its way. Sans-IO."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fs9.errors import HeadersTooLarge, MalformedRequest, UriTooLong
from router.framing import parse_request_line
from router.key import split_tenant

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.http.operations import Operation
    from fs9.limits import Limits
    from fs9.observe.request import Trail
    from router.framing import Block, RequestLine

    #: (header lines, minor version) -> Block; the worker's own keeps what it has parsed.
    ParseBlock = Callable[[bytes, int], Block]

_LONE_LF = re.compile(rb"(?<!\r)\n")


class Request:
    """A request whose head is complete. `path` is without the tenant's prefix."""

    __slots__ = ("block", "head", "id", "key", "line", "operation", "path", "tenant", "trail")

    def __init__(self, line: RequestLine, block: Block, head: bytes) -> None:
        self.line = line
        self.block = block
        self.head = head
        self.tenant, self.path = split_tenant(line.path)
        #: The namespace it is about (`router.key`), once that is known.
        self.key: str | None = None
        #: The operation that answers it in the protocol class, if one does.
        self.operation: Operation | None = None
        #: Given by `workers.account`, which also tells what becomes of it.
        self.id = b""
        self.trail: Trail | None = None

    def head_without_upgrade(self) -> bytes:
        """The head without an offer to change protocols, which is declined by ignoring it."""
        fields = self.block.fields
        if b"upgrade" not in fields:
            return self.head
        first = self.head[: self.head.index(b"\r\n") + 2]
        kept = (b"%b: %b\r\n" % item for item in fields.items() if item[0] != b"upgrade")
        return first + b"".join(kept) + b"\r\n"


def read_head(data: bytes, limits: Limits, parse_block: ParseBlock) -> Request | None:
    """The request at the start of `data`; None when its head is not complete yet.

    Raises MalformedRequest, UriTooLong, HeadersTooLarge, as soon as it is certain.
    """
    line_end = data.find(b"\r\n")
    head_end = data.find(b"\r\n\r\n", line_end) if line_end >= 0 else -1
    _check_size(len(data), line_end, head_end, limits)
    if head_end < 0:
        if _LONE_LF.search(data):
            raise MalformedRequest("a line does not end with CRLF")
        return None
    line = parse_request_line(data[:line_end])
    block = parse_block(data[line_end + 2 : head_end + 2], line.minor)
    return Request(line, block, data[: head_end + 4])


def _check_size(size: int, line_end: int, head_end: int, limits: Limits) -> None:
    if (line_end if line_end >= 0 else size) > limits.request_line_bytes_max:
        raise UriTooLong(f"at most {limits.request_line_bytes_max} bytes")
    if (head_end if head_end >= 0 else size) - line_end > limits.headers_bytes_max:
        raise HeadersTooLarge(f"at most {limits.headers_bytes_max} bytes")
