"""The journal of the LMDB store: batches in the order in which they were acknowledged.

A file begins with a header (the boot of the machine, the number of its first record) and goes
on with records, each with its length and CRC32C; the checksum begins with the header's, so that
a record of another file never fits. Numbers go up by one, also from file to file. A reader
stops at the first record that is not whole: what survived is always a prefix.

A record that was written survives the process, because the kernel has it; the power only once
it was synced. Of a journal from before the last boot only records up to the last *mark* count:
a mark says up to which number the blocks are durable that the records refer to. So a loss of
power never brings back a name without its bytes.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import msgspec
from fastcrc.crc32 import iscsi as crc32c

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"fs9jrnl1"
_HEADER = struct.Struct("<8s36sQ")
_HEADER_BYTES = _HEADER.size + 4
_RECORD = struct.Struct("<II")
_PREFIX = "journal-"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Record(msgspec.Struct, array_like=True, gc=False):
    """`mark`: records up to this number may come back after a loss of power (0: no mark)."""

    number: int
    mark: int
    id: bytes
    changes: dict[bytes, bytes | None]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


def boot_id() -> str:
    """Which boot of the machine this is (proc(5)): a new one means that the power was off."""
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


class Journal:
    """One journal file, open for writing; every write happens at once, without suspending."""

    def __init__(self, directory: Path, first: int, boot: str) -> None:
        """A new file whose first record will have the number `first`. Raises OSError."""
        self.path = directory / f"{_PREFIX}{first:016x}"
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        header = _HEADER.pack(_MAGIC, boot.encode().ljust(36), first)
        self._salt = crc32c(header)
        self._end = 0
        try:
            self._write(header + self._salt.to_bytes(4, "little"))
        except OSError:
            os.close(self._fd)
            raise

    @property
    def size_bytes(self) -> int:
        return self._end

    def append(self, record: Record) -> None:
        """Write the record. Raises OSError, and the journal is as if nothing had happened."""
        payload = _encode(record)
        self._write(_RECORD.pack(len(payload), crc32c(payload, self._salt)) + payload)

    def _write(self, data: bytes) -> None:
        count = os.pwrite(self._fd, data, self._end)
        while count < len(data):  # a full disk takes a part first, then raises
            count += os.pwrite(self._fd, data[count:], self._end + count)
        self._end += count

    def sync(self) -> None:
        """Blocks. Raises OSError; what the disk has then is unknown."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def files(directory: Path) -> list[Path]:
    """The journals in the directory, oldest first."""
    return sorted(directory.glob(f"{_PREFIX}*"))


def replay(directory: Path, boot: str) -> list[Record]:
    """The records that count, in order; blocks. Raises OSError."""
    records: list[Record] = []
    same_boot = True
    for path in files(directory):
        found, its_boot = _read(path)
        if its_boot is None:  # a crash while the file was made
            break
        same_boot = same_boot and its_boot == boot
        for record in found:
            if records and record.number != records[-1].number + 1:
                break
            records.append(record)
    if same_boot:
        return records
    mark = max((record.mark for record in records), default=0)
    return [record for record in records if record.number <= mark]


def _read(path: Path) -> tuple[list[Record], str | None]:
    """The whole records at the beginning of the file, and its boot; None: no valid header."""
    data = path.read_bytes()
    if len(data) < _HEADER_BYTES:
        return [], None
    magic, boot, _ = _HEADER.unpack_from(data)
    salt = crc32c(data[: _HEADER.size])
    if magic != _MAGIC or salt != int.from_bytes(data[_HEADER.size : _HEADER_BYTES], "little"):
        return [], None
    records, at = [], _HEADER_BYTES
    while at + _RECORD.size <= len(data):
        length, checksum = _RECORD.unpack_from(data, at)
        payload = data[at + _RECORD.size : at + _RECORD.size + length]
        if len(payload) != length or crc32c(payload, salt) != checksum:
            break
        records.append(_decode(payload))
        at += _RECORD.size + length
    return records, boot.decode("ascii").strip()
