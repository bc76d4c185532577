"""Parses the head of a request, as far as it decides who answers it. Sans-IO."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fs9.errors import Fs9Error, HeadersTooLarge, MalformedRequest, UriTooLong
from fs9.wire.query import parse_query
from router.framing import parse_request_line
from router.key import split_tenant
from workers.blocks import changing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fs9.http.operations import Operation
    from fs9.limits import Limits
    from fs9.observe.request import Trail
    from router.framing import Block, RequestLine
    from workers.blocks import Blocks

#: Whole heads kept parsed: mounts and pollers ask for the same again and again.
HEADS_MAX = 4096
HEAD_BYTES_MAX = 2048

#: RFC 9110, section 9, and RFC 5789; but CONNECT, which makes a tunnel of the connection.
_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE"))
_NO_ROUTE_HAS = b"TRACE"

_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_LONE_LF = re.compile(rb"(?<!\r)\n")
_NO_QUERY: Mapping[str, str] = {}


class Head:
    """A parsed head. It is immutable, so equal bytes share one.

    `path` is without the tenant's prefix. `bad_query`: why `query` is empty.
    """

    __slots__ = ("bad_query", "block", "line", "path", "query", "raw", "tenant")

    def __init__(self, line: RequestLine, block: Block, raw: bytes) -> None:
        self.line = line
        self.block = block
        self.raw = raw
        self.tenant, self.path = split_tenant(line.path)
        self.query: Mapping[str, str] = _NO_QUERY
        self.bad_query: Fs9Error | None = None
        if line.query:
            try:
                self.query = parse_query(line.query)
            except Fs9Error as error:
                self.bad_query = error


class Request:
    """A request whose head is complete."""

    __slots__ = (
        "block",
        "head",
        "id",
        "identified",
        "key",
        "line",
        "operation",
        "parsed",
        "path",
        "tenant",
        "trail",
    )

    def __init__(self, parsed: Head) -> None:
        self.parsed = parsed
        self.line = parsed.line
        self.block = parsed.block
        self.head = parsed.raw
        self.path = parsed.path
        self.tenant = parsed.tenant
        #: The namespace it is about (`router.key`), once that is known.
        self.key: str | None = None
        #: Has somebody been asked whose credential it is? Then of which namespace, "": of none.
        self.identified: str | None = None
        #: The operation that answers it in the protocol class, if one does.
        self.operation: Operation | None = None
        #: Given by `workers.account`, which also tells what becomes of it.
        self.id = b""
        self.trail: Trail | None = None

    def head_for_app(self) -> bytes:
        """The head for uvicorn's parser, which refuses methods that are not HTTP's in its own way.

        Those are exchanged for one that no route has; the ASGI scope says the real one. What is
        not ASCII in the query is encoded, which it refuses, too. Without an offer to change
        protocols, which is declined by ignoring it.
        """
        fields, method = self.block.fields, self.line.method
        if method in _METHODS and b"upgrade" not in fields and self.line.query.isascii():
            return self.head
        first = self.head[len(method) : self.head.index(b"\r\n") + 2]
        first = _NOT_ASCII.sub(lambda found: b"%%%02X" % found[0][0], first)
        first = (method if method in _METHODS else _NO_ROUTE_HAS) + first
        kept = (b"%b: %b\r\n" % item for item in fields.items() if item[0] != b"upgrade")
        return first + b"".join(kept) + b"\r\n"


class Heads:
    """Parses heads for one worker, and caches them."""

    def __init__(self, limits: Limits, blocks: Blocks) -> None:
        self._limits = limits
        self._blocks = blocks
        self._kept: dict[bytes, Head] = {}

    def read(self, data: bytes, start: int = 0) -> Request | None:
        """The request at `start` of `data`; None when its head is not complete yet.

        Raises MalformedRequest, UriTooLong, HeadersTooLarge, as soon as it is certain.
        """
        head_end = data.find(b"\r\n\r\n", start)
        if head_end >= 0:
            raw = data[start : head_end + 4]
            head = self._kept.get(raw)
            if head is not None:
                return Request(head)
            return self._parse(raw)
        if start:
            data = data[start:]
        self._check_size(len(data), data.find(b"\r\n"), head_end)
        if _LONE_LF.search(data):
            raise MalformedRequest("a line does not end with CRLF")
        return None

    def _parse(self, raw: bytes) -> Request:
        line_end, head_end = raw.index(b"\r\n"), len(raw) - 4
        self._check_size(len(raw), line_end, head_end)
        line = parse_request_line(raw[:line_end])
        block = self._blocks.parse(raw[line_end + 2 : head_end + 2], line.minor)
        head = Head(line, block, raw)
        if len(raw) <= HEAD_BYTES_MAX and not changing(block):
            if len(self._kept) >= HEADS_MAX:
                self._kept.clear()
            self._kept[raw] = head
        return Request(head)

    def _check_size(self, size: int, line_end: int, head_end: int) -> None:
        limits = self._limits
        if (line_end if line_end >= 0 else size) > limits.request_line_bytes_max:
            raise UriTooLong(f"at most {limits.request_line_bytes_max} bytes")
        if (head_end if head_end >= 0 else size) - line_end > limits.headers_bytes_max:
            raise HeadersTooLarge(f"at most {limits.headers_bytes_max} bytes")
