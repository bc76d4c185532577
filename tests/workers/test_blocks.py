"""workers.blocks: what is kept and what is cut out changes nothing of what is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs9.errors import MalformedRequest
from router.framing import Block, parse_block
from workers.blocks import BLOCKS_MAX, Blocks

LINES = st.sampled_from(
    [
        b"Host: a\r\n",
        b"Accept: */*\r\n",
        b"X-Request-ID: abc\r\n",
        b"x-request-id:\t1-2 \r\n",
        b"x-request-id: a b\r\n",
        b"X-Request-ID:\r\n",
        b"traceparent: 00-1-2-01\r\n",
        b"not-x-request-id: 7\r\n",
        b"Content-Length: 5\r\n",
        b" folded\r\n",
        b"a: b\nx-request-id: 1\r\n",
        b"x-request-id : 1\r\n",
        b"x-request-id: caf\xe9\r\n",
        b"x: traceparent: 9\r\n",
        b"Connection: close\r\n",
    ]
)


def read(parse, data: bytes) -> Block | str:
    try:
        return parse(data, 1)
    except MalformedRequest as error:
        return str(error)


@given(st.lists(st.lists(LINES, max_size=6), min_size=1, max_size=5))
def test_every_block_is_read_as_if_nothing_was_kept_or_cut_out(blocks: list[list[bytes]]) -> None:
    """Invariant: the same block, or the same refusal, as `parse_block` gives."""
    kept = Blocks()
    for lines in blocks:
        data = b"Host: x\r\n" * (b"Host: a\r\n" not in lines) + b"".join(lines)
        for _ in range(2):
            assert read(kept.parse, data) == read(parse_block, data)


def test_changing_ids_do_not_drive_the_others_out() -> None:
    kept = Blocks()
    first = kept.parse(b"Host: a\r\n", 1)
    for number in range(BLOCKS_MAX + 1):
        block = kept.parse(b"Host: a\r\nX-Request-ID: %d\r\n" % number, 1)
        assert block.fields[b"x-request-id"] == b"%d" % number
    assert kept.parse(b"Host: a\r\n", 1) is first
    assert b"x-request-id" not in first.fields


def test_what_is_refused_once_is_refused_again() -> None:
    kept = Blocks()
    for _ in range(2):
        with pytest.raises(MalformedRequest):
            kept.parse(b"X-Request-ID: 1\r\n", 1)  # no host
