"""Looks at storages of this host in a process of its own, for damage can end that process.

LMDB follows the numbers in its file as they are: a flipped bit can lead it out of the map, and the
kernel ends the process then. One process looks at one storage after the other; when it dies, that
is what there is to say of the storage it was at, and another process goes on with the next one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from fs9.providers.pagefs.fsck import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    See: TypeAlias = "Callable[[Path, Look], Seen]"

#: How a process ends that was led astray (signal(7)); SIGBUS is a disk that cannot be read, too.
_ASTRAY = frozenset((signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE))


class Look(msgspec.Struct, frozen=True):
    """What to look at, and how."""

    directories: tuple[str, ...]
    repair: bool
    scrub: bool


class Seen(msgspec.Struct, frozen=True):
    """What there is to say of one directory; `error` says why there is no report.

    `astray`: because the process was ended by a fatal signal.
    """

    report: Report | None = None
    error: str = ""
    astray: bool = False


def look(see: See, directories: Sequence[Path], *, repair: bool, scrub: bool) -> Iterator[Seen]:
    """One answer for each directory, in their order, by a public function of a module.

    Raises OSError: no process can be started.
    """
    left = list(map(str, directories))
    while left:
        end = Seen()
        for seen in _run(see, Look(tuple(left), repair, scrub)):
            if isinstance(seen, int):
                end = _end(seen)
                break
            del left[0]
            yield seen
        if left:
            del left[0]
            yield end


def _run(see: See, order: Look) -> Iterator[Seen | int]:
    """The answers of one process; at the end its status."""
    reader, writer = os.pipe()
    # The same modules as here, whatever is in the directory that the command was started in.
    program = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        f"from {see.__module__} import {see.__name__} as see\n"
        f"from {__name__} import answer; answer(see, {writer})"
    )
    with (
        open(reader, "rb") as answers,
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, pass_fds=(writer,)
        ) as process,
    ):
        os.close(writer)
        try:
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin as orders:  # it has ended already
                orders.write(msgspec.json.encode(order))
            for line in answers:
                if line.endswith(b"\n"):
                    yield msgspec.json.decode(line, type=Seen)
        finally:
            if sys.exc_info()[0] is not None:  # whoever asked has gone
                process.kill()
        yield process.wait()


def _end(status: int) -> Seen:
    """What a process says by its end, of the directory that it was at."""
    if status >= 0:
        return Seen(error=f"the check ended with status {status}")
    name = signal.Signals(-status).name
    if -status not in _ASTRAY:
        return Seen(error=f"the check was ended by {name}")
    text = (
        "the LMDB file is damaged, or its disk fails: reading it ended the process"
        f" ({name}); restore the metadata from a backup"
    )
    return Seen(error=text, astray=True)


def answer(see: See, to_fd: int) -> None:
    """What the process does: look at one directory after the other."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Look)
    with open(to_fd, "wb") as answers:
        for directory in order.directories:
            answers.write(msgspec.json.encode(see(Path(directory), order)) + b"\n")
            answers.flush()
