"""Memory for reads is used again, and never while somebody has it."""

from __future__ import annotations

import ctypes
import mmap

from fs9.providers.pagefs.buffers import KEPT_BYTES, KEPT_MAX, LEAST_BYTES, Buffers


def test_what_nobody_has_is_used_again():
    """A buffer that was dropped is given out again, whatever the sizes."""
    buffers = Buffers()
    first = buffers.take(LEAST_BYTES)
    first[:3] = b"abc"
    del first
    again = buffers.take(2 * LEAST_BYTES)
    assert again[:3] == b"abc"
    assert len(again) == 2 * LEAST_BYTES


def test_what_somebody_has_is_left_alone():
    """However it is held: itself, by a view, by a view of a view, in a closure."""
    buffers = Buffers()
    held: list[object] = []
    for number in range(20):
        buffer = buffers.take(LEAST_BYTES)
        buffer[:] = bytes([number]) * LEAST_BYTES
        kinds = [buffer, memoryview(buffer), memoryview(buffer)[5:9], lambda it=buffer: it]
        held.append(kinds[number % 4])
        del buffer, kinds
    for number, each in enumerate(held):
        view = each() if callable(each) else each
        assert isinstance(view, memoryview)
        assert set(view) == {number}


def test_small_and_huge_ones_are_not_kept():
    """Only sizes whose memory costs something, and not what would keep much of it."""
    buffers = Buffers()
    for size in (100, KEPT_BYTES + 1):
        first = buffers.take(size)
        assert len(first) == size
        first[:1] = b"a"
        del first
        assert buffers.take(size)[:1] == b"\0"


def test_large_ones_begin_with_a_page():
    """Kept or not: a copy to a few bytes behind the beginning of a page takes twice as long."""
    buffers = Buffers()
    taken = [buffers.take(LEAST_BYTES) for _ in range(KEPT_MAX + 2)]
    taken.append(buffers.take(KEPT_BYTES + 1))
    for buffer in taken:
        assert ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % mmap.PAGESIZE == 0
