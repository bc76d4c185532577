"""Watching a namespace: its log of changes. A watcher is a position in the log.

    Vfs ── change, writing ──> WatchLog ──> events with numbers ──> Watcher (one view, one place)
    File ── closed ────────────┘    └── WatchFile: before it is answered or told

A log begins with the first watcher and ends some time after the last one left; without one a change
costs two calls that do nothing. An event says what to look at again, not what it is now; so
reporting too much does no harm, and `lost` at a path means: look again at everything there and
below. It is reported when the result of a change is not known (its provider failed in the middle,
its process died), and when changes of one path ran side by side, so that their order is not known.

All of it belongs to the event loop of the namespace's owner.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING

from fs9.types import Message
from fs9.vfs.watchchange import Change
from fs9.vfs.watcher import EPOCH_LENGTH, Watcher, place_of
from fs9.vfs.watchfile import Begun, Dropped, Head, Logged, Writing
from fs9.vfs.watchview import LOST, REMOVE, WRITE, WRITTEN, Happened, View

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fs9.clock import Clock
    from fs9.limits import Limits
    from fs9.vfs.handles import File, HandleTable
    from fs9.vfs.watcher import Encode
    from fs9.vfs.watchfile import Left, Line, WatchFile

log = logging.getLogger(__name__)

#: What an open file is written to is told at its first write, then so often at most.
WRITE_INTERVAL_S = 0.2
#: Events that one watcher gets at a time.
_AT_ONCE = 500
#: How long a log goes on after its last watcher has left.
KEEP_S = 3600.0


class _OpenWriting:
    """An open file that is being written to, or was a moment ago."""

    __slots__ = ("changed", "file", "number", "path", "running", "timer")

    def __init__(self, file: File, number: int, path: str) -> None:
        self.file = file
        self.number = number
        self.path = path
        self.running = 0
        self.changed = False
        self.timer: asyncio.TimerHandle | None = None


class WatchStats:
    """Of all namespaces of a worker: watchers, and how often one was told that it missed events."""

    __slots__ = ("lost", "watchers")

    def __init__(self) -> None:
        self.watchers = 0
        self.lost = 0


class WatchLog:
    """The log of one namespace. `active`: somebody watches, or did a while ago."""

    def __init__(self, handles: HandleTable, limits: Limits, clock: Clock) -> None:
        """Kept in memory alone until `go_on` says where it is kept."""
        self.active = False
        self.stats = WatchStats()
        self._handles = handles
        self._clock = clock
        self._events_max = limits.watch_events_max
        self._file: WatchFile | None = None
        self._mounts = ""
        self._epoch = ""
        self._sequence = 0
        self._number = 0
        self._events: list[Happened] = []
        self._encoded: dict[int, Message] = {}
        self._running: set[Change] = set()
        #: How many of those in progress take a path away.
        self._moving = 0
        self._writings: dict[int, _OpenWriting] = {}
        self._watchers: set[Watcher] = set()
        self._left_s = 0.0

    # -- an owner's beginning and end -----------------------------------------------------------

    def go_on(
        self, file: WatchFile, left: Left | None, mounts: str, volatile: Iterable[str]
    ) -> None:
        """Keep the log in the file, from here on, and take over from an earlier owner.

        To be called once, before anything changes. `mounts` is the same text as long as the
        mounts are; at the `volatile` ones everything is another now.
        """
        self._file = file
        self._mounts = mounts
        if left is None:
            return
        self.active = True
        self._handles.moves.keep()
        self._left_s = self._clock.monotonic_s()
        head = left.head
        self._epoch = head.epoch
        self._sequence = max([head.sequence, *(each.sequence for each in left.events[-1:])])
        self._number = max([head.number, *left.begun, *left.writings])
        self._events = [
            Happened(each.sequence, each.at_ns, each.kind, each.path, each.target, each.directory)
            for each in left.events[-self._events_max :]
        ]
        file.lines = left.lines
        for writing in left.writings.values():
            self._tell(WRITE, writing.path, ends=writing.number)
        for begun in left.begun.values():
            if begun.target:
                self._tell(LOST, begun.target)
            self._tell(LOST, begun.path, ends=begun.number)
        for path in ["/"] if head.mounts != mounts else volatile:
            self._tell(LOST, path)
        if self.active:
            self._journal(self._head())

    def close(self) -> None:
        """Leave the log to the next owner; what is told from now on is told to nobody."""
        for writing in list(self._writings.values()):
            if writing.timer is not None:
                writing.timer.cancel()
            if writing.changed:
                self._told_writing(writing)
            self._journal(Dropped(writing.number))
        self._writings.clear()
        self.active = False
        if self._file is not None:
            self._file.close()

    def _start(self) -> None:
        self._epoch = secrets.token_hex(EPOCH_LENGTH // 2)
        self._events.clear()
        self._encoded.clear()
        self.active = True
        self._handles.moves.keep()
        self._segment()

    def _stop(self) -> None:
        """Nobody watched for long."""
        self.active = False
        for writing in self._writings.values():
            if writing.timer is not None:
                writing.timer.cancel()
        self._writings.clear()
        self._running.clear()
        self._moving = 0
        self._events.clear()
        self._encoded.clear()
        if self._file is not None:
            try:
                self._file.remove()
            except OSError as error:
                log.error("an old watch log cannot be removed: %s", error)

    # -- changes --------------------------------------------------------------------------------

    def change(
        self, type_: str | None, path: str, target: str = "", directory: bool = False
    ) -> Change:
        """What the caller is about to change."""
        unwatched = self.active and not self._watchers
        if unwatched and self._clock.monotonic_s() - self._left_s > KEEP_S:
            self._stop()
        return Change(self, type_, path, target, directory)

    def begin(self, change: Change) -> None:
        """For `Change`, while the log is active; `end` follows."""
        self._number += 1
        change.began = self._number
        if self._moving or (change.moves and self._running):
            for other in self._running:
                if (other.moves or change.moves) and change.concerns(other):
                    other.doubtful = change.doubtful = True
        self._running.add(change)
        self._moving += change.moves
        self._journal(Begun(change.began, change.path, change.target))

    def end(self, change: Change, done: bool | None) -> None:
        """`done` None: nobody knows."""
        if change in self._running:
            self._running.discard(change)
            self._moving -= change.moves
        number, type_ = change.began, change.type
        if done is None or (change.doubtful and done):
            if done and type_ is not None:
                self._tell(type_, change.path, change.target, change.directory)
            if change.target:
                self._tell(LOST, change.target)
            self._tell(LOST, change.path, ends=number)
        elif done and type_ is not None:
            self._tell(type_, change.path, change.target, change.directory, number)
        elif number:
            self._journal(Dropped(number))

    def removed(self, path: str) -> None:
        """Something went within a change that is on its way, and was no change of the caller's."""
        if self.active:
            self._tell(REMOVE, path)

    # -- writing to open files ------------------------------------------------------------------

    def write_begins(self, file: File) -> None:
        """A write is on its way; `write_ends` follows in every case."""
        if self.active:
            self._writing_of(file).running += 1

    def write_ends(self, file: File) -> None:
        file.written = True
        if not self.active:
            return
        writing = self._writing_of(file)
        writing.running = max(0, writing.running - 1)
        writing.changed = True
        if writing.timer is None:
            self._tick(writing)

    def closed(self, file: File) -> None:
        """A file that was written to is closed."""
        if not self.active:
            return
        writing = self._writings.pop(id(file), None)
        if writing is not None and writing.timer is not None:
            writing.timer.cancel()
        ends = 0 if writing is None else writing.number
        self._tell_place(WRITTEN, file, ends)

    def _writing_of(self, file: File) -> _OpenWriting:
        writing = self._writings.get(id(file))
        if writing is None:
            self._number += 1
            path = self._handles.place(file) or "/"
            writing = self._writings[id(file)] = _OpenWriting(file, self._number, path)
            self._journal(Writing(writing.number, path))
        return writing

    def _tick(self, writing: _OpenWriting) -> None:
        """Tell what was written since the last time; forget a file that rests."""
        writing.timer = None
        if writing.changed:
            self._told_writing(writing)
        elif not writing.running:
            self._writings.pop(id(writing.file), None)
            self._journal(Dropped(writing.number))
            return
        if self.active:
            loop = asyncio.get_running_loop()
            writing.timer = loop.call_later(WRITE_INTERVAL_S, self._tick, writing)

    def _told_writing(self, writing: _OpenWriting) -> None:
        writing.changed = False
        self._tell_place(WRITE, writing.file)

    def _tell_place(self, type_: str, file: File, ends: int = 0) -> None:
        """Where the file is now; where nobody knows that, it may be anywhere."""
        path = self._handles.place(file)
        self._tell(type_ if path else LOST, path or "/", ends=ends)

    # -- the log --------------------------------------------------------------------------------

    def _tell(
        self, type_: str, path: str, target: str = "", directory: bool = False, ends: int = 0
    ) -> None:
        self._sequence += 1
        now_ns = self._clock.now_ns()
        self._journal(Logged(self._sequence, now_ns, type_, path, target, directory, ends))
        self._events.append(Happened(self._sequence, now_ns, type_, path, target, directory))
        if len(self._events) >= 2 * self._events_max:
            self._trim()
        for watcher in self._watchers:
            watcher.wake()

    def _trim(self) -> None:
        del self._events[: -self._events_max]
        self._encoded.clear()

    def _journal(self, line: Line) -> None:
        """Append it; a log that cannot be kept is another one from then on."""
        file = self._file
        if file is None:
            return
        try:
            file.append(line)
        except OSError as error:
            self._broken(error)
            return
        if file.lines >= 4 * self._events_max:
            self._segment()

    def _segment(self) -> None:
        if self._file is None:
            return
        lines: list[Line] = [self._head()]
        lines += [Begun(each.began, each.path, each.target) for each in self._running]
        lines += [Writing(each.number, each.path) for each in self._writings.values()]
        try:
            self._file.begin(lines)
        except OSError as error:
            self._broken(error)

    def _broken(self, error: OSError) -> None:
        """Go on in memory alone, with new cursors: the old ones could seem to be of this log."""
        log.error("a watch log cannot be written, its watchers list anew: %s", error)
        file, self._file = self._file, None
        self._epoch = secrets.token_hex(EPOCH_LENGTH // 2)
        self._events.clear()
        self._encoded.clear()
        try:
            if file is not None:
                file.remove()
        except OSError as again:
            log.error("the watch log cannot be removed: %s", again)

    def _head(self) -> Head:
        return Head(self._epoch, self._sequence, self._number, self._mounts)

    # -- watchers -------------------------------------------------------------------------------

    def watch(self, view: View, cursor: str | None, encode: Encode) -> Watcher:
        """One from after the event with this cursor on; None: from now on.

        A cursor that the log does not reach back to is no error: the first delivery says so.
        Raises InvalidArgument for what is no cursor.
        """
        epoch, number = self._epoch, self._sequence
        if cursor:
            epoch, number = place_of(cursor)
        if not self.active:
            self._start()
            if not cursor:
                epoch = self._epoch
        watcher = Watcher(self, view, (epoch, number), encode)
        self._watchers.add(watcher)
        self.stats.watchers += 1
        return watcher

    def after(self, epoch: str, sequence: int) -> Sequence[Happened] | None:
        """The next events, oldest first; None: some of them are forgotten, or never were here."""
        missed = self._sequence - sequence
        if epoch != self._epoch or not 0 <= missed <= len(self._events):
            return None
        start = len(self._events) - missed
        return self._events[start : start + _AT_ONCE]

    def lost(self, path: str) -> None:
        """Anything may have changed at the path and below."""
        if self.active:
            self._tell(LOST, path)

    def forget(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)
        self.stats.watchers -= 1
        self._left_s = self._clock.monotonic_s()

    def message(self, event: Happened, told: Happened, encode: Encode) -> Message:
        """The message of an event; most watchers are told the same."""
        cursor = f"{self._epoch}-{event.sequence}"
        if told is not event:
            return Message(cursor, encode(told, cursor), told.at_ns)
        message = self._encoded.get(event.sequence)
        if message is None:
            if len(self._encoded) >= _AT_ONCE:
                self._encoded.clear()
            message = Message(cursor, encode(told, cursor), told.at_ns)
            self._encoded[event.sequence] = message
        return message

    @property
    def tip(self) -> tuple[str, int]:
        """The place of one who has been told everything."""
        return self._epoch, self._sequence
