"""router.framing: exactly where a request ends, and nothing that two parsers could differ on."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs9.errors import HeadersTooLarge, MalformedRequest
from router.framing import (
    ChunkedFramer,
    LengthFramer,
    ResponseFramer,
    body_framer,
    parse_block,
    parse_request_line,
)


@pytest.mark.parametrize(
    ("line", "method", "path", "query", "minor"),
    [
        (b"GET / HTTP/1.1", b"GET", b"/", b"", 1),
        (b"GET /a?b=c HTTP/1.0", b"GET", b"/a", b"b=c", 0),
        (b"GET /a?b?c=%20 HTTP/1.1", b"GET", b"/a", b"b?c=%20", 1),
        (b"GET http://host:80/a?b HTTP/1.1", b"GET", b"/a", b"b", 1),
        (b"OPTIONS * HTTP/1.1", b"OPTIONS", b"*", b"", 1),
        (b"GET /a?b=\xc3\xa9 HTTP/1.1", b"GET", b"/a", b"b=\xc3\xa9", 1),
    ],
)
def test_a_request_line_is_taken_apart(
    line: bytes, method: bytes, path: bytes, query: bytes, minor: int
) -> None:
    parsed = parse_request_line(line)
    assert (parsed.method, parsed.path, parsed.query, parsed.minor) == (method, path, query, minor)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"GET /",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b" GET / HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b"GET / HTTP/2.0",
        b"GET / HTTP/1.2",
        b"GET / http/1.1",
        b"GET /a b HTTP/1.1",
        b"GET a HTTP/1.1",
        b"get / HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET /\xe9 HTTP/1.1",
        b"GET /#fragment HTTP/1.1",
        b"GET / HTTP/1.1\nHost: x",
        b"CONNECT host:443 HTTP/1.1",
    ],
)
def test_a_request_line_that_could_be_read_in_two_ways_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_request_line(line)


def test_the_number_of_header_lines_has_a_bound() -> None:
    assert parse_block(b"Host: x\r\n" + b"a: b\r\n" * 99)
    with pytest.raises(HeadersTooLarge, match="100"):
        parse_block(b"Host: x\r\n" + b"a: b\r\n" * 100)


def test_headers_are_lower_cased_trimmed_and_joined() -> None:
    block = parse_block(b"Host: x\r\nX-A:  one \t\r\nx-a: two\r\nEmpty:\r\n")
    assert block.fields == {b"host": b"x", b"x-a": b"one, two", b"empty": b""}
    assert block.text_fields["x-a"] == "one, two"
    assert (block.length, block.close, block.expect_continue) == (0, False, False)


@pytest.mark.parametrize(
    "block",
    [
        b"Host : x\r\n",
        b"Host\t: x\r\n",
        b" Host: x\r\n",
        b"Host: x\r\n folded\r\n",
        b"Host: x\r\n\tfolded\r\n",
        b"Host: x\nEvil: y\r\n",
        b"Host: x\rEvil: y\r\n",
        b"Host: a\x00b\r\n",
        b"Host\r\n",
        b": x\r\n",
        b"X-A: b\r\n",  # no host
        b"Host: x\r\nHost: y\r\n",
        b"Host: x\r\nHost: x\r\n",
        b"Host: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
        b"Host: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
        b"Host: x\r\nContent-Length: 1, 1\r\n",
        b"Host: x\r\nContent-Length: +1\r\n",
        b"Host: x\r\nContent-Length: -1\r\n",
        b"Host: x\r\nContent-Length: 0x1\r\n",
        b"Host: x\r\nContent-Length: 1 1\r\n",
        b"Host: x\r\nContent-Length:\r\n",
        b"Host: x\r\nContent-Length: 9999999999999999999\r\n",
        b"Host: x\r\nContent-Length: \xb2\r\n",
        b"Host: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        b"Host: x\r\nTransfer-Encoding: gzip\r\n",
        b"Host: x\r\nTransfer-Encoding: gzip, chunked\r\n",
        b"Host: x\r\nTransfer-Encoding: chunked, chunked\r\n",
        b"Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Host: x\r\nTransfer-Encoding: xchunked\r\n",
        b"Host: x\r\nTransfer-Encoding: \x0bchunked\r\n",
        b"Host: x\r\nAuthorization: a\r\nAuthorization: b\r\n",
        b"Host: x\r\nExpect: 200-ok\r\n",
        b"Host: x",  # the last line is not ended
    ],
)
def test_headers_that_could_be_read_in_two_ways_are_refused(block: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_block(block)


def test_chunked_is_refused_in_http_1_0_where_the_length_would_be_the_end_of_the_connection() -> (
    None
):
    with pytest.raises(MalformedRequest):
        parse_block(b"Transfer-Encoding: chunked\r\n", minor=0)


def test_http_1_0_closes_after_the_answer() -> None:
    assert parse_block(b"", minor=0).close


def run(framer: LengthFramer | ChunkedFramer, wire: bytes, cuts: list[int]) -> tuple[bytes, int]:
    """Feed `wire` cut at `cuts`; the content found, and how many bytes were consumed."""
    content, consumed = b"", 0
    edges = sorted({min(cut, len(wire)) for cut in cuts} | {0, len(wire)})
    for start, end in itertools.pairwise(edges):
        if framer.done:
            break
        stop, spans = framer.feed(wire, start, end)
        content += b"".join(wire[first:last] for first, last in spans)
        consumed += stop - start
    return content, consumed


CHUNKED = b"5;ext=1\r\nhello\r\nA \r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"


@given(cuts=st.lists(st.integers(0, len(CHUNKED) + 4), max_size=12))
def test_a_chunked_body_ends_at_the_same_byte_however_it_is_cut(cuts: list[int]) -> None:
    framer = ChunkedFramer()
    content, consumed = run(framer, CHUNKED + b"GET ", cuts)
    assert framer.done
    assert content == b"hello0123456789"
    assert consumed == len(CHUNKED)


def test_a_chunked_body_byte_by_byte() -> None:
    framer = ChunkedFramer()
    content, consumed = run(framer, CHUNKED + b"x", list(range(len(CHUNKED) + 1)))
    assert (content, consumed, framer.done) == (b"hello0123456789", len(CHUNKED), True)


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"g\r\n",
        b"-5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\rhello\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b" 5\r\nhello\r\n",
        b"5 5\r\nhello\r\n",
        b"ffffffffffffffff1\r\n",
        b"5;" + b"x" * 2000 + b"\r\n",
        b"5;a\x00b\r\nhello\r\n",
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\n" + b"a: " + b"b" * 900 + b"\r\n" + (b"a: " + b"b" * 900 + b"\r\n") * 10 + b"\r\n",
    ],
)
def test_bad_chunk_framing_is_refused(wire: bytes) -> None:
    with pytest.raises(MalformedRequest):
        run(ChunkedFramer(), wire, [])
    with pytest.raises(MalformedRequest):
        run(ChunkedFramer(), wire, list(range(len(wire))))


@given(body=st.binary(max_size=50), cuts=st.lists(st.integers(0, 60), max_size=6))
def test_a_body_of_known_length_never_reaches_into_the_next_request(
    body: bytes, cuts: list[int]
) -> None:
    framer = LengthFramer(len(body))
    content, consumed = run(framer, body + b"NEXT", cuts)
    assert framer.done
    assert (content, consumed) == (body, len(body))


def test_the_framer_follows_the_block() -> None:
    chunked = body_framer(parse_block(b"Host: x\r\nTransfer-Encoding: Chunked\r\n"))
    sized = body_framer(parse_block(b"Host: x\r\nContent-Length: 3\r\n"))
    assert isinstance(chunked, ChunkedFramer)
    assert isinstance(sized, LengthFramer)
    assert sized.remaining == 3


RESPONSES = {
    b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc": False,
    b"HTTP/1.1 204 No Content\r\n\r\n": False,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n": False,
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n": False,
    b"HTTP/1.1 413 X\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx": True,
}


@pytest.mark.parametrize("wire", RESPONSES)
@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_a_response_ends_at_the_same_byte_however_it_is_cut(wire: bytes, step: int) -> None:
    framer = ResponseFramer(to_head_request=False)
    data, taken = wire + b"HTTP/1.1 200", 0
    for start in range(0, len(data), step):
        if framer.done:
            break
        taken += framer.feed(data[start : start + step])
    assert framer.done
    assert taken == len(wire)
    assert framer.close is RESPONSES[wire]


def test_a_response_to_head_has_no_body() -> None:
    framer = ResponseFramer(to_head_request=True)
    wire = b"HTTP/1.1 200 OK\r\ncontent-length: 300\r\n\r\n"
    assert framer.feed(wire + b"HTTP/1.1") == len(wire)
    assert framer.done
