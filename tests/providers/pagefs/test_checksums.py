"""Checksums are CRC32C, and those of units make that of all."""

from __future__ import annotations

import random

import pytest

from fs9.providers.pagefs import checksums
from fs9.providers.pagefs.records import UNIT_BYTES


@pytest.mark.parametrize("unit_bytes", [4096, UNIT_BYTES])
def test_checksums_of_units_make_that_of_all(unit_bytes: int) -> None:
    data = random.Random(7).randbytes(9 * unit_bytes)
    sums = checksums.of_units(data, unit_bytes)
    assert checksums.combined(sums, unit_bytes) == checksums.crc32c(data)
    assert checksums.combined(b"", unit_bytes) == checksums.crc32c(b"") == 0


def test_checksums_are_crc32c() -> None:
    """RFC 3720, B.4: the bytes of its examples, and one after the other."""
    assert checksums.crc32c(bytes(32)) == 0x8A9136AA
    assert checksums.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert checksums.crc32c(bytes(range(32))) == 0x46DD794E
    assert checksums.crc32c(bytes(range(9, 32)), checksums.crc32c(bytes(range(9)))) == 0x46DD794E
