"""Progress of a transfer, on standard error: a bar on a terminal, a line now and then elsewhere.

Nothing is shown for transfers that take less than a second.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Self, TextIO

from fs9.cli.show import human
from fs9.clock import Clock, SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import rich.progress

#: Seconds before anything is shown, and between two lines where there is no terminal.
DELAY_S = 1.0
LINE_INTERVAL_S = 5.0


class Progress:
    """`update` is the clients' progress callback; use it inside `with`."""

    def __init__(
        self,
        label: str,
        *,
        quiet: bool = False,
        clock: Clock | None = None,
        stream: TextIO | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._label = label
        self._quiet = quiet
        self._clock = clock or SystemClock()
        self._stream = stream or sys.stderr
        terminal = (os.environ if environ is None else environ).get("TERM", "")
        self._has_terminal = self._stream.isatty() and terminal != "dumb"
        self._started_s = self._clock.monotonic_s()
        self._next_line_s = self._started_s + DELAY_S
        self._bar: rich.progress.Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def update(self, done: int, total: int | None) -> None:
        """`done` bytes of `total` (None: nobody knows) are there."""
        now_s = self._clock.monotonic_s()
        if self._quiet or now_s < self._started_s + DELAY_S:
            return
        if self._has_terminal:
            self._show_bar(done, total)
        elif now_s >= self._next_line_s:
            self._next_line_s = now_s + LINE_INTERVAL_S
            print(self._line(done, total, now_s - self._started_s), file=self._stream, flush=True)

    def _line(self, done: int, total: int | None, elapsed_s: float) -> str:
        rate = done / elapsed_s
        of_total = f" of {human(total)}" if total is not None else ""
        left = ""
        if total is not None and rate > 0:
            left = f", {max(total - done, 0) / rate:.0f} s left"
        return f"fs9: {self._label}: {human(done)}{of_total}, {human(int(rate))}/s{left}"

    def _show_bar(self, done: int, total: int | None) -> None:
        if self._bar is None:
            self._bar = _new_bar(self._stream)
            self._bar.start()
            self._bar.add_task(self._label)
        self._bar.update(self._bar.task_ids[0], completed=done, total=total)


def _new_bar(stream: TextIO) -> rich.progress.Progress:
    """rich looks at NO_COLOR by itself; failures are printed above the bar."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
        transient=True,
        redirect_stdout=False,
    )
