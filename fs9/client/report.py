"""The result of transferring a whole tree: counted while it runs, returned at its end."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from fs9.client.failures import ServerUnreachable
from fs9.errors import Fs9Error, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Failure: TypeAlias = Fs9Error | OSError


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """`concurrency` files at a time; unchanged ones are skipped unless told otherwise.

    `progress` is called with (bytes done, bytes found so far); `on_failure` with the path and
    the error of each failure, as it happens. In the synchronous client both are called from
    several threads, one at a time.
    """

    concurrency: int = 8
    skip_unchanged: bool = True
    progress: Callable[[int, int | None], None] | None = None
    on_failure: Callable[[str, Failure], None] | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError("concurrency must be at least 1")


@dataclass(slots=True)
class TreeReport:
    """The sum of it. Complete when there are no `failures`; `skipped` were there already.

    `aborted`: the rest was not tried, because the server cannot be reached or refuses the
    token.
    """

    files: int = 0
    directories: int = 0
    links: int = 0
    skipped: int = 0
    bytes_done: int = 0
    aborted: bool = False
    failures: list[tuple[str, Failure]] = field(default_factory=list)


class Tally:
    """A report in the making. `_lock` protects it: several threads count."""

    def __init__(self, options: TreeOptions) -> None:
        self.report = TreeReport()
        self._options = options
        self._lock = threading.Lock()
        self._found = 0
        self._moved = 0

    def add_file(self) -> None:
        with self._lock:
            self.report.files += 1

    def add_directory(self) -> None:
        with self._lock:
            self.report.directories += 1

    def add_link(self) -> None:
        with self._lock:
            self.report.links += 1

    def skip(self, size: int) -> None:
        with self._lock:
            self.report.skipped += 1
            self._move(size)

    def found(self, size: int) -> None:
        """`size` more bytes are to be done."""
        with self._lock:
            self._found += size
            self._move(0)

    def progress(self) -> Callable[[int, int | None], None]:
        """The progress callback of one file, which adds to the whole."""
        before = 0

        def moved(done: int, total: int | None) -> None:
            nonlocal before
            with self._lock:
                self.report.bytes_done += done - before
                self._move(done - before)
                before = done

        return moved

    def _move(self, count: int) -> None:
        self._moved += count
        if self._options.progress is not None:
            self._options.progress(self._moved, self._found)

    def fail(self, path: str, error: Failure) -> None:
        with self._lock:
            self.report.failures.append((path, error))
            if self._options.on_failure is not None:
                self._options.on_failure(path, error)

    @contextmanager
    def failures_of(self, path: str) -> Iterator[None]:
        """Errors inside are recorded; those that would meet every other file end the work."""
        try:
            yield
        except (ServerUnreachable, Unauthenticated):
            raise
        except (Fs9Error, OSError) as error:
            self.fail(path, error)

    @contextmanager
    def whole(self, path: str) -> Iterator[None]:
        """Around everything: an error that ends the work is recorded as the last one."""
        try:
            yield
        except (ServerUnreachable, Unauthenticated) as error:
            self.report.aborted = True
            self.fail(path, error)
