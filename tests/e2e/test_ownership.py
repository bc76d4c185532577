"""A namespace has one owner, whatever becomes of it: while a stopped worker lives, its namespaces
are nobody else's; when it goes on, so do they; when it is killed, the next owner has them."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from router.ring import Ring
from tests.workers.wire_client import Response, WireClient, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fix_fleet import Fleet

TENANTS = [f"t{number}" for number in range(12)]
JSON = {"Content-Type": "application/json"}
#: What was answered before a signal has arrived when the others have so many more lines.
_ARRIVED_LINES = 5


class Writer:
    """Appends numbered lines through one handle; knows what became of each attempt."""

    def __init__(self, port: int, tenant: str) -> None:
        self.port = port
        self.tenant = tenant
        #: (line, slot, when it was answered)
        self.acknowledged: list[tuple[str, int, float]] = []
        self.refused: set[str] = set()
        self.unknown: set[str] = set()
        self.client: WireClient | None = None
        self.handle = ""

    async def open(self) -> int:
        """The slot that has the namespace."""
        self.client = await WireClient.connect(self.port)
        flags = {"write": True, "create": True, "append": True}
        body = json.dumps({"path": "/log", "flags": flags}).encode()
        answer = await self._ask(f"/{self.tenant}/api/v1/open", body, JSON)
        assert answer.status == 200, answer.body
        self.handle = json.loads(answer.body)["handle_id"]
        return int(answer.headers["x-fs9-slot"])

    async def _ask(self, target: str, body: bytes, headers: dict[str, str]) -> Response:
        assert self.client is not None
        await self.client.send(request("POST", target, headers=headers, body=body))
        return await self.client.response()

    async def run(self, stop: asyncio.Event) -> None:
        number = 0
        while not stop.is_set():
            attempt = 0
            while not await self._append(f"{number:06}.{attempt:03}"):
                attempt += 1
                await asyncio.sleep(0.05)
            number += 1
            await asyncio.sleep(0.02)
        assert self.client is not None
        await self.client.close()

    async def _append(self, line: str) -> bool:
        target = f"/{self.tenant}/api/v1/write?handle_id={self.handle}&offset=0"
        try:
            answer = await self._ask(target, f"{line}\n".encode(), {})
        except (OSError, asyncio.IncompleteReadError):
            self.unknown.add(line)
            assert self.client is not None
            await self.client.close()
            self.client = await WireClient.connect(self.port)
            return False
        if answer.status == 503:
            assert int(answer.headers["retry-after"]) >= 1
            self.refused.add(line)
            return False
        assert answer.status == 200, (line, answer.status, answer.body)
        slot = int(answer.headers["x-fs9-slot"])
        self.acknowledged.append((line, slot, time.monotonic()))
        return True

    def check(self, content: str) -> None:
        """Each acknowledged line is there once, none that was refused, and all in order."""
        lines = content.splitlines()
        assert all(re.fullmatch(r"\d{6}\.\d{3}", line) for line in lines)
        assert lines == sorted(set(lines)), "written twice, or by two at a time"
        acknowledged = [line for line, _, _ in self.acknowledged]
        assert [line for line in lines if line not in self.unknown] == acknowledged
        assert not self.refused & set(lines)


async def until(reached: Callable[[], bool], within_s: float = 60) -> None:
    async with asyncio.timeout(within_s):
        while not reached():  # noqa: ASYNC110 - other processes are what changes
            await asyncio.sleep(0.05)


async def grow(writers: list[Writer], lines: int, slots: set[int] | None = None) -> None:
    """Until each writer has so many more lines acknowledged by one of the slots."""
    before = {writer.tenant: len(writer.acknowledged) for writer in writers}

    def grown() -> bool:
        return all(
            sum(slots is None or slot in slots for _, slot, _ in new) >= lines
            for new in (writer.acknowledged[before[writer.tenant] :] for writer in writers)
        )

    await until(grown)


async def probe(port: int, tenant: str, timeout_s: float) -> Response | None:
    """A new client's question; None when nobody answers in time."""
    client = await WireClient.connect(port)
    try:
        await client.send(request("GET", f"/{tenant}/api/v1/stat?path=/log"))
        return await asyncio.wait_for(client.response(), timeout_s)
    except TimeoutError:
        return None
    finally:
        await client.close()


def fs9_fleet(fleet: Fleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fs9.cli.main", "fleet", *arguments]
    command += ["--data-dir", str(fleet.data_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def locked(fleet: Fleet, tenant: str) -> bool:
    """Has somebody the namespace?"""
    fd = os.open(fleet.data_dir / "run" / "locks" / tenant, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def is_draining(fleet: Fleet) -> bool:
    """By the view that the broker has saved."""
    view = json.loads((fleet.run_directory / "view.json").read_bytes())["view"]
    return "draining" in view["slots"].values()


async def refused_while_it_stands(fleet: Fleet, victim: int, writers: list[Writer]) -> None:
    """Offered connections come back from it, and are answered 503 in time, by the others."""
    tenants = [writer.tenant for writer in writers]
    answers = await asyncio.gather(*(probe(fleet.port, each, 20) for each in tenants))
    for answer in answers:
        assert answer is not None
        assert answer.status == 503, "it has two owners"
        assert json.loads(answer.body)["kind"] == "OwnerUnavailable"
        assert int(answer.headers["retry-after"]) >= 1
        assert int(answer.headers["x-fs9-slot"]) != victim


async def waiting_while_it_drains(
    fleet: Fleet, victim: int, writers: list[Writer]
) -> tuple[asyncio.Task[subprocess.CompletedProcess[str]], list[asyncio.Task[Response | None]]]:
    """The ring gives the namespaces to others, the locks do not: requests wait for the drain,
    longer than for an owner that is away, and nobody is a second owner."""
    drain = asyncio.create_task(
        asyncio.to_thread(fs9_fleet, fleet, "drain", str(victim), "--timeout", "25")
    )
    await until(lambda: is_draining(fleet))
    waiting = [asyncio.create_task(probe(fleet.port, each.tenant, 30)) for each in writers]
    await asyncio.sleep(2.5)  # longer than owner_wait_secs
    assert [task.result() for task in waiting if task.done()] == []
    assert all(locked(fleet, writer.tenant) for writer in writers)
    return drain, waiting


async def test_a_stopped_worker_keeps_its_namespaces_until_it_is_killed(
    start_fleet: Callable[..., Fleet],
) -> None:
    yaml = "server: {limits: {owner_wait_secs: 1, worker_silence_secs: 300}}\n"
    fleet = start_fleet(workers=3, yaml=yaml)
    writers = [Writer(fleet.port, tenant) for tenant in TENANTS]
    owners = [await writer.open() for writer in writers]
    victim = max(set(owners), key=owners.count)
    theirs = [w for w, owner in zip(writers, owners, strict=True) if owner == victim]
    others = [w for w in writers if w not in theirs]
    stop = asyncio.Event()
    tasks = [asyncio.create_task(writer.run(stop)) for writer in writers]
    await grow(writers, 10)

    # Stopped: the others go on, and nobody answers for it.
    stopped = fleet.kill_worker(victim, signal.SIGSTOP)
    await grow(others, _ARRIVED_LINES)
    stopped_s = time.monotonic()
    await grow(others, 20)
    assert await probe(fleet.port, theirs[0].tenant, 0.5) is None
    await refused_while_it_stands(fleet, victim, theirs)
    drain, waiting = await waiting_while_it_drains(fleet, victim, theirs)
    await grow(others, 10)
    for writer in theirs:
        assert [line for line in writer.acknowledged if line[2] > stopped_s] == []

    # It goes on: what it had begun ends, then the drain, and others have the namespaces.
    os.kill(stopped, signal.SIGCONT)
    done = await drain
    assert done.returncode == 0, done.stderr
    for task in waiting:
        answer = await task
        assert answer is not None
        assert answer.status == 200
        assert int(answer.headers["x-fs9-slot"]) != victim
    await grow(theirs, 10, {0, 1, 2} - {victim})
    done = await asyncio.to_thread(fs9_fleet, fleet, "undrain", str(victim))
    assert done.returncode == 0, done.stderr
    await grow(theirs, 10, {victim})

    # Stopped again, then killed: its locks are free, and who waits is answered.
    assert fleet.kill_worker(victim, signal.SIGSTOP) == stopped
    await grow(others, _ARRIVED_LINES)
    stopped_s = time.monotonic()
    await grow(others, 20)
    assert all(locked(fleet, writer.tenant) for writer in theirs)
    for writer in theirs:
        assert [line for line in writer.acknowledged if line[2] > stopped_s] == []
    os.kill(stopped, signal.SIGKILL)
    await grow(writers, 10)

    stop.set()
    await asyncio.gather(*tasks)
    assert sum(len(writer.unknown) for writer in others) == 0
    for writer in writers:
        client = await WireClient.connect(fleet.port)
        await client.send(request("GET", f"/{writer.tenant}/api/v1/download?path=/log"))
        writer.check((await client.response()).body.decode())
        await client.close()
    assert fleet.stop() == 0


async def test_a_worker_that_hangs_is_replaced_and_its_namespaces_come_back(
    start_fleet: Callable[..., Fleet],
) -> None:
    """Requests wait for it: none gets 503, and nothing that was acknowledged is lost."""
    fleet = start_fleet(workers=3, yaml="server: {limits: {worker_silence_secs: 3}}\n")
    writers = [Writer(fleet.port, tenant) for tenant in TENANTS[:6]]
    owners = [await writer.open() for writer in writers]
    victim = owners[0]
    stop = asyncio.Event()
    tasks = [asyncio.create_task(writer.run(stop)) for writer in writers]
    await grow(writers, 5)
    stopped = fleet.kill_worker(victim, signal.SIGSTOP)
    answer = await probe(fleet.port, writers[0].tenant, 30)
    assert answer is not None
    assert answer.status == 200
    assert fleet.pid_of(victim) != stopped
    await grow(writers, 10)
    stop.set()
    await asyncio.gather(*tasks)
    assert "does not answer any more" in fleet.log.read_text()
    for writer in writers:
        client = await WireClient.connect(fleet.port)
        await client.send(request("GET", f"/{writer.tenant}/api/v1/download?path=/log"))
        writer.check((await client.response()).body.decode())
        await client.close()
    assert fleet.stop() == 0


async def test_requests_wait_for_a_long_transfer_and_go_back_when_the_drain_is_refused(
    start_fleet: Callable[..., Fleet],
) -> None:
    """The namespace is not free in time: the drain ends refused, and who waited is answered by
    the slot that has it."""
    fleet = start_fleet(workers=2, yaml="server: {limits: {owner_wait_secs: 1}}\n")
    writer = Writer(fleet.port, TENANTS[0])
    owner = await writer.open()
    slow = await WireClient.connect(fleet.port)
    head = b"PUT /%b/api/v1/upload?path=/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n"
    await slow.send(head % writer.tenant.encode() + b"half")
    await asyncio.sleep(0.3)
    drain = asyncio.create_task(
        asyncio.to_thread(fs9_fleet, fleet, "drain", str(owner), "--timeout", "4")
    )
    await until(lambda: is_draining(fleet))
    answer = await probe(fleet.port, writer.tenant, 30)
    assert answer is not None
    assert (answer.status, int(answer.headers["x-fs9-slot"])) == (200, owner)
    assert (await drain).returncode == 1
    await slow.send(b"full")
    assert (await slow.response()).status == 200
    await slow.close()
    assert writer.client is not None
    await writer.client.close()
    assert fleet.stop() == 0


async def keep_asking(port: int, tenants: list[str], stop: asyncio.Event) -> int:
    """One client of several namespaces in turn, whose requests come to be forwarded; how many
    were answered, all of them well."""
    client, count = await WireClient.connect(port), 0
    while not stop.is_set():
        for tenant in tenants:
            await client.send(request("GET", f"/{tenant}/api/v1/stat?path=/"))
            async with asyncio.timeout(30):
                answer = await client.response()
            assert answer.status == 200, (tenant, answer.body)
            count += 1
    await client.close()
    return count


async def keep_watching(port: int, tenant: str) -> None:
    """One who looks at the namespace without an end, and comes again when that is ended."""
    target = f"/{tenant}/api/v1/watch?path=/"
    while True:
        client = await WireClient.connect(port)
        try:
            await client.send(request("GET", target, headers={"Accept": "text/event-stream"}))
            assert await client.reader.readline() == b"HTTP/1.1 200 OK\r\n"
            while await client.reader.read(1000):
                pass
        finally:
            await client.close()


@pytest.mark.parametrize("how", ["undrain", "scale"])
async def test_a_slot_that_comes_to_the_ring_waits_for_no_long_transfer(
    start_fleet: Callable[..., Fleet], how: str
) -> None:
    """Who asks meanwhile is answered by the slot that still sends, or takes, a long file in the
    namespace, whatever connection it comes by; when that is over the namespace moves."""
    # Half of it is there for a busy host: the earlier owner keeps the namespace after the other.
    yaml = "server: {limits: {owner_wait_secs: 4}}\n"
    fleet = start_fleet(workers=2 if how == "undrain" else 1, yaml=yaml)
    moving = next(name for name in TENANTS if Ring(range(2)).owner(name) == 1)
    if how == "undrain":
        assert (await asyncio.to_thread(fs9_fleet, fleet, "drain", "1")).returncode == 0
    writer = Writer(fleet.port, moving)
    assert await writer.open() == 0
    slow = await WireClient.connect(fleet.port)
    head = b"PUT /%b/api/v1/upload?path=/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n"
    await slow.send(head % moving.encode() + b"half")
    stop = asyncio.Event()
    tasks = [asyncio.create_task(writer.run(stop))]
    asking = [asyncio.create_task(keep_asking(fleet.port, TENANTS, stop)) for _ in range(2)]
    watching = asyncio.create_task(keep_watching(fleet.port, moving))
    await grow([writer], 5)
    command = ["undrain", "1"] if how == "undrain" else ["scale", "2"]
    done = await asyncio.to_thread(fs9_fleet, fleet, *command)
    assert done.returncode == 0, done.stderr
    for _ in range(3):
        answer = await probe(fleet.port, moving, 20)
        assert answer is not None
        assert (answer.status, answer.headers["x-fs9-slot"]) == (200, "0")
        await grow([writer], 5, {0})
    await asyncio.sleep(4.5)  # longer than anybody waits for an owner that is away
    await slow.send(b"full")
    assert (await slow.response()).status == 200
    await slow.close()
    await grow([writer], 10, {1})
    stop.set()
    assert watching.cancel()
    await asyncio.wait([watching])
    assert all(count > 50 for count in await asyncio.gather(*asking))
    await asyncio.gather(*tasks)
    assert not writer.refused | writer.unknown
    answer = await probe(fleet.port, moving, 20)
    assert answer is not None
    assert answer.headers["x-fs9-slot"] == "1"
    assert fleet.stop() == 0
