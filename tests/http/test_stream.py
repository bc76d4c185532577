"""Bytes of a file, piece by piece."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs9.errors import Transient
from fs9.http.stream import Pieces


class Source:
    """A file in memory that counts its closes and may give fewer bytes than asked for."""

    def __init__(self, content: bytes, at_most: int = 1 << 30) -> None:
        self.content = content
        self.at_most = at_most
        self.closed = 0

    async def read(self, offset: int, size: int) -> bytes:
        return self.content[offset : offset + min(size, self.at_most)]

    async def close(self) -> None:
        self.closed += 1


async def all_of(pieces: Pieces) -> bytes:
    return b"".join([bytes(piece) async for piece in pieces])


@given(
    content=st.binary(max_size=50),
    offset=st.integers(0, 60),
    size=st.integers(0, 60),
    piece_bytes=st.integers(1, 20),
    first=st.booleans(),
)
async def test_all_bytes_asked_for_that_are_there(
    content: bytes, offset: int, size: int, piece_bytes: int, first: bool
) -> None:
    pieces = Pieces(Source(content).read, offset, size, piece_bytes)
    if first:
        expected = content[offset : offset + min(size, piece_bytes)]
        assert await pieces.prefetch() == expected
    assert await all_of(pieces) == content[offset : offset + size]


@given(content=st.binary(min_size=1, max_size=50), at_most=st.integers(1, 5))
async def test_an_exact_stream_goes_on_after_short_pieces(content: bytes, at_most: int) -> None:
    source = Source(content, at_most)
    pieces = Pieces(source.read, 0, len(content), 10, exact=True)
    assert await all_of(pieces) == content


@given(content=st.binary(max_size=50), missing=st.integers(1, 50))
async def test_an_exact_stream_of_a_file_that_shrank_fails(content: bytes, missing: int) -> None:
    pieces = Pieces(Source(content).read, 0, len(content) + missing, 10, exact=True)
    with pytest.raises(Transient):
        await all_of(pieces)


async def test_the_end_is_known_as_soon_as_it_was_seen() -> None:
    for content, size in [(b"", 100), (b"x" * 3, 100), (b"x" * 10, 10)]:
        pieces = Pieces(Source(content).read, 0, size, 10)
        assert not pieces.at_end
        await pieces.prefetch()
        assert pieces.at_end


async def test_it_is_closed_once_also_when_nothing_was_read() -> None:
    source = Source(b"x")
    pieces = Pieces(source.read, 0, 1, 10, close=source.close)
    await pieces.aclose()
    await pieces.aclose()
    assert source.closed == 1
