"""One tenant at a hundred times its limit, and what the others notice of it.

The others are tenants of the same worker, asking at a steady pace as people and programs do. They
are measured alone and beside the abusive tenant, in turns, with rate limits on. The abusive tenant
is given one way at a time: keep-alive connections that ask again as soon as they are answered, and
requests sent at a hundred times the limit whether they are answered or not.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from bench import cpu
from bench.fleet import bearer, fleet, temporary, token
from bench.load import request

if TYPE_CHECKING:
    from collections.abc import Iterator

_USER_QPS = 100
_YAML = f"""
server:
  rate_limit: {{enabled: true, namespace_qps: 1000, user_qps: {_USER_QPS}}}
mounts:
- {{path: /, provider: memfs}}
namespace_template:
- {{path: /, provider: memfs}}
"""
_OTHERS = 20
#: Of all others together; below their limits, and well below what a worker can.
_OTHERS_PER_S = 1000.0
_ABUSERS = 50
_STAT = "/api/v1/stat?path=/"


def run(quick: bool) -> None:
    seconds, rounds = (0.5, 1) if quick else (5.0, 4)
    variants = {"alone": 0.0, "asks again at once": -1.0, "100 times its limit": 100.0 * _USER_QPS}
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in variants}
    with temporary() as home, fleet(auth=True, yaml=_YAML, directory=home) as served:
        admin = token("default", roles=["admin"])
        for name in ("abusive", *(f"tenant{number}" for number in range(_OTHERS))):
            served.call("POST", "/api/v1/namespaces", json.dumps({"name": name}), admin)
        _measure(served.port, 0.3)
        for _ in range(rounds):
            for name, rate in variants.items():
                used_s = cpu.used_s(served.pid)
                with _abuse(served.port, rate) if rate else contextlib.nullcontext():
                    p50, p99 = _measure(served.port, seconds)
                share = (cpu.used_s(served.pid) - used_s) / seconds
                results[name].append((p50, p99, share))
    print(f"\n{_OTHERS} others with {_OTHERS_PER_S:,.0f} requests/s together\n")
    print("| the abusive tenant | p50 µs | p99 µs | p99 to alone | worker's CPU |")
    print("| --- | --- | --- | --- | --- |")
    base = statistics.median(sample[1] for sample in results["alone"])
    for name, samples in results.items():
        p50, p99, share = (statistics.median(column) for column in zip(*samples, strict=True))
        print(f"| {name} | {p50:,.0f} | {p99:,.0f} | {p99 / base:.2f} | {share:.0%} |")


def _measure(port: int, seconds: float) -> tuple[float, float]:
    """p50 and p99 in µs of the others, in a process on the load core."""
    return _generate({"what": "others", "port": port, "seconds": seconds})


@contextlib.contextmanager
def _abuse(port: int, rate: float) -> Iterator[None]:
    spec = {"what": "abusive", "port": port, "rate": rate}
    process = _start(spec)
    time.sleep(1.0)  # until it has what is given at once, and its sockets are not read any more
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def _start(spec: dict[str, Any]) -> subprocess.Popen[str]:
    with cpu.on_core(cpu.LOAD_CORE):
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.abuse"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    assert process.stdin is not None
    process.stdin.write(json.dumps(spec))
    process.stdin.close()
    process.stdin = None
    return process


def _generate(spec: dict[str, Any]) -> tuple[float, float]:
    process = _start(spec)
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("the load failed")
    p50, p99 = json.loads(output)
    return p50, p99


# -- In processes of their own --------------------------------------------------------------


def _others(port: int, seconds: float) -> tuple[float, float]:
    """Ask at a steady pace, each other in turn, and wait for each answer before the next."""
    asking = []
    for number in range(_OTHERS):
        sock = _connect(port)
        key = token(f"tenant{number}", sub=f"user{number}")
        asking.append((sock, request("GET", _STAT, headers=bearer(key))))
    waits = []
    end_s = time.perf_counter() + seconds
    due_s = time.perf_counter()
    turn = 0
    while (now_s := time.perf_counter()) < end_s:
        if now_s < due_s:
            time.sleep(due_s - now_s)
        sock, wire = asking[turn % _OTHERS]
        turn += 1
        start_s = time.perf_counter()
        sock.sendall(wire)
        answer = sock.recv(65_536)
        waits.append(time.perf_counter() - start_s)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"one of the others got {answer[:200]!r}")
        due_s = max(due_s + 1 / _OTHERS_PER_S, now_s - 0.01)
    waits.sort()
    return waits[len(waits) // 2] * 1e6, waits[len(waits) * 99 // 100] * 1e6


def _abusive(port: int, rate: float) -> None:
    """Press until killed: without a pause, or with `rate` requests a second."""
    # What it costs itself must not be what the others, on its core, are late by.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    wire = request("GET", _STAT, headers=bearer(token("abusive")))
    poll = select.epoll()
    socks = {}
    for _ in range(_ABUSERS):
        sock = _connect(port)
        sock.setblocking(False)
        socks[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
        if rate < 0:
            sock.send(wire)
    turn, pressing = 0, list(socks.values())
    due_s = time.perf_counter()
    while True:
        if rate > 0:
            # Many at a time: what the abuser costs itself must not be what is measured.
            due_s += 0.01
            for _ in range(int(rate * 0.01)):
                with contextlib.suppress(BlockingIOError):
                    pressing[turn % _ABUSERS].send(wire)
                turn += 1
        for fd, _ in poll.poll(max(0.0, due_s - time.perf_counter()) if rate > 0 else 1.0):
            if not socks[fd].recv(1 << 20):
                raise RuntimeError("the abuser's connection was closed")
            if rate < 0:
                socks[fd].send(wire)
        if rate > 0 and (left_s := due_s - time.perf_counter()) > 0:
            time.sleep(left_s)


def _connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


if __name__ == "__main__":
    given = json.load(sys.stdin)
    if given["what"] == "others":
        print(json.dumps(_others(given["port"], given["seconds"])))
    else:
        _abusive(given["port"], given["rate"])
