"""Slow clients are cut, whatever they are slow with, and the others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.workers.test_metrics import scrape, total
from tests.workers.wire_client import WireClient, request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.fix_fleet import Fleet

FAST_TIMES = """
server:
  trusted_proxies: [unix]
  request_timeout_secs: 4
  limits:
    header_timeout_secs: 2
    keep_alive_secs: 2
    transfer_period_secs: 1
    min_transfer_bytes_per_sec: 1000
    max_concurrent_requests_per_namespace: 60
"""
SOCKETS_OF_EACH = 20
BIG = 8_000_000
_SLOW = "/slow/api/v1"
Slow = tuple[bytes, bytes]

#: What each sends at once, and then a little of, for ever. None of them reads.
SLOW_WRITERS: dict[str, Slow] = {
    "nothing": (b"", b""),
    "empty lines": (b"", b"\r\n"),
    "head": (b"GET / HTTP/1.1\r\n", b"A: b\r\n"),
    "small body": (
        b"POST %b/open HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 9000\r\n\r\n{" % _SLOW.encode(),
        b" ",
    ),
    "large body": (
        b"PUT %b/upload?path=/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\nx"
        % _SLOW.encode(),
        b"x",
    ),
    "chunked body": (
        b"PUT %b/upload?path=/slow2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        % _SLOW.encode(),
        b"1\r\nx\r\n",
    ),
    "body of a refusal": (
        b"PUT %b/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\nx" % _SLOW.encode(),
        b"x",
    ),
}
_BIG_GET = request("GET", f"{_SLOW}/download?path=/big")
SLOW_READERS: dict[str, bytes] = {
    "download": _BIG_GET,
    "last download": _BIG_GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    "range": _BIG_GET.replace(b"\r\n\r\n", b"\r\nRange: bytes=0-900000\r\n\r\n"),
    "pipelined": request("GET", "/openapi.json") * 200,
}


def connect(fleet: Fleet) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(10)
    sock.connect(("127.0.0.1", fleet.port))
    sock.setblocking(False)
    return sock


def drip(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.send(data)


async def until(found: Callable[[], Awaitable[bool]], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if await found():
            return True
        await asyncio.sleep(0.1)
    return False


@pytest.mark.parametrize("environ", [{}, {"FS9_FAST_LANE": "false"}], ids=["fast", "web"])
async def test_slow_clients_are_cut_and_others_are_answered(
    start_fleet: Callable[..., Fleet], environ: dict[str, str]
) -> None:
    fleet = start_fleet(workers=2, yaml=FAST_TIMES, environ=environ)
    good = await WireClient.connect(fleet.port)
    await good.send(request("PUT", f"{_SLOW}/upload?path=/big", body=b"x" * BIG))
    assert (await good.response()).status == 200
    await good.send(request("PUT", "/good/api/v1/upload?path=/f", body=b"hello"))
    assert (await good.response()).status == 200
    socks = []
    for first, more in SLOW_WRITERS.values():
        for _ in range(SOCKETS_OF_EACH):
            socks.append((connect(fleet), more))
            drip(socks[-1][0], first)
    for wire in SLOW_READERS.values():
        for _ in range(SOCKETS_OF_EACH):
            socks.append((connect(fleet), b""))
            drip(socks[-1][0], wire)

    async def cut() -> bool:
        """A round of everybody; are all of the slow gone?"""
        for sock, more in socks:
            if more:
                drip(sock, more)
        await good.send(request("GET", "/good/api/v1/download?path=/f"))
        answer = await good.response()
        assert (answer.status, answer.body) == (200, b"hello")
        return total(await scrape(fleet, 0), "fs9_connections") <= 4

    try:
        assert await until(cut, 40), await scrape(fleet, 0)
        samples = await scrape(fleet, 0)
        for doing in ("head", "body", "answer"):
            assert total(samples, "fs9_slow_clients_total", doing=doing) > SOCKETS_OF_EACH / 2
        assert total(samples, "fs9_requests_in_progress") <= 1, "the scrape itself"
    finally:
        for sock, _ in socks:
            sock.close()
        await good.close()


async def test_a_client_that_takes_its_last_answer_in_its_own_time_gets_all_of_it(
    start_fleet: Callable[..., Fleet],
) -> None:
    """`Connection: close`: some seconds for what the worker has written already."""
    yaml = FAST_TIMES.replace("period_secs: 1", "period_secs: 10")
    fleet = start_fleet(workers=1, yaml=yaml)
    client = await WireClient.connect(fleet.port)
    await client.send(request("PUT", "/api/v1/upload?path=/f", body=b"x" * 900_000))
    assert (await client.response()).status == 200
    await client.close()
    loop = asyncio.get_running_loop()
    sock = connect(fleet)
    await loop.sock_sendall(
        sock, b"GET /api/v1/download?path=/f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    received = 0
    await asyncio.sleep(3.5)
    while data := await loop.sock_recv(sock, 65_536):
        received += len(data)
    sock.close()
    assert received > 900_000


async def test_one_namespace_leaves_the_others_room(start_fleet: Callable[..., Fleet]) -> None:
    yaml = "server: {limits: {max_concurrent_requests_per_namespace: 3}}\n"
    fleet = start_fleet(workers=1, yaml=yaml)
    busy = [await WireClient.connect(fleet.port) for _ in range(3)]
    for number, client in enumerate(busy):
        await client.send(
            b"PUT %b/upload?path=/b%d HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf"
            % (_SLOW.encode(), number)
        )
    other = await WireClient.connect(fleet.port)

    async def refused() -> bool:
        await other.send(request("GET", f"{_SLOW}/stat?path=/"))
        answer = await other.response()
        return answer.status == 429 and b"Too many requests in progress" in answer.body

    assert await until(refused, 20)
    await other.send(request("GET", "/good/api/v1/stat?path=/"))
    assert (await other.response()).status == 200
    for client in (*busy, other):
        await client.close()


async def test_a_worker_without_descriptors_neither_dies_nor_spins_and_comes_back(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(workers=1)
    pid = fleet.pid_of(0)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    assert before[0] == min(before[1], 2**20), "as many as the system allows"
    room = highest_descriptor(pid) + 6
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (room, before[1]))
    used_s = cpu_s(pid)
    socks = [connect(fleet) for _ in range(60)]
    await asyncio.sleep(2)
    assert cpu_s(pid) - used_s < 1.5, "it waits, and does not try again and again"
    for sock in socks:
        sock.close()

    async def answered() -> bool:
        try:
            client = await WireClient.connect(fleet.port)
            await client.send(request("GET", "/health"))
            return (await client.response()).status == 200
        except (OSError, asyncio.IncompleteReadError):
            return False
        finally:
            await client.close()

    assert await until(answered, 20)
    assert fleet.pid_of(0) == pid


def highest_descriptor(pid: int) -> int:
    return max(int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir())


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
