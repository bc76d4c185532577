"""The others: tenants who ask at a steady pace, all the time, in a process of their own.

They keep their connections for as long as anything is measured, so that no window begins with
first requests, which cost more. Each waits for its answer before it asks again, and none for
another's: a server that stops for ten milliseconds is felt by all whose turn comes in them.
"""

from __future__ import annotations

import contextlib
import gc
import json
import select
import sys
import time
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from bench.abusers import OTHERS_FROM, connect, start
from bench.fleet import bearer, token
from bench.load import request

if TYPE_CHECKING:
    import socket
    import subprocess
    from collections.abc import Iterator, Sequence

    from bench.stalls import Stalls


class Waits(NamedTuple):
    """Of the requests sent in one window, in seconds."""

    every: list[float]
    #: Those in whose time the machine did not stall.
    undisturbed: list[float]


class Record:
    """When each request was sent, and how long its answer took; in seconds, in this order."""

    def __init__(self, requests: Sequence[tuple[float, float]]) -> None:
        self._requests = sorted(requests)

    def waits(self, begin_s: float, end_s: float, stalls: Stalls) -> Waits:
        first, last = (bisect_left(self._requests, (at_s, 0.0)) for at_s in (begin_s, end_s))
        found = self._requests[first:last]
        quiet = [wait_s for sent_s, wait_s in found if not stalls.within(sent_s, sent_s + wait_s)]
        return Waits([wait_s for _, wait_s in found], quiet)


class Others:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def end(self) -> Record:
        output, _ = self._process.communicate()
        if self._process.returncode:
            raise RuntimeError("one of the others was not answered as it should be")
        return Record([(sent_s, wait_s) for sent_s, wait_s in json.loads(output)])


@contextlib.contextmanager
def others(
    port: int, namespaces: Sequence[str], per_s: float, *, core: int | None
) -> Iterator[Others]:
    """Let a user of each namespace ask in turn, so often all together."""
    given = {"port": port, "namespaces": namespaces, "per_s": per_s}
    with start("bench.others", given, core=core) as process:
        yield Others(process)


# -- In a process of its own ----------------------------------------------------------------


def _ask(port: int, namespaces: Sequence[str], per_s: float) -> list[tuple[float, float]]:
    """Until the input ends."""
    socks = [connect(port, OTHERS_FROM) for _ in namespaces]
    keys = [bearer(token(name, sub=name)) for name in namespaces]
    wires = [request("GET", "/api/v1/stat?path=/", headers=key) for key in keys]
    waiting: dict[socket.socket, float] = {}
    answered: list[tuple[float, float]] = []
    gc.disable()  # else a collection would be taken for a wait
    turn, due_s = 0, time.monotonic()
    while True:
        while due_s <= time.monotonic():
            sock = socks[turn % len(socks)]
            if sock not in waiting:
                waiting[sock] = time.monotonic()
                sock.sendall(wires[turn % len(socks)])
            turn += 1
            due_s = max(due_s + 1 / per_s, time.monotonic() - 0.1)
        heard = [sys.stdin, *waiting]
        ready, _, _ = select.select(heard, (), (), max(0.0, due_s - time.monotonic()))
        if sys.stdin in ready:
            return answered
        for sock in waiting.keys() & set(ready):
            answer = sock.recv(65_536)
            sent_s = waiting.pop(sock)
            answered.append((sent_s, time.monotonic() - sent_s))
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"one of the others got {answer[:200]!r}")


if __name__ == "__main__":
    print(json.dumps(_ask(**json.loads(sys.stdin.readline()))))
