"""Memory for large reads, at the start of a page, used again once nobody has it any more.

Fresh memory costs a large read a third of its time: it is zeroed, and its pages are faulted in.
Where it begins matters, too: when a copy's target is a few bytes further into its page than the
source, processors copy at a third of their speed or less (measured for 1 MiB from the page cache:
54 us to the start of a page, 185 to 16 bytes behind it, where malloc(3) puts large pieces).

Whoever gets a buffer may keep it for as long as it likes, or a view of it; a buffer is free when
nothing but this module refers to it, which CPython's reference counts tell. They are read by the
thread of the event loop alone, and each such thread has buffers of its own.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading

from fs9.providers.pagefs.records import EXTENT_BYTES_MAX, UNIT_BYTES

#: Smaller reads allocate from the heap, which costs nothing.
LEAST_BYTES = 64 * 1024
#: Buffers that a thread keeps: what is in flight at once, in most cases.
KEPT_MAX = 4
#: What each can hold: an extent, and a unit and a page more (`Content` reads across extents).
KEPT_BYTES = EXTENT_BYTES_MAX + 2 * UNIT_BYTES + mmap.PAGESIZE


def _count_when_free() -> int:
    """The count of a buffer that nobody else has, where `take` looks; interpreters differ."""
    for memory, _ in [(bytearray(1), 0)]:
        return sys.getrefcount(memory)
    raise AssertionError


_FREE = _count_when_free()


def _first_page(memory: bytearray) -> int:
    """Where the memory's first page begins."""
    return -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % mmap.PAGESIZE


class Buffers(threading.local):
    def __init__(self) -> None:
        #: Each with the place of its first page.
        self._kept: list[tuple[bytearray, int]] = []

    def take(self, size: int) -> bytearray | memoryview:
        """A buffer of the size, with anything in it."""
        if size < LEAST_BYTES:
            return bytearray(size)
        keep = size <= KEPT_BYTES
        if keep:
            kept = self._kept
            for memory, start in kept:  # the first that is free: its bytes are in the cache
                if sys.getrefcount(memory) == _FREE:
                    return memoryview(memory)[start : start + size]
            keep = len(kept) < KEPT_MAX
        # Not mapped for itself: to map, fault in and unmap 1 MiB may take a millisecond.
        fresh = bytearray((KEPT_BYTES if keep else size) + mmap.PAGESIZE)
        start = _first_page(fresh)
        if keep:
            kept.append((fresh, start))
        return memoryview(fresh)[start : start + size]


buffers = Buffers()
