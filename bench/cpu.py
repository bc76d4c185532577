"""CPU: who may use which core, and how much a tree of processes has used.

On a shared machine requests per second say as much about the neighbours as about us; CPU time
per request is steadier. What others use during a run (`Foreign`) says which runs to believe.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_CORES = sorted(os.sched_getaffinity(0))
#: Servers have one core and the load the other; with a single core they share it.
SERVER_CORE, LOAD_CORE = _CORES[0], _CORES[-1]


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started inside stays on this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree(pid: int) -> list[int]:
    """The process and its descendants."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def used_s(pid: int) -> float:
    """CPU seconds, user and system, of a tree so far."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS_PER_S


def memory_bytes(pid: int, field: str = "VmRSS") -> int:
    """`VmRSS`, `VmHWM` or `RssAnon` of one process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


def reset_peak(pid: int) -> None:
    """Let `VmHWM` start again from the present size (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


class Foreign:
    """The share of the machine that others used between `__init__` and `share`."""

    def __init__(self) -> None:
        self._busy, self._all = _machine()

    def share(self, ours_s: float) -> float:
        busy, everything = _machine()
        spent = busy - self._busy - ours_s * _TICKS_PER_S
        return max(0.0, spent / max(1, everything - self._all))


def _machine() -> tuple[int, int]:
    values = [int(v) for v in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(values) - values[3] - values[4], sum(values)
