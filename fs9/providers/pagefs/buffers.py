"""Memory for large reads, used again once nobody has it any more.

Fresh memory costs a large read a third of its time: it is zeroed, and its pages are faulted in.
Whoever gets a buffer may keep it for as long as it likes, or a view of it; a buffer is free when
nothing but this module refers to it, which CPython's reference counts tell. They are read by the
thread of the event loop alone, and each such thread has buffers of its own.
"""

from __future__ import annotations

import sys
import threading

#: Smaller reads allocate from the heap, which costs nothing.
LEAST_BYTES = 64 * 1024
#: Buffers that a thread keeps: what is in flight at once, in most cases.
_KEPT_MAX = 4
_BUFFER_BYTES_MAX = 1024 * 1024


def _references(kept: list[bytearray], place: int) -> int:
    return sys.getrefcount(kept[place])


#: What the count of a buffer is that nobody else has; measured, as interpreters differ.
_FREE = _references([bytearray(1)], 0)


class Buffers(threading.local):
    def __init__(self) -> None:
        self._kept: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """A buffer of the size, with anything in it."""
        if not LEAST_BYTES <= size <= _BUFFER_BYTES_MAX:
            return bytearray(size)
        kept = self._kept
        free = -1
        for place in range(len(kept)):
            if _references(kept, place) == _FREE:
                if len(kept[place]) == size:
                    return kept[place]
                free = place
        buffer = bytearray(size)
        if len(kept) < _KEPT_MAX:
            kept.append(buffer)
        elif free >= 0:
            kept[free] = buffer
        return buffer


buffers = Buffers()
