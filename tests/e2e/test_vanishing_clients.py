"""Clients that vanish, read slowly or only send: nothing is left of them, and no memory goes."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.e2e.conftest import new_name
from tests.e2e.test_attacks import everything_below
from tests.workers.wire_client import WireClient, request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fix_fleet import Fleet


def _descriptors(fleet: Fleet, slot: int, within: Path) -> list[str]:
    """What the worker has open below a directory."""
    directory = f"/proc/{fleet.pid_of(slot)}/fd"
    found = []
    for name in os.listdir(directory):
        try:
            target = os.readlink(f"{directory}/{name}")
        except FileNotFoundError:
            continue
        if target.startswith(f"{within}/"):
            found.append(target)
    return found


def _resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that must become true."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - another process cannot set an event
            await asyncio.sleep(0.02)


@pytest.fixture
async def tenant(fleet: Fleet) -> tuple[str, int, Path]:
    """(prefix of the API, slot of the owner, directory) of a new tenant with a 40 MB file."""
    name = new_name()
    async with httpx2.AsyncClient(base_url=f"{fleet.url}/{name}/api/v1/", timeout=60) as client:
        content = b"old content " * 3_500_000
        answer = await client.put("upload?path=/big", content=content)
        assert answer.status_code == 200
    slot = int(answer.headers["x-fs9-slot"])
    return f"/{name}/api/v1/", slot, fleet.data_dir / "namespaces" / name / "files"


async def test_uploads_that_break_off_leave_nothing(
    fleet: Fleet, tenant: tuple[str, int, Path]
) -> None:
    """The old content stays, no temporary file and no descriptor is left."""
    prefix, slot, directory = tenant
    before = sorted(everything_below(directory))
    for number in range(12):
        client = await WireClient.connect(fleet.port)
        target = f"{prefix}upload?path=/{'big' if number % 2 else 'new'}"
        head = f"PUT {target} HTTP/1.1\r\nHost: t\r\n"
        if number % 3 == 0:
            head += "Transfer-Encoding: chunked\r\n\r\n100000\r\n"
        else:
            head += "Content-Length: 50000000\r\n\r\n"
        await client.send(head.encode() + b"n" * (number * 150_000))
        if number % 4 == 0:
            raw = client.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        await client.close()
    await _until(lambda: _descriptors(fleet, slot, directory) == [])
    assert sorted(everything_below(directory)) == before
    stored = (directory / "big").read_bytes()
    assert stored == b"old content " * 3_500_000


async def test_a_client_that_leaves_is_no_failure_of_ours(fleet: Fleet) -> None:
    """Whatever it was sending: nothing is logged that looks like an error of the server."""
    before = len(fleet.log.read_text())
    prefix = f"/{new_name()}/api/v1/"
    kind = {"Content-Type": "application/json", "Content-Length": "100000"}
    for target in ("open", "wstat", "namespaces", "read", "close"):
        for start in (b"", b'{"path":', b" " * 70_000):
            for expect in ({}, {"Expect": "100-continue"}):
                client = await WireClient.connect(fleet.port)
                await client.send(request("POST", prefix + target, headers=kind | expect) + start)
                if expect and not start:
                    assert await client.reader.readline() == b"HTTP/1.1 100 Continue\r\n"
                await client.close()
    async with httpx2.AsyncClient(base_url=fleet.url + prefix) as http:
        for _ in range(20):  # later on every worker than what was cut
            assert (await http.get("stat", params={"path": "/"})).status_code == 200
    assert "Traceback" not in fleet.log.read_text()[before:]


async def test_downloads_that_break_off_leave_nothing(
    fleet: Fleet, tenant: tuple[str, int, Path]
) -> None:
    prefix, slot, directory = tenant
    for number in range(12):
        client = await WireClient.connect(fleet.port)
        await client.send(request("GET", f"{prefix}download?path=/big"))
        await client.reader.readexactly(1 + number * 40_000)
        await client.close()
    client = await WireClient.connect(fleet.port)
    await client.send(request("HEAD", f"{prefix}download?path=/big"))
    assert (await client.response(to_head=True)).headers["content-length"] == "42000000"
    await client.close()
    await _until(lambda: _descriptors(fleet, slot, directory) == [])


async def test_a_slow_reader_does_not_fill_the_worker(
    fleet: Fleet, tenant: tuple[str, int, Path]
) -> None:
    """Ten clients ask for 40 MB each and read almost nothing: the worker holds pieces only."""
    prefix, slot, directory = tenant
    pid = fleet.pid_of(slot)
    before = _resident_bytes(pid)
    clients = []
    for _ in range(10):
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", fleet.port))
        reader, writer = await asyncio.open_connection(sock=raw, limit=4096)
        client = WireClient(reader, writer)
        await client.send(request("GET", f"{prefix}download?path=/big"))
        assert b"200 OK" in await client.reader.readline()
        clients.append(client)
    most = 0
    for _ in range(20):
        await asyncio.sleep(0.02)
        for client in clients:
            await client.reader.read(1000)
        most = max(most, _resident_bytes(pid))
    assert most - before < 64 * 2**20
    for client in clients:
        await client.close()
    await _until(lambda: _descriptors(fleet, slot, directory) == [])


async def test_a_client_that_only_sends_gets_no_memory(fleet: Fleet) -> None:
    """Pipelined requests whose answers nobody reads stop being read."""
    tenant = new_name()
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.port)
    one = request("GET", f"/{tenant}/api/v1/stat?path=/")
    writer.write(one)
    head = await reader.readuntil(b"\r\n\r\n")
    slot = int(head.split(b"x-fs9-slot: ")[1].split(b"\r\n")[0])
    before = _resident_bytes(fleet.pid_of(slot))
    reader_transport = writer.transport
    reader_transport.pause_reading()
    try:
        async with asyncio.timeout(1.5):
            for _ in range(400):
                writer.write(one * 1000)
                await writer.drain()
    except TimeoutError:
        pass
    assert _resident_bytes(fleet.pid_of(slot)) - before < 64 * 2**20
    writer.transport.abort()
    await asyncio.sleep(0)  # the event loop closes the socket in its next round
