"""Memory for large reads, at the start of a page, used again once nobody has it any more.

Fresh memory costs a large read a third of its time: it is zeroed, and its pages are faulted in.
Memory of malloc(3) may cost more: where a copy's target is a few bytes further into its page than
the source, processors copy at a third of their speed or less (measured for 1 MiB from the page
cache: 54 us to the start of a page, 185 to 16 bytes behind it, where malloc puts large pieces).

Whoever gets a buffer may keep it for as long as it likes, or a view of it; a buffer is free when
nothing but this module refers to it, which CPython's reference counts tell. They are read by the
thread of the event loop alone, and each such thread has buffers of its own.
"""

from __future__ import annotations

import mmap
import sys
import threading

#: Smaller reads allocate from the heap, which costs nothing.
LEAST_BYTES = 64 * 1024
#: Buffers that a thread keeps: what is in flight at once, in most cases.
KEPT_MAX = 4
#: What each can hold: an extent. Pages that no read has filled take no memory.
KEPT_BYTES = 1024 * 1024


def _references(kept: list[mmap.mmap], place: int) -> int:
    return sys.getrefcount(kept[place])


def _pages(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


#: What the count of a buffer is that nobody else has; measured, as interpreters differ.
_FREE = _references([_pages(1)], 0)


class Buffers(threading.local):
    def __init__(self) -> None:
        self._kept: list[mmap.mmap] = []

    def take(self, size: int) -> bytearray | memoryview:
        """A buffer of the size, with anything in it."""
        if size < LEAST_BYTES:
            return bytearray(size)
        if size > KEPT_BYTES:
            return memoryview(_pages(size))
        kept = self._kept
        for place in range(len(kept)):  # the first that is free: its bytes are in the cache
            if _references(kept, place) == _FREE:
                buffer = memoryview(kept[place])
                return buffer if size == KEPT_BYTES else buffer[:size]
        if len(kept) == KEPT_MAX:
            return memoryview(_pages(size))
        kept.append(_pages(KEPT_BYTES))
        return memoryview(kept[-1])[:size]


buffers = Buffers()
