"""workers.request: equal bytes are read once, and others never for them."""

from __future__ import annotations

import pytest

from fs9.errors import Fs9Error, HeadersTooLarge, InvalidArgument, MalformedRequest, UriTooLong
from fs9.limits import Limits
from workers.blocks import Blocks
from workers.request import HEADS_MAX, Heads

GET = b"GET /acme/api/v1/stat?path=%2Fa+b HTTP/1.1\r\nHost: x\r\n\r\n"


def heads(**limits: int) -> Heads:
    return Heads(Limits(**limits), Blocks())


def test_a_head_is_taken_apart_and_what_follows_is_left_alone() -> None:
    request = heads().read(GET + b"GET / HTTP/1.1\r\n")
    assert request is not None
    assert (request.tenant, request.path) == ("acme", b"/api/v1/stat")
    assert request.parsed.query == {"path": "/a b"}
    assert request.head == GET


def test_two_requests_with_equal_bytes_share_what_was_parsed_and_nothing_else() -> None:
    reader = heads()
    first, second = reader.read(GET), reader.read(GET)
    assert first is not None
    assert second is not None
    assert first is not second
    assert first.parsed is second.parsed
    first.key = "acme"
    assert second.key is None


def test_a_head_is_read_the_same_before_and_after_it_is_known() -> None:
    reader = heads()
    for number in range(HEADS_MAX + 10):
        wire = b"GET /api/v1/stat?path=/%d HTTP/1.1\r\nHost: x\r\n\r\n" % number
        for _ in range(2):
            request = reader.read(wire)
            assert request is not None
            assert request.parsed.query == {"path": f"/{number}"}


def test_a_bad_query_is_kept_for_whoever_may_ask() -> None:
    request = heads().read(b"GET /api/v1/stat?path=a&path=b HTTP/1.1\r\nHost: x\r\n\r\n")
    assert request is not None
    assert isinstance(request.parsed.bad_query, InvalidArgument | MalformedRequest)
    assert request.parsed.query == {}


@pytest.mark.parametrize("size", range(len(GET)))
def test_a_head_that_is_not_complete_is_waited_for(size: int) -> None:
    assert heads().read(GET[:size]) is None


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"GET / HTTP/1.1\nHost: x\n\n", MalformedRequest),
        (b"GET / HTTP/1.1\r\nHost: x\nA: b", MalformedRequest),
        (b"nonsense\r\n\r\n", MalformedRequest),
        (b"GET /" + b"a" * 200, UriTooLong),
        (b"GET /" + b"a" * 200 + b" HTTP/1.1\r\nHost: x\r\n\r\n", UriTooLong),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 200, HeadersTooLarge),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 200 + b"\r\n\r\n", HeadersTooLarge),
    ],
)
def test_what_cannot_become_a_request_is_refused_at_once(
    data: bytes, error: type[Fs9Error]
) -> None:
    with pytest.raises(error):
        heads(request_line_bytes_max=100, headers_bytes_max=100).read(data)


def test_the_offer_of_another_protocol_is_taken_out() -> None:
    wire = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
    request = heads().read(wire)
    assert request is not None
    assert b"upgrade: h2c" not in request.head_for_app().lower()
    assert request.head_for_app().endswith(b"connection: Upgrade\r\n\r\n")
