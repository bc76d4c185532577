"""Progress: nothing for what is quick, lines without a terminal, a bar on one."""

from __future__ import annotations

import io

from fs9.cli.progress import DELAY_S, LINE_INTERVAL_S, Progress
from fs9.clock import ManualClock

MIB = 1024 * 1024


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def progress(stream: io.StringIO, clock: ManualClock, *, quiet: bool = False) -> Progress:
    environ = {"TERM": "xterm", "NO_COLOR": "1"}
    return Progress("put /f", clock=clock, stream=stream, environ=environ, quiet=quiet)


def test_quick_transfers_show_nothing() -> None:
    for stream in (io.StringIO(), Terminal()):
        clock = ManualClock()
        with progress(stream, clock) as shown:
            clock.advance(DELAY_S / 2)
            shown.update(1, 2)
        assert stream.getvalue() == ""


def test_lines_come_now_and_then() -> None:
    """With amount, rate and the time that is left; one each interval."""
    stream, clock = io.StringIO(), ManualClock()
    with progress(stream, clock) as shown:
        clock.advance(2)
        shown.update(4 * MIB, 10 * MIB)
        shown.update(5 * MIB, 10 * MIB)
        clock.advance(LINE_INTERVAL_S)
        shown.update(7 * MIB, None)
    assert stream.getvalue().splitlines() == [
        "fs9: put /f: 4.0M of 10M, 2.0M/s, 3 s left",
        "fs9: put /f: 7.0M, 1.0M/s",
    ]


def test_a_terminal_gets_a_bar_without_colour_if_so_wished() -> None:
    stream, clock = Terminal(), ManualClock()
    with progress(stream, clock) as shown:
        clock.advance(2)
        shown.update(4 * MIB, 10 * MIB)
    text = stream.getvalue()
    assert "put /f" in text
    assert "4.0/10.0 MiB" in text


def test_quiet_shows_nothing() -> None:
    stream, clock = io.StringIO(), ManualClock()
    with progress(stream, clock, quiet=True) as shown:
        clock.advance(60)
        shown.update(1, 2)
    assert stream.getvalue() == ""
