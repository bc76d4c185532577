"""The watch log on disk: what happened in a namespace, for whoever owns it next.

    head       begins a segment: the log's epoch, and its position
    event      something happened; `ends`: the change or the writing that this event reports
    begun      a change has begun
    writing    an open file is being written to
    dropped    a change was refused, or a writing was reported

Lines of JSON, each appended with one write(2): before a change begins, and before it is answered or
reported. Never synced, so they survive the process but not a loss of power; a fleet that starts
anew removes them. There are at most two segments, `NAME.old` and `NAME`: when the younger one is
long enough it replaces the older one, so nothing is ever rewritten. Everything belongs to the event
loop; only loading happens in a thread.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from fs9.path import is_within

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fs9.threads import BlockingPool

log = logging.getLogger(__name__)

#: A suffix that no namespace name has.
_OLD = ".old"


class Head(msgspec.Struct, frozen=True, array_like=True, tag="h"):
    """`mounts` tells whether the namespace still has the same ones."""

    epoch: str
    sequence: int
    number: int
    mounts: str


class Logged(msgspec.Struct, frozen=True, array_like=True, tag="e", gc=False):
    """One event. `ends` 0: it tells of nothing that was begun."""

    sequence: int
    at_ns: int
    kind: str
    path: str
    target: str
    directory: bool
    ends: int


class Begun(msgspec.Struct, frozen=True, array_like=True, tag="b", gc=False):
    number: int
    path: str
    target: str


class Writing(msgspec.Struct, array_like=True, tag="w", gc=False):
    number: int
    path: str


class Dropped(msgspec.Struct, frozen=True, array_like=True, tag="d", gc=False):
    number: int


Line: TypeAlias = Head | Logged | Begun | Writing | Dropped

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
_decode_lines = msgspec.json.Decoder(Line).decode_lines


class Left(msgspec.Struct):
    """What an earlier owner left: its events, and what it did not come to tell of."""

    head: Head
    events: list[Logged] = []
    begun: dict[int, Begun] = {}
    writings: dict[int, Writing] = {}
    #: Of the younger segment.
    lines: int = 0


class WatchFiles:
    """The logs of one fleet, in one directory."""

    def __init__(self, directory: Path, pool: BlockingPool) -> None:
        """Makes the directory."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._pool = pool

    async def load(self, storage: str) -> tuple[WatchFile, Left | None]:
        """That of the namespace with this storage; the caller holds its lock until it is closed."""
        path = self._directory / storage
        return WatchFile(path), await self._pool.run(_load, path)


class WatchFile:
    """The segments of one namespace's log. Every method raises OSError."""

    __slots__ = ("_fd", "_path", "lines")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        #: Of the younger segment.
        self.lines = 0

    def append(self, line: Line) -> None:
        if self._fd < 0:
            self._fd = _open(self._path)
        _write(self._fd, _encode(line) + b"\n")
        self.lines += 1

    def begin(self, lines: Iterable[Line]) -> None:
        """Begin a segment with these lines; what is in the younger one becomes the older one."""
        self.close()
        with suppress(FileNotFoundError):
            os.replace(self._path, _old(self._path))
        self._fd = _open(self._path)
        _write(self._fd, _encode_lines(list(lines)))
        self.lines = 0

    def remove(self) -> None:
        self.close()
        for path in (self._path, _old(self._path)):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave it to the next owner."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _write(fd: int, data: bytes) -> None:
    if os.write(fd, data) != len(data):
        raise OSError("short write")


def _old(path: Path) -> Path:
    return path.with_name(path.name + _OLD)


# -- in a thread ----------------------------------------------------------------------------


def _load(path: Path) -> Left | None:
    """What both segments add up to. None: there is no log, or none that can be gone on with."""
    try:
        older, younger = _lines_of(_old(path)), _lines_of(path)
        left = _replay([*older, *younger])
        if left is not None:
            left.lines = len(younger)
        return left
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.error("the watch log %s cannot be read, watchers begin anew: %s", path, error)
        for each in (path, _old(path)):
            with suppress(OSError):
                each.unlink()
        return None


def _lines_of(path: Path) -> list[Line]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    # What a crash cut off was neither answered nor told.
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        os.truncate(path, len(whole))
    return _decode_lines(whole)


def _replay(lines: list[Line]) -> Left | None:
    left: Left | None = None
    for line in lines:
        if isinstance(line, Head):
            if left is None or left.head.epoch != line.epoch:
                left = Left(line)
            # The lines after it say again what is unfinished.
            left.head, left.begun, left.writings = line, {}, {}
        elif left is not None:  # else a crash came between two segments: the log is shorter
            _add(left, line)
    return left


def _add(left: Left, line: Line) -> None:
    match line:
        case Logged():
            left.events.append(line)
            left.begun.pop(line.ends, None)
            left.writings.pop(line.ends, None)
            if line.target:
                for writing in left.writings.values():
                    if is_within(writing.path, line.path):
                        writing.path = line.target + writing.path[len(line.path) :]
        case Begun():
            left.begun[line.number] = line
        case Writing():
            left.writings[line.number] = line
        case Dropped():
            left.begun.pop(line.number, None)
            left.writings.pop(line.number, None)
