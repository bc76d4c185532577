"""One change of a path, as the watch log sees it: begun, and then done, refused, or unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.errors import Fs9Error
from fs9.path import is_within
from fs9.vfs.watchview import REMOVE, RENAME

if TYPE_CHECKING:
    from typing import Self

    from fs9.vfs.watch import WatchLog


class Change:
    """Context manager: reports a change of a path; `type` None: it turned out to change nothing.

    `began`: its number in the log, 0 when there was no log.
    """

    __slots__ = ("_log", "began", "directory", "doubtful", "moves", "path", "target", "type")

    def __init__(
        self,
        log: WatchLog | None,
        type_: str | None,
        path: str,
        target: str = "",
        directory: bool = False,
    ) -> None:
        self._log = log
        self.type = type_
        #: May it take a path away?
        self.moves = type_ in {REMOVE, RENAME}
        self.path = path
        self.target = target
        self.directory = directory
        self.began = 0
        #: Did something else change the same path at the same time, or unseen?
        self.doubtful = False

    def __enter__(self) -> Self:
        if self._log is not None and self._log.active:
            self._log.begin(self)
        else:
            self.doubtful = True
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._log is not None and self._log.active:
            done: bool | None = error is None
            if error is not None and (not isinstance(error, Fs9Error) or error.retryable):
                done = None
            self._log.end(self, done)

    def concerns(self, other: Change) -> bool:
        return any(
            is_within(one, two) or is_within(two, one)
            for one in (self.path, self.target)
            if one
            for two in (other.path, other.target)
            if two
        )
