"""HTTP/1.1 message framing: where a request head ends, where its body ends; sans-IO.

A connection can be handed to another process only between two requests, so the byte at which
a request ends must be known exactly, and no later parser may see it differently. This parser
is strict where RFC 9112 leaves room: whatever two parsers could read in two ways (two
lengths, length and chunked, blanks before a colon, folded lines, bare LF) is refused.

`parse_block` and the framers raise `MalformedRequest` and its kin; the caller answers and
closes the connection.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from fs9.errors import HeadersTooLarge, MalformedRequest
from router.key import token_namespace

if TYPE_CHECKING:
    from fs9.types import Buffer

HEADERS_MAX = 100
#: A chunk-size line with its extension, and the trailer section, in bytes.
CHUNK_LINE_BYTES_MAX = 1024
TRAILER_BYTES_MAX = 8192

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
#: request-line of RFC 9112, section 3, in origin-form or absolute-form. A query may have what is
#: not ASCII as it is, as curl sends it: it names files, and no part of the framing.
_REQUEST_LINE = re.compile(
    rb"([A-Z]{1,16}) ((?:[Hh][Tt][Tt][Pp]s?://[^\s/?#\x00-\x20\x7f-\xff]+)?)"
    rb"(/[\x21-\x22\x24-\x3e\x40-\x7e]*(?:\?[\x21-\x22\x24-\x7e\x80-\xff]*)?|\*)"
    rb" HTTP/1\.([01])"
)
_FIELD_LINE = re.compile(
    rb"(" + _TOKEN + rb"):[ \t]*((?:[\x21-\x7e\x80-\xff]+(?:[ \t]+[\x21-\x7e\x80-\xff]+)*)?)[ \t]*"
)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_FRAMING_FIELDS = (b"content-length", b"transfer-encoding", b"host", b"expect", b"authorization")


class RequestLine(msgspec.Struct, frozen=True, gc=False):
    method: bytes
    path: bytes
    query: bytes
    minor: int


class Block(msgspec.Struct, gc=False):
    """All header lines of one request, checked. Equal bytes always give an equal block."""

    fields: dict[bytes, bytes]
    #: Body length in bytes; None when chunked.
    length: int | None
    expect_continue: bool
    close: bool
    #: `fields` as text, for the operations.
    text_fields: dict[str, str]
    #: The namespace that the token names (`router.key.token_namespace`), read once per block.
    claimed_namespace: str | None
    #: What the worker keeps with the block for the next request that has it.
    kept: object = None


def parse_request_line(line: bytes) -> RequestLine:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise MalformedRequest("the request line is not `METHOD /target HTTP/1.1`")
    path, _, query = match[3].partition(b"?")
    return RequestLine(match[1], path, query, 1 if match[4] == b"1" else 0)


def parse_block(block: bytes, minor: int = 1) -> Block:
    """The header lines `block`, each ended by CRLF, without the empty line."""
    fields: dict[bytes, bytes] = {}
    lines = block.split(b"\r\n")
    if lines.pop():
        raise MalformedRequest("the last header line is not ended")
    if len(lines) > HEADERS_MAX:
        raise HeadersTooLarge(f"at most {HEADERS_MAX} header lines")
    for line in lines:
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            raise MalformedRequest("a header line is not `name: value`")
        name = match[1].lower()
        if name in fields:
            if name in _FRAMING_FIELDS:
                raise MalformedRequest(f"more than one {name.decode()} header")
            fields[name] += b", " + match[2]
        else:
            fields[name] = match[2]
    if minor and b"host" not in fields:
        raise MalformedRequest("an HTTP/1.1 request needs a host header")
    connection = fields.get(b"connection", b"").lower()
    return Block(
        fields=fields,
        length=_body_length(fields, minor),
        expect_continue=_expects_continue(fields),
        close=b"close" in connection or (not minor),
        claimed_namespace=token_namespace(fields.get(b"authorization")),
        text_fields={name.decode(): value.decode("latin-1") for name, value in fields.items()},
    )


def _body_length(fields: dict[bytes, bytes], minor: int) -> int | None:
    length = fields.get(b"content-length")
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise MalformedRequest("both content-length and transfer-encoding")
        if coding.lower() != b"chunked" or not minor:
            raise MalformedRequest("the only transfer-encoding understood is `chunked`")
        return None
    if length is None:
        return 0
    if not length.isdigit() or len(length) > 18:
        raise MalformedRequest("content-length is not a decimal number")
    return int(length)


def _expects_continue(fields: dict[bytes, bytes]) -> bool:
    expect = fields.get(b"expect")
    if expect is None:
        return False
    if expect.lower() != b"100-continue":
        raise MalformedRequest("the only expectation understood is `100-continue`")
    return True


class LengthFramer:
    """A body of a known number of bytes."""

    __slots__ = ("remaining",)

    def __init__(self, length: int) -> None:
        self.remaining = length

    @property
    def done(self) -> bool:
        return not self.remaining

    def feed(self, data: Buffer, start: int, end: int) -> tuple[int, list[tuple[int, int]]]:
        """(first byte after what was consumed, spans of content), within data[start:end]."""
        size = min(end - start, self.remaining)
        self.remaining -= size
        return start + size, [(start, start + size)] if size else []


class ChunkedFramer:
    """A chunked body (RFC 9112, section 7.1), fed in any fragments."""

    __slots__ = ("_line", "_state", "_trailer", "received", "remaining")

    _SIZE, _DATA, _DATA_END, _TRAILER, _DONE = range(5)

    def __init__(self) -> None:
        self._state = self._SIZE
        self._line = bytearray()
        self._trailer = 0
        #: Content bytes left of the present chunk, and those that there were in all.
        self.remaining = self.received = 0

    @property
    def done(self) -> bool:
        return self._state == self._DONE

    def feed(self, data: Buffer, start: int, end: int) -> tuple[int, list[tuple[int, int]]]:
        """(first byte after what was consumed, spans of content), within data[start:end]."""
        spans: list[tuple[int, int]] = []
        while start < end and self._state != self._DONE:
            if self._state == self._DATA:
                size = min(end - start, self.remaining)
                spans.append((start, start + size))
                start += size
                self.received += size
                self.remaining -= size
                if not self.remaining:
                    self._state = self._DATA_END
            else:
                start = self._feed_line(data, start, end)
        return start, spans

    def _feed_line(self, data: Buffer, start: int, end: int) -> int:
        """Collect one line; act on it when it is whole."""
        window = bytes(data[start : min(end, start + CHUNK_LINE_BYTES_MAX)])
        cut = window.find(b"\n")
        self._line += window[: cut + 1] if cut >= 0 else window
        if len(self._line) > CHUNK_LINE_BYTES_MAX:
            raise MalformedRequest("a chunk line is too long")
        if cut < 0:
            return start + len(window)
        line = bytes(self._line)
        self._line.clear()
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise MalformedRequest("a chunk line does not end with CRLF")
        self._on_line(line[:-2])
        return start + cut + 1

    def _on_line(self, line: bytes) -> None:
        if self._state == self._SIZE:
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None:
                raise MalformedRequest("a chunk size is not a hexadecimal number")
            self.remaining = int(match[1], 16)
            self._state = self._DATA if self.remaining else self._TRAILER
        elif self._state == self._DATA_END:
            if line:
                raise MalformedRequest("a chunk is longer than its size says")
            self._state = self._SIZE
        elif not line:
            self._state = self._DONE
        else:
            self._trailer += len(line)
            if self._trailer > TRAILER_BYTES_MAX or _FIELD_LINE.fullmatch(line) is None:
                raise MalformedRequest("the trailer section is malformed or too long")


Framer = LengthFramer | ChunkedFramer


def body_framer(block: Block) -> Framer:
    return ChunkedFramer() if block.length is None else LengthFramer(block.length)


class ResponseFramer:
    """Where the response of another worker ends; interim (1xx) responses are passed over.

    Only our own workers are read with this, so a length or chunked framing is always there.
    """

    __slots__ = ("_body", "_head", "_no_body", "close", "done", "started")

    def __init__(self, *, to_head_request: bool) -> None:
        self._no_body = to_head_request
        self._head = b""
        self._body: Framer | None = None
        self.started = False
        self.done = False
        self.close = False

    def feed(self, data: bytes) -> int:
        """How many bytes of `data` belong to this response."""
        position = 0
        while position < len(data) and not self.done:
            if self._body is None:
                position = self._feed_head(data, position)
            else:
                position, _ = self._body.feed(data, position, len(data))
                self.done = self._body.done
        return position

    def _feed_head(self, data: bytes, position: int) -> int:
        self.started = True
        kept = len(self._head)
        self._head += data[position:]
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return len(data)
        head, self._head = self._head[:end], b""
        status = int(head[9:12])
        if status >= 200:
            fields = _response_fields(head)
            self.close = fields.get(b"connection", b"") == b"close"
            if self._no_body or status in {204, 304}:
                self.done = True
            elif fields.get(b"transfer-encoding") == b"chunked":
                self._body = ChunkedFramer()
            else:
                self._body = LengthFramer(int(fields.get(b"content-length", b"0")))
                self.done = self._body.done
        return position + end + 4 - kept


def _response_fields(head: bytes) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip().lower()
    return fields
