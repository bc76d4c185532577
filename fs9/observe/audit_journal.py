"""The journal of events that are not in the store yet: one file for each namespace.

    event     something happened; `ends`: the writing that this event completes
    again     it happened once more, or more of it
    writing   the first write through an open file, whose event follows when the file closes
    batch     these events are about to be stored, as the links up to this one
    stored    they were stored

Lines of JSON, each copied into a shared mapping of the file (mmap(2)) before the change is
answered, and never synced: so they survive the process but not a loss of power, and cost no system
call. The space is allocated beforehand, so that a full disk is an error and not a SIGBUS; unused
space is zero. The namespace's next owner goes on with what is left, and looks in the store for a
batch that may or may not have been stored. A writing without an end becomes an event of unknown
size. The file exists only while events wait. Everything belongs to the event loop; only loading
happens in a thread.
"""

from __future__ import annotations

import logging
import mmap
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from fs9.observe.audit import SUMS
from fs9.observe.audit_chain import AuditRecord

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

log = logging.getLogger(__name__)

#: Lines of events stored meanwhile that a file may have, before it is written anew.
_SLACK_LINES = 4096
#: The file's size at first; it doubles.
_BYTES_MIN = 16 * 1024
#: Suffixes that no namespace name has.
_NEW = ".new"
_UNREADABLE = ".unreadable"


class Entry(msgspec.Struct, array_like=True, tag="e", gc=False, eq=False):
    """An event without its place in the chain. `number` is the journal's own."""

    number: int
    timestamp_ns: int
    event_type: str
    path: str
    user: str
    count: int
    outcome: str
    details: dict[str, Any]
    ends: int = 0
    #: Equal events are counted with it until then.
    open_until_ns: int = 0

    def again(self, details: dict[str, Any], ends: int) -> Again:
        """Count one more that is equal but for what adds up; the line that says so."""
        self.count += 1
        sums = None
        for key in details:
            if key in SUMS:
                self.details[key] += details[key]
                sums = self.details
        return Again(self.number, sums, ends)

    def record(self) -> AuditRecord:
        """The event as it is kept, still without sequence and digest."""
        return AuditRecord(
            *(0, self.timestamp_ns, self.event_type, self.path, self.user, self.count),
            *(self.outcome, dict(self.details), ""),
        )


class Again(msgspec.Struct, frozen=True, array_like=True, tag="a", gc=False):
    """`details` are the sums now; None: as before."""

    number: int
    details: dict[str, Any] | None
    ends: int = 0


class Writing(msgspec.Struct, array_like=True, tag="w", gc=False, eq=False):
    """What is written by one open file. `number` 0: it is not journaled."""

    number: int
    timestamp_ns: int
    path: str
    user: str
    writes: int = 0
    bytes: int = 0


class Batch(msgspec.Struct, frozen=True, array_like=True, tag="b"):
    """The events with these numbers, the last of them as the link `sequence`, `digest`."""

    numbers: list[int]
    sequence: int
    digest: str


class Stored(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    pass


Line: TypeAlias = Entry | Again | Writing | Batch | Stored

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
_decode_lines = msgspec.json.Decoder(Line).decode_lines


class Left(msgspec.Struct):
    """What an earlier owner left. `batch`: nobody knows whether that was stored."""

    entries: dict[int, Entry] = {}
    writings: dict[int, Writing] = {}
    batch: Batch | None = None
    lines: int = 0
    bytes: int = 0


def load(path: Path) -> Left:
    """What the file adds up to. One that cannot be read is set aside and logged."""
    try:
        data = path.read_bytes()
        # A last line that was cut off by a crash was never answered.
        whole = data[: data.rfind(b"\n", 0, (data + b"\0").find(b"\0")) + 1]
        left = _replay(_decode_lines(whole))
        left.bytes = len(whole)
        os.truncate(path, len(whole))  # what is appended finds zeros
    except FileNotFoundError:
        return Left()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.error("the audit journal %s cannot be read, its events are lost: %s", path, error)
        with suppress(OSError):
            os.replace(path, path.with_name(path.name + _UNREADABLE))
        return Left()
    return left


def _replay(lines: list[Line]) -> Left:
    left = Left(lines=len(lines))
    for line in lines:
        match line:
            case Entry():
                left.entries[line.number] = line
                left.writings.pop(line.ends, None)
            case Again():
                entry = left.entries.get(line.number)
                if entry is not None:
                    entry.count += 1
                    entry.details = entry.details if line.details is None else line.details
                left.writings.pop(line.ends, None)
            case Writing():
                left.writings[line.number] = line
            case Batch():
                left.batch = line
            case Stored():
                for number in () if left.batch is None else left.batch.numbers:
                    left.entries.pop(number, None)
                left.batch = None
    return left


class AuditJournal:
    """For the one owner of the namespace."""

    __slots__ = ("_broken", "_lines", "_map", "_path", "_used")

    def __init__(self, path: Path, lines: int = 0, used: int = 0) -> None:
        """`lines` and `used` bytes an earlier owner left."""
        self._path = path
        self._map: mmap.mmap | None = None
        self._lines = lines
        self._used = used
        self._broken = False

    def append(self, line: Line) -> None:
        """Copy it. After a failure nothing is journaled until the next `stored`."""
        if self._broken:
            return
        data = _encode(line) + b"\n"
        end = self._used + len(data)
        if self._map is None or end > len(self._map):
            try:
                self._grow(end)
            except OSError as error:
                log.error("the audit journal %s cannot be written: %s", self._path, error)
                self._broken = True
                return
        assert self._map is not None
        self._map[self._used : end] = data
        self._used = end
        self._lines += 1

    def _grow(self, bytes_min: int) -> None:
        """Map the file with room for so many bytes."""
        size = max(_BYTES_MIN, 1 << (bytes_min - 1).bit_length())
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
            grown = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self._unmap()
        self._map = grown

    def _unmap(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None

    def stored(self, entries: Collection[Entry], writings: Collection[Writing]) -> None:
        """The last batch is in the store; these are left."""
        left = len(entries) + len(writings)
        try:
            if not left:
                self._remove()
            elif self._broken or self._lines > 4 * left + _SLACK_LINES:
                self._rewrite(entries, writings)
            else:
                self.append(Stored())
        except OSError as error:
            log.error("the audit journal %s cannot be written anew: %s", self._path, error)
            self._broken = True

    def _remove(self) -> None:
        self._unmap()
        self._path.unlink(missing_ok=True)
        self._lines, self._used, self._broken = 0, 0, False

    def _rewrite(self, entries: Collection[Entry], writings: Collection[Writing]) -> None:
        """A file of what is left takes the place of this one."""
        new = self._path.with_name(self._path.name + _NEW)
        data = _encode_lines([*writings, *entries])
        new.unlink(missing_ok=True)  # left by a crash
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
        os.replace(new, self._path)
        self._unmap()
        self._lines, self._used, self._broken = len(entries) + len(writings), len(data), False

    def close(self, *, empty: bool) -> None:
        """Leave the file to the next owner; `empty`: there is nothing in it for that one."""
        self._unmap()
        if empty:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
