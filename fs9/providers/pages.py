"""The bytes of one file in memory: pages that exist only where something was written.

So a hole costs nothing, and a write in the middle of a large file touches only its pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fs9.types import Buffer

#: Large enough that joining pages costs as much as copying (1 MiB in 16 pieces), small enough
#: that filling one up from its first byte does not show.
PAGE_BYTES = 64 * 1024

_ZEROS = memoryview(bytes(PAGE_BYTES))


class Pages:
    """A byte array of `size` bytes, zero where never written.

    A page is stored up to the last byte written in it; nothing at or after `size` is stored,
    so growing again reads zeros.
    """

    __slots__ = ("_pages", "size")

    def __init__(self) -> None:
        self.size = 0
        self._pages: dict[int, bytearray] = {}

    def read(self, offset: int, size: int) -> bytes:
        """A copy of at most `size` bytes; short at the end."""
        end = min(offset + size, self.size)
        if end <= offset:
            return b""
        number, start = divmod(offset, PAGE_BYTES)
        if start + end - offset <= PAGE_BYTES:
            page = self._pages.get(number)
            stop = start + end - offset
            if page is not None and len(page) >= stop:
                return bytes(memoryview(page)[start:stop])
        return b"".join(self._views(offset, end))

    def _views(self, offset: int, end: int) -> Iterator[memoryview]:
        while offset < end:
            number, start = divmod(offset, PAGE_BYTES)
            stop = min(PAGE_BYTES, start + end - offset)
            page = self._pages.get(number)
            stored = 0 if page is None else len(page)
            if page is not None and start < stored:
                yield memoryview(page)[start : min(stop, stored)]
            if stop > stored:
                yield _ZEROS[: stop - max(start, stored)]
            offset += stop - start

    def write(self, offset: int, data: Buffer) -> None:
        """Write all; a gap before `offset` reads as zeros."""
        view = memoryview(data)
        done = 0
        while done < len(view):
            number, start = divmod(offset + done, PAGE_BYTES)
            piece = view[done : done + PAGE_BYTES - start]
            page = self._pages.get(number)
            if page is None:
                page = self._pages[number] = bytearray()
            if start > len(page):
                page += _ZEROS[: start - len(page)]
            page[start : start + len(piece)] = piece
            done += len(piece)
        self.size = max(self.size, offset + done)

    def resize(self, size: int) -> None:
        """Cut off, or add zeros that are not stored."""
        if size < self.size:
            last, kept = divmod(size, PAGE_BYTES)
            for number in [number for number in self._pages if number >= last]:
                if number == last and kept:
                    del self._pages[number][kept:]
                else:
                    del self._pages[number]
        self.size = size

    @property
    def stored(self) -> int:
        """Bytes really in memory."""
        return sum(map(len, self._pages.values()))
