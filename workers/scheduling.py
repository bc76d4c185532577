"""How the kernel schedules a process that starts while others serve: it gives way to them.

A process that is forked gets a core at once, and keeps it to the end of its time slice, or until
the timer ticks, every 4 ms perhaps; requests that come meanwhile wait so long. One that gives way
has the policy SCHED_BATCH, so waking up it interrupts nobody, and a long time slice: those who
have shorter ones interrupt it as soon as they have something to do. Both can be taken back by
anybody; a higher nice value can only by who may (RLIMIT_NICE, CAP_SYS_NICE), and is used then: its
share of a busy processor is a third of others', so it starts there, too (sched(7),
sched_setattr(2)).

On a processor with much else to do that is hardly a share at all: with 14 others on each, a process
waited 0.2 s for each 0.5 ms of work, and had started after 15 s. So it must be for a bounded time.

Slices of processes that are not real-time exist since Linux 6.12.
"""

from __future__ import annotations

import ctypes
import logging
import os
import struct
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("fs9.fleet")

#: The longest that the kernel takes, and for it to choose.
_LONG_SLICE_NS, _USUAL_SLICE_NS = 100_000_000, 0
#: So much higher is the nice value (a weight of 335, not 1,024); the highest there is.
_NICER, _NICE_MAX = 5, 19
#: sched_setattr(2) by machine: not every C library has a function for it.
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
#: `struct sched_attr` as the kernel first had it: size, policy, flags, nice value, priority, slice
#: (of a real-time process its runtime), deadline, period.
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def giving_way() -> Iterator[int | None]:
    """Give way meanwhile; what is forked goes on with it. Yields the usual nice value.

    None: the kernel does not let us, because the operator has chosen a policy, or a filter of
    system calls forbids it.
    """
    nice: int | None = None
    if os.sched_getscheduler(0) == os.SCHED_OTHER:
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        raised = min(nice + _NICER, _NICE_MAX) if _can_take_back(nice) else nice
        try:
            _set(0, os.SCHED_BATCH, raised, _LONG_SLICE_NS)
        except OSError as error:
            log.info("a process that starts cannot give way to others: %s", error.strerror)
            nice = None
    try:
        yield nice
    finally:
        if nice is not None:
            _set(0, os.SCHED_OTHER, nice, _USUAL_SLICE_NS)


def compete(nice: int, process: int | None = None) -> None:
    """Stop giving way: this process, or that one, with all threads and what it has started."""
    for thread in _threads("self" if process is None else str(process)):
        with suppress(OSError):  # it has ended
            _set(thread, os.SCHED_OTHER, nice, _USUAL_SLICE_NS)


def _can_take_back(nice: int) -> bool:
    """May a thread return to the nice value from a higher one? One that ends then tries it."""
    found = []

    def attempt() -> None:
        with suppress(OSError):
            _set(0, os.SCHED_OTHER, min(nice + 1, _NICE_MAX), _USUAL_SLICE_NS)
            _set(0, os.SCHED_OTHER, nice, _USUAL_SLICE_NS)
            found.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return bool(found)


def _threads(process: str) -> list[int]:
    """Of the process and of its children, as far as the kernel tells (proc(5))."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            found.append(int(task.name))
            for child in (task / "children").read_text().split():
                found += _threads(child)
    return found


def _set(thread: int, policy: int, nice: int, slice_ns: int) -> None:
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is None:
        os.sched_setscheduler(thread, policy, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, thread, nice)
        return
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, 0, nice, 0, slice_ns, 0, 0)
    if _libc.syscall(number, thread, attributes, 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
