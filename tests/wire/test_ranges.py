"""Byte ranges."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fs9.errors import RangeNotSatisfiable
from fs9.wire.ranges import ByteRange, format_range, parse_range

SIZES = st.integers(1, 2**63 - 1)
POSITIONS = st.integers(0, 10**19 - 1)


@given(SIZES, POSITIONS, POSITIONS)
def test_a_range_is_clamped_to_the_file(size: int, first: int, last: int) -> None:
    header = f"bytes={first}-{last}"
    if last < first:
        assert parse_range(header, size) is None
    elif first >= size:
        with pytest.raises(RangeNotSatisfiable, match=str(size)):
            parse_range(header, size)
    else:
        assert parse_range(header, size) == ByteRange(first, min(last + 1, size) - first)


@given(SIZES, POSITIONS)
def test_a_suffix_is_the_end_of_the_file(size: int, length: int) -> None:
    if length == 0:
        with pytest.raises(RangeNotSatisfiable):
            parse_range("bytes=-0", size)
    else:
        found = parse_range(f"bytes=-{length}", size)
        assert found == ByteRange(size - min(length, size), min(length, size))


@given(st.text(), st.integers(0, 1000))
@example("bytes=0-1,2-3", 10)
@example("bytes=٣-٤", 10)
@example("bytes=0-1 x", 10)
@example("bytes=" + "9" * 20 + "-", 10)
def test_whatever_is_sent_the_part_lies_within_the_file(header: str, size: int) -> None:
    try:
        part = parse_range(header, size)
    except RangeNotSatisfiable:
        return
    if part is not None:
        assert part.start >= 0
        assert part.length >= 1
        assert part.start + part.length <= size


@given(SIZES, st.data())
def test_what_a_client_formats_is_what_the_server_reads(size: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, size - 1))
    length = data.draw(st.integers(1, size - start))
    assert parse_range(format_range(start, length), size) == ByteRange(start, length)
    assert parse_range(format_range(start), size) == ByteRange(start, size - start)


def test_an_empty_file_has_no_parts() -> None:
    for header in ("bytes=0-", "bytes=5-6", "bytes=-1", "bytes=-0"):
        assert parse_range(header, 0) is None


def test_content_range_counts_inclusively() -> None:
    assert ByteRange(0, 500).content_range(1000) == "bytes 0-499/1000"
