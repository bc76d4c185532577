"""4,000 slow sockets on a fleet of two workers, and what the others notice of them.

A third send their heads byte by byte, a third their bodies, a third do not take their answers;
those that are cut are replaced at once. The others come from another address, as they would: one
address has a bound of its own. They are measured with and without the slow ones, in turns.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import select
import socket
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from bench.fleet import Fleet, bearer, fleet, temporary, token
from bench.load import request

if TYPE_CHECKING:
    from collections.abc import Iterator

_YAML = """
server:
  limits: {max_connections_per_address: 4000}
mounts:
- {path: /, provider: memfs}
namespace_template:
- {path: /, provider: memfs}
"""
_SOCKETS = 4000
_OTHERS_PER_S = 500.0
_STAT = "/api/v1/stat?path=/"
#: Where the slow ones come from, and the others.
_SLOW_FROM, _OTHERS_FROM = "127.0.0.2", "127.0.0.3"
_BIG_BYTES = 8_000_000


def run(quick: bool) -> None:
    sockets = 60 if quick else _SOCKETS
    seconds, rounds = (0.2, 1) if quick else (6.0, 3)
    results: dict[str, list[tuple[float, float]]] = {"without": [], f"with {sockets:,}": []}
    with (
        temporary() as home,
        fleet(workers=2, auth=True, yaml=_YAML, directory=home, pinned=False) as served,
    ):
        admin = token("default", roles=["admin"])
        for name in ("slow", "good"):
            served.call("POST", "/api/v1/namespaces", json.dumps({"name": name}), admin)
        served.call("PUT", "/api/v1/upload?path=/big", b"x" * _BIG_BYTES, token("slow"))
        _measure(served.port, 0.3)
        held = 0
        for _ in range(rounds):
            for name, samples in results.items():
                if name == "without":
                    samples.append(_measure(served.port, seconds))
                    continue
                with _slow(served, sockets, 0.2 if quick else 6.0):
                    samples.append(_measure(served.port, seconds))
                    held = max(held, _connections(served))
        print(f"\nheld at the end of a round: {held:,} connections\n")
    print("| slow sockets | p50 µs | p99 µs | p99 to without |\n| --- | --- | --- | --- |")
    base = statistics.median(p99 for _, p99 in results["without"])
    for name, samples in results.items():
        p50, p99 = (statistics.median(column) for column in zip(*samples, strict=True))
        print(f"| {name} | {p50:,.0f} | {p99:,.0f} | {p99 / base:.2f} |")


def _connections(served: Fleet) -> int:
    """As the fleet tells it."""
    text = served.call("GET", "/metrics", token=token("default", roles=["admin"])).decode()
    lines = [line for line in text.splitlines() if line.startswith("fs9_connections ")]
    return int(float(lines[0].split()[1])) if lines else 0


@contextlib.contextmanager
def _slow(served: Fleet, sockets: int, settle_s: float) -> Iterator[None]:
    """Hold the slow sockets, in a process of its own, from its word that all are there."""
    process = _start("slow", served.port, sockets)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(settle_s)  # until they are where they belong: most came to the wrong worker
        yield
    finally:
        process.kill()
        process.communicate()
        time.sleep(settle_s / 6)


def _measure(port: int, seconds: float) -> tuple[float, float]:
    output, _ = _start("others", port, seconds).communicate()
    p50, p99 = json.loads(output)
    return p50, p99


def _start(what: str, port: int, amount: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.slow_clients", what, str(port), str(amount)],
        stdout=subprocess.PIPE,
        text=True,
    )


# -- In processes of their own --------------------------------------------------------------


def _others(port: int, seconds: float) -> tuple[float, float]:
    """Ask at a steady pace; p50 and p99 in µs."""
    wire = request("GET", _STAT, headers=bearer(token("good")))
    socks = [_connect(port, _OTHERS_FROM) for _ in range(10)]
    waits = []
    end_s = time.perf_counter() + seconds
    turn = 0
    while time.perf_counter() < end_s:
        sock = socks[turn % len(socks)]
        turn += 1
        start_s = time.perf_counter()
        sock.sendall(wire)
        answer = sock.recv(65_536)
        waits.append(time.perf_counter() - start_s)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"one of the others got {answer[:200]!r}")
        time.sleep(max(0.0, 1 / _OTHERS_PER_S - waits[-1]))
    waits.sort()
    return waits[len(waits) // 2] * 1e6, waits[len(waits) * 99 // 100] * 1e6


def _hold(port: int, sockets: int) -> None:
    """Open the slow sockets, say so, and keep them slow until killed."""
    os.nice(19)  # what it costs itself must not be what the others are late by
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
    sock = _connect(port, _SLOW_FROM, receive_bytes=4096)
    sock.sendall(first)
    sock.setblocking(False)
    return sock, more


def _connect(port: int, address: str, receive_bytes: int | None = None) -> socket.socket:
    sock = socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind((address, 0))
    sock.connect(("127.0.0.1", port))
    return sock


if __name__ == "__main__":
    if sys.argv[1] == "others":
        print(json.dumps(_others(int(sys.argv[2]), float(sys.argv[3]))))
    else:
        _hold(int(sys.argv[2]), int(float(sys.argv[3])))
