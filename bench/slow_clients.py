"""4,000 slow sockets on a fleet of two workers, and what the others notice of them.

A third send their heads byte by byte, a third their bodies, a third do not take their answers;
those that are cut are replaced at once. The others (`bench.others`) come from another address, as
they would: one address has a bound of its own. They are measured twice without the slow ones and
once with them, in turns. The ratios are those of `bench.abuse`: of the p99 of all requests during
which the machine did not stall, with the interval that drawing whole rounds again gives, and of
all requests in the last column.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import select
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.abusers import start
from bench.bootstrap import p99_ratio
from bench.fleet import Fleet, bearer, fleet, temporary, token
from bench.load import request
from bench.others import others
from bench.stalls import awake, watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.others import Record, Waits
    from bench.stalls import Stalls

_YAML = """
server:
  limits: {max_connections_per_address: 4000}
mounts:
- {path: /, provider: memfs}
namespace_template:
- {path: /, provider: memfs}
"""
_SOCKETS = 4000
_OTHERS, _OTHERS_PER_S = 20, 1000.0
#: Where the slow ones come from.
_SLOW_FROM = "127.0.0.2"
_BIG_BYTES = 8_000_000
_WITHOUT, _AGAIN, _WITH = _ARMS = ("without", "without, again", "with")
#: When an arm was measured.
_Windows = dict[str, tuple[float, float]]


@dataclass
class _Pace:
    sockets: int
    seconds: float
    rounds: int
    #: Until the slow sockets are where they belong, and until nothing is left of them.
    settle_s: float
    rest_s: float


def run(quick: bool) -> None:
    measure(_Pace(60, 0.2, 1, 0.2, 0.1) if quick else _Pace(_SOCKETS, 6.0, 8, 6.0, 1.0))


def measure(pace: _Pace) -> None:
    with (
        temporary() as home,
        fleet(workers=2, auth=True, yaml=_YAML, directory=home, pinned=False) as served,
    ):
        admin = token("default", roles=["admin"])
        for name in ("slow", "good"):
            served.call("POST", "/api/v1/namespaces", json.dumps({"name": name}), admin)
        served.call("PUT", "/api/v1/upload?path=/big", b"x" * _BIG_BYTES, token("slow"))
        with (
            awake(),
            watch() as watched,
            others(served.port, ["good"] * _OTHERS, _OTHERS_PER_S, core=None) as asking,
        ):
            rounds, held = _rounds(served, pace)
            _show(rounds, held, asking.end(), watched.end())


def _rounds(served: Fleet, pace: _Pace) -> tuple[list[_Windows], int]:
    """When each was measured, and the most connections at the end of one."""
    rounds, held = [], 0
    time.sleep(pace.rest_s)
    for _ in range(pace.rounds):
        windows: _Windows = {}
        for arm in random.sample(_ARMS, len(_ARMS)):
            with contextlib.ExitStack() as stack:
                if arm == _WITH:
                    stack.enter_context(_slow(served, pace))
                begin_s = time.monotonic()
                time.sleep(pace.seconds)
                windows[arm] = (begin_s, time.monotonic())
                if arm == _WITH:
                    held = max(held, _connections(served))
        rounds.append(windows)
    return rounds, held


def _show(rounds: list[_Windows], held: int, record: Record, stalls: Stalls) -> None:
    waits = [
        {arm: record.waits(*window, stalls) for arm, window in windows.items()}
        for windows in rounds
    ]
    print(f"\nheld at the end of a round: {held:,} connections\n")
    print("| slow sockets | p50 µs | p99 µs | p99 to without | all requests | stalls |")
    print("| --- | --- | --- | --- | --- | --- |")
    for arm in _ARMS:
        pooled = sorted(wait for each in waits for wait in each[arm].undisturbed)
        shown = [
            f"{pooled[len(pooled) * part // 100] * 1e6:,.0f}" if pooled else "-"
            for part in (50, 99)
        ]
        ratios = (_ratio(waits, arm, every=every) for every in (False, True))
        shares = [stalls.share(*windows[arm]) for windows in rounds]
        columns = [arm, *shown, *ratios, f"{sum(shares) / len(shares):.0%}"]
        print("| " + " | ".join(columns) + " |")


def _ratio(waits: list[dict[str, Waits]], arm: str, *, every: bool) -> str:
    """To those without; `with` to both of them."""
    if arm == _WITHOUT:
        return "1.00"
    bases = (_WITHOUT, _AGAIN) if arm == _WITH else (_WITHOUT,)

    def of(each: dict[str, Waits], *arms: str) -> list[float]:
        found = [each[name] for name in arms]
        return [wait for one in found for wait in (one.every if every else one.undisturbed)]

    return str(p99_ratio([(of(each, arm), of(each, *bases)) for each in waits]))


def _connections(served: Fleet) -> int:
    """As the fleet tells it."""
    text = served.call("GET", "/metrics", token=token("default", roles=["admin"])).decode()
    lines = [line for line in text.splitlines() if line.startswith("fs9_connections ")]
    return int(float(lines[0].split()[1])) if lines else 0


@contextlib.contextmanager
def _slow(served: Fleet, pace: _Pace) -> Iterator[None]:
    """Hold the slow sockets, in a process of its own, from its word that all are there."""
    given = {"port": served.port, "sockets": pace.sockets}
    with start("bench.slow_clients", given, core=None) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(pace.settle_s)  # most came to the wrong worker
        yield
    time.sleep(pace.rest_s)


# -- In a process of its own ----------------------------------------------------------------


def _hold(port: int, sockets: int) -> None:
    """Open the slow sockets, say so, and keep them slow until killed."""
    # What it costs itself must not be what the others are late by.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    key = bearer(token("slow"))
    kinds = [
        (b"GET / HTTP/1.1\r\n", b"A: b\r\n"),
        (
            request("PUT", "/api/v1/upload?path=/slow", headers=key | {"Content-Length": "90000"}),
            b"x",
        ),
        (request("GET", "/api/v1/download?path=/big", headers=key), b""),
    ]
    held: list[tuple[socket.socket, bytes]] = []
    poll = select.epoll()
    for number in range(sockets):
        held.append(_slow_one(port, kinds[number % 3]))
        poll.register(held[-1][0], select.EPOLLHUP | select.EPOLLRDHUP)
    print("held", flush=True)
    by_fd = {sock.fileno(): index for index, (sock, _) in enumerate(held)}
    while True:
        # Each about every ten seconds, as slowhttptest does it.
        for index in random.sample(range(sockets), k=max(1, sockets // 500)):
            sock, more = held[index]
            with contextlib.suppress(OSError):
                sock.send(more)
        for fd, _ in poll.poll(0.05, 50):
            index = by_fd.pop(fd)
            held[index][0].close()
            held[index] = _slow_one(port, kinds[index % 3])
            by_fd[held[index][0].fileno()] = index
            poll.register(held[index][0], select.EPOLLHUP | select.EPOLLRDHUP)
        time.sleep(0.02)


def _slow_one(port: int, kind: tuple[bytes, bytes]) -> tuple[socket.socket, bytes]:
    first, more = kind
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind((_SLOW_FROM, 0))
    sock.connect(("127.0.0.1", port))
    sock.sendall(first)
    sock.setblocking(False)
    return sock, more


if __name__ == "__main__":
    _hold(**json.loads(sys.stdin.readline()))
