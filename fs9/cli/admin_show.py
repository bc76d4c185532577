"""What `fs9 admin` prints: tables and marks for people, documents for programs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fs9.cli.ending import visible
from fs9.cli.show import on_terminal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: No line of a table is folded where no person reads it.
_WIDTH_ELSEWHERE = 10_000


def done(text: str) -> None:
    """`✓ …`, green on a terminal."""
    _marked("✓", "green", text, error=False)


def warn(text: str) -> None:
    """`⚠ …` on the standard error."""
    _marked("⚠", "yellow", text, error=True)


def caution(text: str) -> None:
    """`⚠ …` as part of what was asked for."""
    _marked("⚠", "yellow", text, error=False)


def _marked(mark: str, style: str, text: str, *, error: bool) -> None:
    stream = sys.stderr if error else sys.stdout
    if not stream.isatty():
        print(f"{mark} {text}", file=stream)
        return
    from rich.console import Console
    from rich.text import Text

    Console(file=stream, soft_wrap=True).print(Text.assemble((mark, style), f" {visible(text)}"))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns under a heading; nothing but the heading when there is nothing."""
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    # What does not fit goes on in the next line: an id that is cut off is of no use.
    headings = [Column(each, overflow="fold") for each in columns]
    made = Table(*headings, box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for row in rows:
        made.add_row(*(Text(on_terminal(_cell(value))) for value in row))
    width = None if sys.stdout.isatty() else _WIDTH_ELSEWHERE
    Console(width=width).print(made)


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "-"
    return str(value)
