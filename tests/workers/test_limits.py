"""The bounds of one request hold at the socket: sizes, times, numbers, and Expect."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, cast

import pytest

from fs9.config.settings import Settings
from tests.fix_http import SECRET, TEMPLATE, token
from tests.workers.fix_node import start_node_of
from tests.workers.test_revoking import until
from tests.workers.wire_client import WireClient, chunked_request, request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fs9.meta.models import NamespaceRecord
    from tests.fix_fleet import Fleet
    from workers.connection import Connection

SMALL = """
server:
  request_timeout_secs: 2
  max_concurrent_requests: 3
  max_body_size_bytes: 1000
  max_write_size_bytes: 100000
  limits:
    header_timeout_secs: 1
    keep_alive_secs: 1.5
    max_request_line_bytes: 300
    max_headers_bytes: 400
    max_fast_body_bytes: 1000
"""
LANES = pytest.mark.parametrize("environ", [{}, {"FS9_FAST_LANE": "false"}], ids=["fast", "web"])
UPLOAD = "/api/v1/upload?path=/f"


def kind(body: bytes) -> str:
    return json.loads(body)["kind"]


@LANES
async def test_what_is_too_large_is_refused(
    share_fleet: Callable[..., Fleet], environ: dict[str, str]
) -> None:
    fleet = share_fleet(workers=1, yaml=SMALL, environ=environ)
    json_type = {"Content-Type": "application/json"}
    cases = [
        (request("GET", "/api/v1/stat?path=/" + "a" * 400), 414, "UriTooLong"),
        (request("GET", "/api/v1/stat?path=/", headers={"A": "b" * 500}), 431, "HeadersTooLarge"),
        (
            request("POST", "/api/v1/open", headers=json_type, body=b" " * 1001),
            413,
            "PayloadTooLarge",
        ),
        (request("PUT", f"/large{UPLOAD}", body=b"x" * 100_001), 413, "PayloadTooLarge"),
        (chunked_request("PUT", f"/large{UPLOAD}", [b"x" * 60_000] * 2), 413, "PayloadTooLarge"),
    ]
    for wire, status, name in cases:
        client = await WireClient.connect(fleet.port)
        await client.send(wire)
        answer = await client.response()
        assert (answer.status, kind(answer.body)) == (status, name)
        await client.close()
    client = await WireClient.connect(fleet.port)
    await client.send(request("GET", "/large/api/v1/readdir?path=/"))
    assert json.loads((await client.response()).body) == [], "nothing of a refused body is left"
    await client.close()


@LANES
async def test_an_endless_line_is_refused_before_it_ends(
    share_fleet: Callable[..., Fleet], environ: dict[str, str]
) -> None:
    fleet = share_fleet(workers=1, yaml=SMALL, environ=environ)
    for wire, status in [
        (b"GET /" + b"a" * 400, 414),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 500, 431),
    ]:
        client = await WireClient.connect(fleet.port)
        await client.send(wire)
        assert (await client.response()).status == status
        await client.close()


@LANES
async def test_a_client_that_waits_for_100_is_told_before_it_sends(
    share_fleet: Callable[..., Fleet], environ: dict[str, str]
) -> None:
    fleet = share_fleet(workers=1, yaml=SMALL, environ=environ)
    head = "{} {} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n"
    client = await WireClient.connect(fleet.port)
    await client.send(head.format("PUT", UPLOAD, 5).encode())
    assert await client.reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"hello")
    assert (await client.response()).status == 200
    await client.close()
    for method, target, length, status in [
        ("PUT", UPLOAD, 100_001, 413),
        ("PUT", "/api/v1/upload?path=/no/parent", 5, 404),
        ("POST", "/api/v1/write?handle_id=x&offset=0", 5, 400),
    ]:
        client = await WireClient.connect(fleet.port)
        await client.send(head.format(method, target, length).encode())
        first = await client.reader.readuntil(b"\r\n")
        assert first.startswith(b"HTTP/1.1 %d " % status), "the answer comes without a 100"
        await client.close()


@LANES
async def test_the_request_timeout_measures_inactivity_not_length(
    share_fleet: Callable[..., Fleet], environ: dict[str, str]
) -> None:
    fleet = share_fleet(workers=1, yaml=SMALL, environ=environ)
    slow, stalled = await WireClient.connect(fleet.port), await WireClient.connect(fleet.port)
    head = b"PUT %b HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n"
    await slow.send(head % UPLOAD.encode())
    await stalled.send(head % b"/api/v1/upload?path=/stalled" + b"half")
    for byte in b"12345678":  # longer in all than the timeout
        await slow.send(bytes([byte]))
        await asyncio.sleep(0.3)
    assert (await slow.response()).status == 200
    answer = await asyncio.wait_for(stalled.response(), 60)
    assert (answer.status, kind(answer.body)) == (408, "RequestTimeout")
    assert await stalled.at_end()
    other = await WireClient.connect(fleet.port)  # an idle connection is closed soon
    await other.send(request("GET", "/api/v1/stat?path=/stalled"))
    assert (await other.response()).status == 404
    for client in (slow, stalled, other):
        await client.close()


async def test_a_small_body_that_stops_is_answered_408(share_fleet: Callable[..., Fleet]) -> None:
    fleet = share_fleet(workers=1, yaml=SMALL)
    client = await WireClient.connect(fleet.port)
    await client.send(
        b"POST /api/v1/open HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    assert (await asyncio.wait_for(client.response(), 60)).status == 408
    await client.close()


async def test_a_head_that_does_not_end_is_answered_408_and_an_idle_connection_closed(
    share_fleet: Callable[..., Fleet],
) -> None:
    fleet = share_fleet(workers=1, yaml=SMALL)
    dripping, idle = await WireClient.connect(fleet.port), await WireClient.connect(fleet.port)

    async def drip() -> None:
        await dripping.send(b"GET / HTTP/1.1\r\n")
        for number in range(30):
            await dripping.send(b"A%d: b\r\n" % number)
            await asyncio.sleep(0.1)

    dripped = asyncio.create_task(drip())
    assert (await asyncio.wait_for(dripping.response(), 60)).status == 408
    dripped.cancel()
    await idle.send(request("GET", "/health"))
    assert (await idle.response()).status == 200
    assert await asyncio.wait_for(idle.at_end(), 60)
    await idle.close()
    await dripping.close()


@LANES
async def test_more_than_the_allowed_requests_at_once_are_refused_with_503(
    start_fleet: Callable[..., Fleet], environ: dict[str, str]
) -> None:
    yaml = "server: {max_concurrent_requests: 3}\n"
    fleet = start_fleet(workers=1, yaml=yaml, environ=environ)
    busy = [await WireClient.connect(fleet.port) for _ in range(3)]
    for number, client in enumerate(busy):
        await client.send(
            b"PUT /api/v1/upload?path=/b%d HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf"
            % number
        )
    other = await WireClient.connect(fleet.port)
    await _until_refused(other)
    for client in busy:
        await client.send(b"full")
        assert (await client.response()).status == 200
        await client.close()
    await other.send(request("GET", "/api/v1/stat?path=/b0"))
    assert (await other.response()).status == 200, "the refused connection goes on"
    await other.close()


async def _until_refused(client: WireClient) -> None:
    """The three uploads may not have been seen yet."""
    status = 200
    async with asyncio.timeout(20):
        while status == 200:
            await client.send(request("GET", "/api/v1/stat?path=/"))
            answer = await client.response()
            status = answer.status
    assert (status, kind(answer.body)) == (503, "Overloaded")
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("late_bytes", [0, 5_000], ids=["all there", "more to come"])
async def test_a_body_that_ran_ahead_of_its_refusal_does_not_stop_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late_bytes: int
) -> None:
    """The socket is not read while much waits; it is read again when that was dropped."""
    settings = Settings(data_dir=tmp_path / "d", jwt_secret=SECRET, mounts=TEMPLATE)
    async with AsyncExitStack() as stack:
        node, port = await start_node_of(settings, None, stack)
        go_on, find = asyncio.Event(), node.services.store.namespace

        async def slow(name: str) -> NamespaceRecord:
            await go_on.wait()
            return await find(name)

        monkeypatch.setattr(node.services.store, "namespace", slow)
        client = await WireClient.connect(port)
        headers = {"Authorization": f"Bearer {token('nobodys')}", "Content-Length": "40000"}
        await client.send(request("PUT", UPLOAD, headers=headers) + b"x" * 10_000)
        (connection,) = [cast("Connection", each) for each in node._connections]
        await until(lambda: connection.exchange is not None)
        await client.send(b"x" * (30_000 - late_bytes))
        await until(lambda: len(connection.intake.data) == 40_000 - late_bytes)
        assert connection.flow.read_paused
        go_on.set()
        assert (await client.response()).status == 403
        await client.send(b"x" * late_bytes + request("GET", "/health"))
        async with asyncio.timeout(60):
            assert (await client.response()).status == 200
        await client.close()
