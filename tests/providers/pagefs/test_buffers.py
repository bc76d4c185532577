"""Memory for reads is used again, and never while somebody has it."""

from __future__ import annotations

from fs9.providers.pagefs.buffers import LEAST_BYTES, Buffers


def test_what_nobody_has_is_used_again():
    """A buffer that was dropped is given out again; one of another size is not."""
    buffers = Buffers()
    first = buffers.take(LEAST_BYTES)
    first[:3] = b"abc"
    del first
    again = buffers.take(LEAST_BYTES)
    assert again[:3] == b"abc"
    assert len(buffers.take(2 * LEAST_BYTES)) == 2 * LEAST_BYTES


def test_what_somebody_has_is_left_alone():
    """However it is held: itself, by a view, by a view of a view, in a closure."""
    buffers = Buffers()
    held: list[object] = []
    seen = set()
    for number in range(20):
        buffer = buffers.take(LEAST_BYTES)
        assert id(buffer) not in seen
        seen.add(id(buffer))
        kinds = [buffer, memoryview(buffer), memoryview(buffer)[5:9], lambda it=buffer: it]
        held.append(kinds[number % 4])
        del buffer, kinds
    views = held[1]
    assert isinstance(views, memoryview)
    views[:2] = b"xy"
    assert [bytes(buffers.take(LEAST_BYTES)[:2]) for _ in range(8)] == [b"\0\0"] * 8
    assert views[:2] == b"xy"


def test_small_and_huge_ones_are_not_kept():
    """Only sizes whose memory costs something, and not what would keep much of it."""
    buffers = Buffers()
    for size in (100, 2**22):
        first = buffers.take(size)
        first[:1] = b"a"
        del first
        assert buffers.take(size)[:1] == b"\0"
