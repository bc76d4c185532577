"""Checksums of rows, for metadata stores that have none of their own: CRC32C behind each value.

It is of the key and the value, so a row that is found under another key is damaged, too.
"""

from __future__ import annotations

from fastcrc.crc32 import iscsi as crc32c

from fs9.errors import Internal

_SEAL_BYTES = 4
#: The checksum of whatever has its own checksum behind it.
_WHOLE = crc32c(crc32c(b"").to_bytes(_SEAL_BYTES, "little"))


class DamagedRow(Internal):
    """The row with this key is not what was written."""

    kind = Internal.kind

    def __init__(self, key: bytes) -> None:
        super().__init__("the metadata is damaged: a checksum does not match")
        self.key = key


def sealed(key: bytes, value: bytes) -> bytes:
    """The value as it is stored."""
    return value + crc32c(key + value).to_bytes(_SEAL_BYTES, "little")


def unsealed(key: bytes, stored: bytes) -> bytes:
    """The value of what is stored. Raises DamagedRow."""
    if crc32c(key + stored) != _WHOLE:
        raise DamagedRow(key)
    return stored[:-_SEAL_BYTES]
