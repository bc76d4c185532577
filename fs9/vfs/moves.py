"""The last renames of a namespace, to find the current path of an open file.

Only narrowed tokens need it, so nothing is kept until the first one comes (`keep`). From then on
each rename adds an entry, and an open file is followed through them when its path is asked for, not
at each rename. If more renames have happened since than are kept, the path is not known: "".
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from fs9.errors import Fs9Error
from fs9.path import is_within

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: How many renames are kept: those of an idle handle's time to live, at 50 a second.
_MOVES_MAX = 16_384
_CHARACTERS_MAX = 4 * 1024 * 1024


class Moves:
    """`count` is how many renames there ever were. For one event loop."""

    __slots__ = ("_characters", "_kept", "count")

    def __init__(self) -> None:
        self.count = 0
        #: (path, target), the target "" when nobody knows it.
        self._kept: deque[tuple[str, str]] | None = None
        self._characters = 0

    def keep(self) -> None:
        """Keep renames from now on."""
        if self._kept is None:
            self._kept = deque()

    @contextmanager
    def renaming(self, path: str, target: str) -> Iterator[None]:
        """Around a rename. One that was cut off may have been done or not."""
        try:
            yield
        except Fs9Error as error:
            if error.retryable:
                self.add(path, "")
            raise
        except BaseException:
            self.add(path, "")
            raise
        self.add(path, target)

    def add(self, path: str, target: str) -> None:
        """The file or directory has a new path; "" when nobody knows which."""
        self.count += 1
        kept = self._kept
        if kept is None:
            return
        kept.append((path, target))
        self._characters += len(path) + len(target)
        while len(kept) > _MOVES_MAX or self._characters > _CHARACTERS_MAX:
            source, end = kept.popleft()
            self._characters -= len(source) + len(end)

    def follow(self, path: str, since: int) -> str:
        """The current path of what was at `path` after the first `since` renames, or ""."""
        moves = self._since(since)
        if moves is None:
            return ""
        for source, target in moves:
            if is_within(path, source):
                if not target:
                    return ""
                path = target + path[len(source) :]
        return path

    def concerned(self, path: str, since: int) -> bool:
        """May one of the renames since then have moved what is at the path, or put it there?"""
        moves = self._since(since)
        if moves is None:
            return True
        return any(is_within(path, end) for move in moves for end in move if end)

    def _since(self, since: int) -> Iterable[tuple[str, str]] | None:
        """The renames since then; None: some of them are forgotten."""
        missed = self.count - since
        if not missed:
            return ()
        if self._kept is None or missed > len(self._kept):
            return None
        return islice(self._kept, len(self._kept) - missed, None)
