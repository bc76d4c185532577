"""Requests that two parsers could read in two ways are answered 400, in the envelope, and the
connection is closed before another parser can see them."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from fs9.config.settings import Settings
from tests.workers.fix_node import start_node_of
from tests.workers.wire_client import WireClient, chunked_request, request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fix_fleet import Fleet

SMUGGLED = b"GET /api/v1/stat?path=/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /api/v1/close HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
PUT = b"PUT /api/v1/upload?path=/f HTTP/1.1\r\nHost: x\r\n"
JSON = {"Content-Type": "application/json"}
FAST, WEB = {"FS9_FAST_LANE": "true"}, {"FS9_FAST_LANE": "false"}
LANES = pytest.mark.parametrize("lane", [FAST, WEB], ids=["fast", "web"])

MALFORMED = {
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}" + SMUGGLED,
    "equal lengths": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + SMUGGLED,
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}" + SMUGGLED,
    "length and chunked": PUT
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "chunked and length": PUT
    + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "blank before the colon": PUT + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "folded header": PUT + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "other coding": PUT + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "signed length": POST + b"Content-Length: +2\r\n\r\n{}" + SMUGGLED,
    "bare LF": b"GET /api/v1/mounts HTTP/1.1\nHost: x\n\n" + SMUGGLED,
    "bare LF in the headers": b"GET /api/v1/mounts HTTP/1.1\r\nHost: x\nA: b\r\n\r\n" + SMUGGLED,
    "bare CR": b"GET /api/v1/mounts HTTP/1.1\r\nHost: x\rA: b\r\n\r\n" + SMUGGLED,
    "NUL": b"GET /api/v1/mounts HTTP/1.1\r\nHost: x\x00\r\n\r\n" + SMUGGLED,
    "no host": b"GET /api/v1/mounts HTTP/1.1\r\n\r\n" + SMUGGLED,
    "two hosts": b"GET /api/v1/mounts HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + SMUGGLED,
    "blanks in the request line": b"GET  /api/v1/mounts HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
    "chunk size": PUT + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n" + SMUGGLED,
    "negative chunk": PUT + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n" + SMUGGLED,
    "chunk too long": PUT + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n" + SMUGGLED,
    "chunk with bare LF": PUT + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n" + SMUGGLED,
    "huge chunk size": PUT
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"f" * 17
    + b"\r\nabc\r\n0\r\n\r\n"
    + SMUGGLED,
    "bad chunk in a JSON body": POST
    + b"Transfer-Encoding: chunked\r\n\r\n2;\x01\r\n{}\r\n0\r\n\r\n"
    + SMUGGLED,
}


@LANES
async def test_ambiguous_framing_is_refused_and_the_connection_closed(
    share_fleet: Callable[..., Fleet], lane: dict[str, str]
) -> None:
    fleet = share_fleet(workers=1, environ=lane)
    for name, wire in MALFORMED.items():
        for cuts in ([], [1] * 60):
            client = await WireClient.connect(fleet.port)
            await client.send(wire.replace(b" /api/", b" /malformed/api/"), cuts)
            answer = await client.response()
            problem = json.loads(answer.body)
            assert (answer.status, problem["code"]) == (400, 400), name
            assert problem["kind"] == "MalformedRequest", name
            assert "error" in problem, name
            assert answer.headers["connection"] == "close", name
            assert await client.at_end(), f"{name}: something else was answered"
            await client.close()
    await _nothing_was_stored(fleet, "malformed")


async def _nothing_was_stored(fleet: Fleet, tenant: str) -> None:
    client = await WireClient.connect(fleet.port)
    await client.send(request("GET", f"/{tenant}/api/v1/readdir?path=/"))
    assert json.loads((await client.response()).body) == []
    await client.close()


async def test_a_client_may_send_an_empty_line_first_and_an_absolute_target(
    share_fleet: Callable[..., Fleet],
) -> None:
    fleet = share_fleet(workers=1, environ=FAST)
    client = await WireClient.connect(fleet.port)
    await client.send(b"\r\n" + request("GET", "http://host:1/api/v1/mounts"))
    assert (await client.response()).status == 200
    await client.send(request("OPTIONS", "*"))
    assert (await client.response()).status == 404
    await client.close()
    client = await WireClient.connect(fleet.port)
    await client.send(request("TRACE", "/api/v1/mounts"))
    assert (await client.response()).status == 405
    await client.close()


async def test_http_1_0_is_answered_and_closed(share_fleet: Callable[..., Fleet]) -> None:
    fleet = share_fleet(workers=1, environ=FAST)
    for path in ("/health", "/api/v1/stat?path=/", "/api/v1/mounts"):
        client = await WireClient.connect(fleet.port)
        await client.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = await client.response()
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert await client.at_end()
        await client.close()


@LANES
async def test_a_query_may_have_text_that_is_not_encoded(
    share_fleet: Callable[..., Fleet], lane: dict[str, str]
) -> None:
    """As curl sends what its user typed."""
    fleet = share_fleet(workers=1, environ=lane)
    client = await WireClient.connect(fleet.port)
    for method, route, status in (
        ("PUT", "upload", 200),
        ("GET", "stat", 200),
        ("GET", "statfs", 200),
        ("DELETE", "remove", 204),
        ("GET", "download", 404),
    ):
        wire = request(method, f"/api/v1/{route}?path=/@")
        await client.send(wire.replace(b"@", "Grüße%20日本".encode()))
        assert (await client.response()).status == status, route
    await client.close()


@LANES
async def test_no_answer_to_http_1_0_is_chunked(
    share_fleet: Callable[..., Fleet], lane: dict[str, str]
) -> None:
    """What has no length ends with the connection (RFC 9112, section 6.1), on every lane."""
    fleet = share_fleet(workers=1, environ=lane)
    content = bytes(range(256)) * 6000
    client = await WireClient.connect(fleet.port)
    handle_id = await _stored_and_opened(client, content)
    asked = json.dumps({"handle_id": handle_id, "offset": 0, "size": 2 * len(content)}).encode()
    wire = request("POST", "/api/v1/read", headers=JSON, body=asked)
    head, _, body = await _until_closed(fleet, wire.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert b"transfer-encoding" not in head
    assert b"content-length" not in head
    assert b"connection: close" in head
    assert body == content
    await client.close()


async def _stored_and_opened(client: WireClient, content: bytes) -> str:
    """The id of a handle for reading it."""
    await client.send(request("PUT", "/api/v1/upload?path=/f", body=content))
    assert (await client.response()).status == 200
    opening = b'{"path":"/f","flags":{"read":true}}'
    await client.send(request("POST", "/api/v1/open", headers=JSON, body=opening))
    handle_id: str = json.loads((await client.response()).body)["handle_id"]
    return handle_id


async def _until_closed(fleet: Fleet, wire: bytes) -> tuple[bytes, bytes, bytes]:
    client = await WireClient.connect(fleet.port)
    await client.send(wire)
    answer = await client.reader.read()
    await client.close()
    return answer.partition(b"\r\n\r\n")


async def test_an_answer_to_http_1_0_that_breaks_off_does_not_look_whole(
    start_fleet: Callable[..., Fleet],
) -> None:
    """The handle is closed while its bytes are on their way: the connection is reset.

    The log has the reason in one line.
    """
    fleet = start_fleet(workers=1)
    client = await WireClient.connect(fleet.port)
    content = bytes(48 * 1024 * 1024)
    handle = {"handle_id": await _stored_and_opened(client, content)}
    asked = json.dumps(handle | {"offset": 0, "size": len(content)}).encode()
    slow = await WireClient.connect(fleet.port)
    wire = request("POST", "/api/v1/read", headers=JSON, body=asked)
    await slow.send(wire.replace(b"HTTP/1.1", b"HTTP/1.0"))
    await slow.reader.readuntil(b"\r\n\r\n")
    closing = json.dumps(handle).encode()
    await client.send(request("POST", "/api/v1/close", headers=JSON, body=closing))
    assert (await client.response()).status == 204
    with pytest.raises(ConnectionResetError):
        await slow.reader.read()
    await slow.close()
    await client.close()
    said = fleet.log.read_text()
    assert "an answer broke off: invalid" in said
    assert "Traceback" not in said


async def test_events_for_http_1_0_are_not_chunked(share_fleet: Callable[..., Fleet]) -> None:
    fleet = share_fleet(workers=1, environ=FAST)
    client = await WireClient.connect(fleet.port)
    await client.send(b"GET /api/v1/watch?path=/ HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n")
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert await client.reader.readline() == b"retry: 500\n"
    await client.close()


async def test_a_method_that_no_standard_knows_is_405_with_allow(
    share_fleet: Callable[..., Fleet],
) -> None:
    """As any other that a route has not; where there is no route it is 404."""
    fleet = share_fleet(workers=1, environ=FAST)
    client = await WireClient.connect(fleet.port)
    for method in ("BREW", "SOURCE", "DESCRIBE", "QUERY", "PRI"):
        await client.send(request(method, "/api/v1/stat?path=/"))
        answer = await client.response()
        assert (answer.status, answer.headers.get("allow")) == (405, "GET, HEAD"), method
        assert json.loads(answer.body)["error"] == f"method not allowed: {method}"
        assert "connection" not in answer.headers
        await client.send(request(method, "/api/v1/nothing"))
        assert (await client.response()).status == 404, method
    await client.send(request("BREW", "/api/v1/upload?path=/f", body=b"x"))
    assert (await client.response()).headers["allow"] == "PUT"
    await client.close()


async def test_a_body_that_a_half_close_cuts_short_is_told_of(
    share_fleet: Callable[..., Fleet],
) -> None:
    """The client that can still listen learns why nothing was stored."""
    fleet = share_fleet(workers=1, environ=FAST)
    headers = JSON | {"Content-Length": "50"}
    for target in ("upload?path=/f", "open", "wstat"):
        method = "PUT" if target.startswith("upload") else "POST"
        wire = request(method, f"/cut/api/v1/{target}", headers=headers, body=b"{" * 20)
        client = await WireClient.connect(fleet.port)
        await client.send(wire)
        client.writer.write_eof()
        answer = await client.response()
        assert (answer.status, json.loads(answer.body)["kind"]) == (400, "MalformedRequest")
        assert answer.headers["connection"] == "close"
        assert await client.at_end()
        await client.close()
    await _nothing_was_stored(fleet, "cut")


async def test_a_half_closed_connection_still_gets_its_answer(
    share_fleet: Callable[..., Fleet],
) -> None:
    fleet = share_fleet(workers=2)
    wires = [
        request("GET", path)
        for path in ("/health", "/api/v1/readdir?path=/", "/x/api/v1/mounts", "/y/api/v1/mounts")
    ]
    for tenant in "wxyz":
        target = f"/{tenant}/api/v1/upload?path=/f"
        wires += [
            request("PUT", target, body=b"x" * 300_000),
            chunked_request("PUT", target, [b"x" * 1000] * 100),
        ]
    for wire in wires:
        client = await WireClient.connect(fleet.port)
        client.writer.write(wire)
        client.writer.write_eof()
        assert (await client.response()).status == 200
        assert await client.at_end()
        await client.close()


@LANES
async def test_all_that_came_before_a_half_close_is_answered(
    share_fleet: Callable[..., Fleet], lane: dict[str, str]
) -> None:
    """Pipelined requests, the last of them cut short."""
    fleet = share_fleet(workers=1, environ=lane)
    wires = [
        request("PUT", "/api/v1/upload?path=/f", body=b"x" * 100_000),
        request("GET", "/api/v1/stat?path=/f"),
        request("GET", "/api/v1/download?path=/f"),
        request("GET", "/api/v1/events?limit=0"),
        request("GET", "/api/v1/stat?path=/none"),
    ]
    short = request("POST", "/api/v1/open", headers=JSON | {"Content-Length": "50"}, body=b"{")
    for last, status in ((b"", 0), (b"GET /api/v1/sta", 0), (short, 400)):
        client = await WireClient.connect(fleet.port)
        client.writer.write(b"".join(wires) + last)
        client.writer.write_eof()
        answers = [await client.response() for _ in wires]
        assert [each.status for each in answers] == [200, 200, 200, 200, 404]
        assert len(answers[2].body) == 100_000
        if status:
            assert (await client.response()).status == status
        assert await client.at_end()
        await client.close()


async def test_an_upgrade_is_declined_by_answering_in_http_1_1(
    share_fleet: Callable[..., Fleet],
) -> None:
    fleet = share_fleet(workers=1, environ=FAST)
    client = await WireClient.connect(fleet.port)
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": ""}
    for path in ("/health", "/api/v1/stat?path=/", "/api/v1/mounts"):
        await client.send(request("GET", path, headers=offer))
        assert (await client.response()).status == 200
    await client.close()


async def test_a_client_that_ends_within_a_body_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered, and its connection closed: it cannot send what would destroy the answer."""
    monkeypatch.setattr("workers.connection.LINGER_S", 3600.0)
    async with AsyncExitStack() as stack:
        node, port = await start_node_of(Settings(data_dir=tmp_path / "data"), None, stack)
        client = await WireClient.connect(port)
        await client.send(PUT + b"Content-Length: 9\r\n\r\nabc")
        client.writer.write_eof()
        assert (await client.response()).status == 400
        async with asyncio.timeout(60):
            while node.admission._total:  # noqa: ASYNC110 - the other end is what changes
                await asyncio.sleep(0.01)
        await client.close()
