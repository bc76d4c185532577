"""Requests find the owner of their namespace: waiting for it, forwarded by it, never in a loop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from typing import TYPE_CHECKING

from tests.workers.wire_client import WireClient, request
from workers.departure import MOVES_MAX
from workers.peer import forwarding_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fix_fleet import Fleet


async def tenants_by_slot(fleet: Fleet) -> dict[str, str]:
    """One tenant of each slot."""
    found: dict[str, str] = {}
    client = await WireClient.connect(fleet.port)
    for number in range(40):
        await client.send(request("GET", f"/t{number}/api/v1/stat?path=/"))
        found.setdefault((await client.response()).headers["x-fs9-slot"], f"t{number}")
    await client.close()
    assert len(found) == fleet.workers
    return found


async def test_a_forwarded_request_is_never_passed_on(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet(workers=2)
    tenants = await tenants_by_slot(fleet)
    reader, writer = await asyncio.open_unix_connection(str(fleet.run_directory / "slot-0.http"))
    client = WireClient(reader, writer)
    await client.send(request("GET", f"/{tenants['1']}/api/v1/stat?path=/"))
    answer = await client.response()
    assert (answer.status, json.loads(answer.body)["kind"]) == (421, "MisdirectedRequest")
    await client.send(request("GET", f"/{tenants['0']}/api/v1/stat?path=/"))
    assert (await client.response()).status == 200
    await client.close()


async def test_a_request_that_was_forwarded_by_an_older_view_goes_on_to_the_owner(
    start_fleet: Callable[..., Fleet],
) -> None:
    """With its body; one by the very same view goes nowhere."""
    fleet = start_fleet(workers=2)
    tenants = await tenants_by_slot(fleet)
    newest = json.loads((fleet.run_directory / "view.json").read_bytes())["view"]["number"]
    for view, status, slot in ((newest - 1, 200, "1"), (newest, 421, "0")):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(forwarding_name("192.0.2.1", view))
            sock.connect(str(fleet.run_directory / "slot-0.http"))
            client = WireClient(*await asyncio.open_unix_connection(sock=sock))
            target = f"/{tenants['1']}/api/v1/upload?path=/f"
            await client.send(request("PUT", target, body=b"x" * 300_000))
            answer = await client.response()
            assert (answer.status, answer.headers["x-fs9-slot"]) == (status, slot)
            await client.close()


async def test_a_connection_through_the_socket_for_proxies_moves_like_any_other(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(workers=2)
    tenants = await tenants_by_slot(fleet)
    for first in ("0", "1"):
        path = fleet.run_directory / f"slot-{first}.front"
        client = WireClient(*await asyncio.open_unix_connection(str(path)))
        for slot in ("0", "1", "1", "0"):
            await client.send(request("GET", f"/{tenants[slot]}/api/v1/stat?path=/"))
            answer = await client.response()
            assert (answer.status, answer.headers["x-fs9-slot"]) == (200, slot)
        await client.close()


async def test_the_sockets_between_workers_are_closed_to_other_users(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(workers=1)
    assert os.stat(fleet.run_directory).st_mode & 0o777 == 0o700


async def test_a_connection_that_keeps_changing_is_forwarded_and_streams_both_ways(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(workers=2)
    tenants = await tenants_by_slot(fleet)
    client = await WireClient.connect(fleet.port)
    for _ in range(MOVES_MAX):
        for slot, tenant in tenants.items():
            await client.send(request("GET", f"/{tenant}/api/v1/stat?path=/"))
            assert (await client.response()).headers["x-fs9-slot"] == slot
    body = os.urandom(3_000_000)
    for slot, tenant in tenants.items():
        await client.send(request("PUT", f"/{tenant}/api/v1/upload?path=/f", body=body))
        answer = await client.response()
        assert (answer.status, answer.headers["x-fs9-slot"]) == (200, slot)
    for tenant in tenants.values():
        await client.send(request("GET", f"/{tenant}/api/v1/download?path=/f"))
        assert (await client.response()).body == body
        await client.send(request("HEAD", f"/{tenant}/api/v1/download?path=/f"))
        answer = await client.response(to_head=True)
        assert answer.headers["content-length"] == str(len(body))
        expecting = {"Expect": "100-continue", "Content-Length": "5"}
        await client.send(request("PUT", f"/{tenant}/api/v1/upload?path=/g", headers=expecting))
        assert await client.reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hello")
        assert (await client.response()).status == 200
    await client.close()


async def test_a_request_waits_for_an_owner_that_is_being_replaced(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(workers=2)
    tenants = await tenants_by_slot(fleet)
    await_owner = await WireClient.connect(fleet.port)
    await await_owner.send(request("GET", f"/{tenants['1']}/api/v1/stat?path=/"))
    assert (await await_owner.response()).status == 200
    fleet.kill_worker(0)
    await await_owner.send(request("GET", f"/{tenants['0']}/api/v1/stat?path=/"))
    answer = await asyncio.wait_for(await_owner.response(), 20)
    # The slot's next process; or, where that takes longer than the grace, the other slot.
    assert answer.status == 200
    assert answer.headers["x-fs9-slot"] in {"0", "1"}
    await await_owner.close()


async def test_a_forwarded_request_cut_by_the_death_of_the_owner_never_looks_complete(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(workers=2)
    tenants = await tenants_by_slot(fleet)
    client = await WireClient.connect(fleet.port)
    for _ in range(MOVES_MAX + 1):
        for tenant in tenants.values():
            await client.send(request("GET", f"/{tenant}/api/v1/stat?path=/"))
            await client.response()
    # The connection rests where it came to be forwarded: the other slot's owner is remote.
    remote = next(slot for slot in tenants if not _serves(fleet, slot, client))
    head = request("PUT", f"/{tenants[remote]}/api/v1/upload?path=/f", body=b"x" * 1000)
    await client.send(head[:-500])
    await asyncio.sleep(0.3)
    fleet.kill_worker(int(remote), signal.SIGKILL)
    try:
        answer = await asyncio.wait_for(client.response(), 20)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    else:
        assert (answer.status, json.loads(answer.body)["kind"]) == (503, "OwnerUnavailable")
        assert answer.headers["retry-after"]
    await client.close()
    other = await WireClient.connect(fleet.port)
    await other.send(request("GET", f"/{tenants[remote]}/api/v1/readdir?path=/"))
    answer = await asyncio.wait_for(other.response(), 20)
    assert json.loads(answer.body) == [], "nothing half-written is visible"
    await other.close()


def _serves(fleet: Fleet, slot: str, client: WireClient) -> bool:
    """Is the server's end of the connection in the process of this slot?"""
    port = client.writer.get_extra_info("sockname")[1]
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    inodes = {row[9] for row in rows if int(row[2].rpartition(":")[2], 16) == port}
    descriptors = os.scandir(f"/proc/{fleet.pid_of(int(slot))}/fd")
    links = {os.readlink(entry.path) for entry in descriptors}
    return any(f"socket:[{inode}]" in links for inode in inodes)


async def test_a_client_that_sends_and_never_reads_does_not_fill_the_memory(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(workers=1)
    client = await WireClient.connect(fleet.port)
    await client.send(request("PUT", "/api/v1/upload?path=/f", body=b"x" * 60_000))
    await client.response()
    before = resident_bytes(fleet.pid_of(0))
    flood = request("GET", "/api/v1/download?path=/f") * 200
    stalled = asyncio.create_task(_flood(client, flood))
    await asyncio.sleep(2)
    grown = resident_bytes(fleet.pid_of(0)) - before
    assert not stalled.done(), "the server stopped reading"
    stalled.cancel()
    assert grown < 16 * 2**20
    client.writer.transport.abort()
    await asyncio.sleep(0)  # the event loop closes the socket in its next round


async def _flood(client: WireClient, data: bytes) -> None:
    while True:
        client.writer.write(data)
        await client.writer.drain()


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
