"""Cuts written data into pieces of an object, and makes the extents that refer to them."""

from __future__ import annotations

from typing import NamedTuple

from fs9.providers.pagefs import checksums
from fs9.providers.pagefs.records import EXTENT_BYTES_MAX, Extent


class Piece(NamedTuple):
    """Bytes of a file from `offset` on, which are at `place` in an object.

    `sums` are the checksums of the units behind `filling` bytes, which fill a unit that others
    have begun.
    """

    offset: int
    data: memoryview
    place: int
    filling: int
    sums: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


def part(offset: int, data: memoryview, place: int, last: Extent | None, unit: int) -> list[Piece]:
    """The bytes, parted where an extent ends. `last`: what the first one goes on, probably.

    Extents end at multiples of their largest size, so that a read of that size is one extent,
    in whatever pieces the file was written.
    """
    head = min(len(data), -offset % EXTENT_BYTES_MAX or EXTENT_BYTES_MAX)
    filling = 0 if last is None else -last.stored % unit
    pieces = [Piece(offset, data[:head], place, filling, _sums(data[filling:head], unit))]
    if head < len(data):
        rest = data[head:]
        pieces.append(Piece(offset + head, rest, place + head, 0, _sums(rest, unit)))
    return pieces


def _sums(data: memoryview, unit: int) -> bytes:
    return checksums.of_units(data, unit) if data else b""


def goes_on(last: Extent, tail: int, piece: Piece) -> bool:
    """Does the piece make the extent longer?"""
    return (
        last.data is None
        and last.number == tail
        and last.offset + last.stored == piece.place
        and last.skip + last.end - last.start == last.stored
        and last.stored + len(piece.data) <= EXTENT_BYTES_MAX
        and last.end % EXTENT_BYTES_MAX != 0
    )


def extent_of(tail: int, piece: Piece, last: Extent | None, unit: int) -> Extent:
    """The extent of the piece, or `last` with it."""
    begun = 0 if last is None else -last.stored % unit
    sums = piece.sums
    if begun != piece.filling:
        sums = _sums(piece.data[begun:], unit)
    if last is None:
        last = Extent(piece.offset, piece.offset, offset=piece.place)
    elif begun:
        sums = checksums.filled(last.checksums, piece.data[:begun]) + sums
    else:
        sums = last.checksums + sums
    stored = last.stored + len(piece.data)
    return Extent(
        last.start,
        piece.end,
        number=tail,
        offset=last.offset,
        skip=last.skip,
        stored=stored,
        checksums=sums,
        whole=checksums.whole(stored, sums, unit),
    )
