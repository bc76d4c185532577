"""CRC32C of the units of extents, and from those that of a whole extent, without its bytes."""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING

from fastcrc.crc32 import iscsi as crc32c

from fs9.providers.pagefs.records import EXTENT_BYTES_MAX

if TYPE_CHECKING:
    from fs9.providers.pagefs.records import Extent
    from fs9.types import Buffer

_SUM = struct.Struct(">I")


def of_units(data: Buffer, unit_bytes: int) -> bytes:
    """The CRC32C of each unit of the data."""
    size = len(data)
    if size <= unit_bytes:
        return crc32c(data).to_bytes(4, "big")
    view = memoryview(data)
    units = [slice(at, at + unit_bytes) for at in range(0, size, unit_bytes)]
    return struct.pack(f">{len(units)}I", *map(crc32c, map(view.__getitem__, units)))


def filled(sums: bytes, data: Buffer) -> bytes:
    """The checksums of units, of which the last one got the data as well."""
    return sums[:-4] + crc32c(data, int.from_bytes(sums[-4:], "big")).to_bytes(4, "big")


@functools.cache
def _shifted(unit_bytes: int) -> tuple[list[int], ...]:
    """What a checksum becomes when a unit of zeros follows, for each of its bytes: by tables.

    crc(a + b) is crc(b) after a's checksum was shifted by b's length, a linear operation.
    """
    zeros = bytes(unit_bytes)
    nothing = crc32c(zeros)
    bits = [crc32c(zeros, 1 << bit) ^ nothing for bit in range(32)]
    tables = []
    for low in range(0, 32, 8):
        table = [0]
        for bit in bits[low : low + 8]:
            table += [value ^ bit for value in table]
        tables.append(table)
    return tuple(tables)


def combined(sums: bytes, unit_bytes: int) -> int:
    """The checksum of all bytes together, of units that are full."""
    first, second, third, fourth = _shifted(unit_bytes)
    found = 0
    for (own,) in _SUM.iter_unpack(sums):
        found = (
            first[found & 255]
            ^ second[found >> 8 & 255]
            ^ third[found >> 16 & 255]
            ^ fourth[found >> 24]
            ^ own
        )
    return found


def whole(stored: int, sums: bytes, unit_bytes: int) -> int | None:
    """`Extent.whole` of so many bytes."""
    return combined(sums, unit_bytes) if stored == EXTENT_BYTES_MAX else None


def verify(extent: Extent, data: Buffer, lowest: int, unit_bytes: int) -> bool:
    """Do the bytes (whole units, from the byte `lowest` on) match the extent's checksums?"""
    if extent.whole is not None and len(data) == extent.stored:
        return crc32c(data) == extent.whole
    first = lowest // unit_bytes
    count = -(-len(data) // unit_bytes)
    found = of_units(data, unit_bytes)
    return found == extent.checksums[4 * first : 4 * (first + count)]
