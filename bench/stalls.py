"""Stalls of the machine: what a process that nobody may interrupt notices on each core.

A virtual core stands still for milliseconds, several times in a second, while its host or kernel
has something else to do. That is no server's doing, and it decides a p99 of some hundred
microseconds: in one of two equal windows there are more stalls than in the other. So a watchman on
each core, with SCHED_FIFO (sched(7)), looks at the clock each millisecond; no server and
no client can keep it from it. Requests are then counted only from tenths of a second in which no
watchman was late. How many tenths were left out is to be said beside each number: who caused the
machine to stall would show there.

A sleeping virtual core is woken by its host, which takes as long as the request itself, or not:
`awake` lets something with SCHED_IDLE run on each core that has nothing to do.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import sys
import time
from typing import TYPE_CHECKING

from bench import cpu
from bench.abusers import start

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence

#: How often a watchman looks at the clock, and how late he must be.
_LOOK_S, _LATE_S = 0.001, 0.00015
#: What is left out with a stall: its slice of time, and that in which the queues empty again.
_SLICE_S, _AFTER_S = 0.1, 0.005


class Stalls:
    """The slices of time with a stall; none are known before `Watch.end`."""

    def __init__(self, spans: Sequence[tuple[float, float]]) -> None:
        self._slices = {
            number
            for begin_s, end_s in spans
            for number in range(_slice(begin_s), _slice(end_s + _AFTER_S) + 1)
        }

    def within(self, begin_s: float, end_s: float) -> bool:
        """Did the machine stall in one of the slices of this time?"""
        return any(each in self._slices for each in range(_slice(begin_s), _slice(end_s) + 1))

    def share(self, begin_s: float, end_s: float) -> float:
        """Of the time, that in slices with a stall."""
        slices = range(_slice(begin_s), _slice(end_s) + 1)
        return sum(each in self._slices for each in slices) / len(slices)


def _slice(at_s: float) -> int:
    return int(at_s / _SLICE_S)


class Watch:
    """The watchmen, one on each core; there are none where this process may not start them."""

    def __init__(self, processes: Sequence[subprocess.Popen[str]]) -> None:
        self._processes = processes

    def end(self) -> Stalls:
        spans: list[tuple[float, float]] = []
        for process in self._processes:
            output, _ = process.communicate()
            spans += map(tuple, json.loads(output))
        return Stalls(spans)


@contextlib.contextmanager
def watch() -> Iterator[Watch]:
    with contextlib.ExitStack() as stack:
        given = {"what": "watch"}
        cores = {cpu.SERVER_CORE, cpu.LOAD_CORE} if _may_watch() else set()
        if not cores:
            print("stalls of the machine are not left out: that needs CAP_SYS_NICE (root has it)")
        yield Watch([stack.enter_context(start("bench.stalls", given, core=c)) for c in cores])


def _may_watch() -> bool:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """The cores do not sleep inside."""
    with contextlib.ExitStack() as stack:
        for core in {cpu.SERVER_CORE, cpu.LOAD_CORE}:
            stack.enter_context(start("bench.stalls", {"what": "awake"}, core=core))
        yield


# -- In processes of their own --------------------------------------------------------------


def _watch() -> list[tuple[float, float]]:
    """Until the input ends; when it was late, from when on and until when."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    gc.disable()
    late = []
    due_s = time.monotonic() + _LOOK_S
    while not select.select([sys.stdin], (), (), max(0.0, due_s - time.monotonic()))[0]:
        now_s = time.monotonic()
        if now_s - due_s > _LATE_S:
            late.append((due_s, now_s))
        due_s = now_s + _LOOK_S
    return late


def _stay_awake() -> None:
    """Until killed, but after everybody else."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while True:
        os.sched_yield()


if __name__ == "__main__":
    if json.loads(sys.stdin.readline())["what"] == "watch":
        print(json.dumps(_watch()))
    else:
        _stay_awake()
