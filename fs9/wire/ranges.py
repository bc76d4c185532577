"""Byte ranges (RFC 9110, section 14): parse `Range`, format `Content-Range`.

One range is honoured. Several are answered with the whole file, which the RFC allows: a
multipart answer helps no client of a file system. What is not a range at all is ignored.
"""

from __future__ import annotations

import re

import msgspec

from fs9.errors import RangeNotSatisfiable

# Units are case-insensitive; positions are digits only, more than anybody needs to say
# "to the end" with a large number.
_ONE = re.compile(r"bytes=[ \t]*([0-9]{0,40})-([0-9]{0,40})[ \t]*", re.IGNORECASE)


class ByteRange(msgspec.Struct, frozen=True, gc=False):
    """`length` bytes from `start`; at least one byte, all within the file."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """The part of a file of `size` bytes that is asked for; None means the whole file.

    The end is clamped to the file, a suffix longer than the file is the whole file (as a
    range). Raises RangeNotSatisfiable when the range starts past the end or is `-0`. An empty
    file has no parts: any range of it is the whole.
    """
    if header is None or size == 0:
        return None
    match = _ONE.fullmatch(header)
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return _suffix(last, size)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise RangeNotSatisfiable(str(size))
    end = min(int(last), size - 1) if last else size - 1
    return ByteRange(start, end - start + 1)


def _suffix(last: str, size: int) -> ByteRange | None:
    if not last:
        return None
    length = min(int(last), size)
    if length == 0:
        raise RangeNotSatisfiable(str(size))
    return ByteRange(size - length, length)


def format_range(start: int, length: int | None = None) -> str:
    """The `Range` header for `length` bytes from `start` (None: to the end)."""
    return f"bytes={start}-" if length is None else f"bytes={start}-{start + length - 1}"
