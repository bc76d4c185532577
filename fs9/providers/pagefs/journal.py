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

import contextlib
import errno
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from fastcrc.crc32 import iscsi as crc32c

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"fs9jrnl1"
_HEADER = struct.Struct("<8s36sQ")
_HEADER_BYTES = _HEADER.size + 4
_RECORD = struct.Struct("<II")
_PREFIX = "journal-"
#: The space behind the end, and how much more is taken at a time.
RESERVE_BYTES = 64 * 1024
_STEP_BYTES = 16 * 1024
_LONG_BYTES = 1024 * 1024
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
        self._allocated = 0
        try:
            self._write(header + self._salt.to_bytes(4, "little"))
        except OSError:
            os.close(self._fd)
            self.remove()  # a reader would look no further
            raise
        with contextlib.suppress(OSError):  # the first record that needs it says so
            self._allocate(0)

    @property
    def size_bytes(self) -> int:
        return self._end

    def append(self, record: Record, *, makes_room: bool = False) -> None:
        """Write the record. Raises OSError, and the journal is as if nothing had happened."""
        payload = _encode(record)
        data = _RECORD.pack(len(payload), crc32c(payload, self._salt)) + payload
        if not makes_room and self._end + len(data) + RESERVE_BYTES > self._allocated:
            self._allocate(len(data))
        self._write(data)

    def _allocate(self, size: int) -> None:
        """Have space for so much, and the reserve behind it. Raises OSError.

        A long one also needs the space to be moved to LMDB, whose pages take a quarter more.
        """
        end = self._end + size + RESERVE_BYTES
        disk = os.fstatvfs(self._fd)
        if end > _LONG_BYTES and disk.f_bavail * disk.f_frsize < 2 * end:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for wanted in (end + _STEP_BYTES, end):
            try:
                os.posix_fallocate(self._fd, 0, wanted)
            except OSError:
                if wanted == end:
                    raise
            else:
                self._allocated = wanted
                return

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


class OldJournal(NamedTuple):
    """One that an earlier process left: what is whole in it, not decoded, and where that ends."""

    path: Path
    #: The boot of the machine in which it was begun; None: it has no valid header.
    boot: str | None
    #: The number of its first record.
    first: int
    payloads: list[bytes]
    end: int


class OldJournals:
    """Those that an earlier process left, as long as they are needed."""

    def __init__(self, left: list[OldJournal], but: Path) -> None:
        """`but`: the journal of this process."""
        self._paths = [old.path for old in left if old.path != but]

    def sync(self) -> None:
        """Blocks. Raises OSError."""
        for path in self._paths:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)

    def close(self) -> None:
        """Nothing is open."""

    def remove(self) -> None:
        for path in self._paths:
            path.unlink(missing_ok=True)


def files(directory: Path) -> list[Path]:
    """The journals in the directory, oldest first."""
    return sorted(directory.glob(f"{_PREFIX}*"))


def read(directory: Path) -> list[OldJournal]:
    """What the journals in the directory have, oldest first; blocks. Raises OSError."""
    return [_read(path) for path in files(directory)]


def replay(left: list[OldJournal], boot: str) -> tuple[list[Record], bool]:
    """The records that count, in order; was the last writer of this boot of the machine?

    Each writer has decided what counted of those before it, and went on with the next number.
    What one of them added after that was never acknowledged.
    """
    records: list[Record] = []
    last_boot = boot
    for old in left:
        if old.boot is None:  # a crash while the file was made
            break
        last_boot = old.boot
        while records and records[-1].number >= old.first:
            records.pop()
        for record in map(_decode, old.payloads):
            if records and record.number != records[-1].number + 1:
                break
            records.append(record)
    if last_boot == boot:
        return records, True
    mark = max((record.mark for record in records), default=0)
    return [record for record in records if record.number <= mark], False


def trim(left: list[OldJournal]) -> None:
    """Give the space behind the records back; blocks. Raises OSError."""
    for old in left:
        os.truncate(old.path, old.end)


def _read(path: Path) -> OldJournal:
    """The whole records at the beginning of the file."""
    data = path.read_bytes()
    if len(data) < _HEADER_BYTES:
        return OldJournal(path, None, 0, [], 0)
    magic, boot, first = _HEADER.unpack_from(data)
    salt = crc32c(data[: _HEADER.size])
    if magic != _MAGIC or salt != int.from_bytes(data[_HEADER.size : _HEADER_BYTES], "little"):
        return OldJournal(path, None, 0, [], 0)
    payloads, at = [], _HEADER_BYTES
    while at + _RECORD.size <= len(data):
        length, checksum = _RECORD.unpack_from(data, at)
        payload = data[at + _RECORD.size : at + _RECORD.size + length]
        if not length or len(payload) != length or crc32c(payload, salt) != checksum:
            break
        payloads.append(payload)
        at += _RECORD.size + length
    return OldJournal(path, boot.decode("ascii").strip(), first, payloads, at)
