"""What a worker answers passes a proxy unchanged, and bodies stream through it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from typing import TYPE_CHECKING

import pytest

from fs9.wire.route import SLOT
from tests.deploy.calls import FrontClient, ask, bearer, make_namespaces
from tests.deploy.conftest import BODY_BYTES_MAX
from tests.workers.wire_client import chunked_request, request

if TYPE_CHECKING:
    from tests.deploy.conftest import Proxy
    from tests.fix_fleet import Fleet
    from tests.workers.wire_client import Response

MIB = 1024 * 1024
#: What each hop writes for itself.
_OWN = {"server", "date", "connection", "keep-alive", "transfer-encoding", "content-length"} | {
    SLOT
}


@pytest.fixture
async def token(proxy: Proxy, fleet: Fleet) -> dict[str, str]:
    """Of a namespace of these tests, in which there is the file /digits."""
    name = f"passing-{proxy.kind}"
    await make_namespaces(fleet, [name])
    held = bearer(name)
    await ask(fleet, "PUT", "/api/v1/upload?path=/digits", held, b"0123456789" * 1000)
    return held


def comparable(answer: Response) -> tuple[int, dict[str, str], bytes]:
    kept = {name: value for name, value in answer.headers.items() if name not in _OWN}
    return answer.status, kept, answer.body


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", "/api/v1/download?path=/digits", {}),
        ("HEAD", "/api/v1/download?path=/digits", {}),
        ("GET", "/api/v1/download?path=/digits", {"Range": "bytes=5-14"}),
        ("GET", "/api/v1/download?path=/digits", {"Range": "bytes=-7"}),
        ("HEAD", "/api/v1/download?path=/digits", {"Range": "bytes=5-14"}),
        ("GET", "/api/v1/download?path=/digits", {"Range": "bytes=99999-"}),
        ("GET", "/api/v1/download?path=/digits", {"If-None-Match": "*"}),
        ("GET", "/api/v1/download?path=/nothing", {}),
        ("GET", "/api/v1/stat?path=/digits", {}),
        ("GET", "/api/v1/stat?path=%2Fdigits", {}),
        ("GET", "/api/v1/stat?path=/a%2F..%2F%2Fdigits", {}),
        ("GET", "/api/v1/stat", {}),
        ("GET", "/api/v1/./stat?path=/digits", {}),
        ("GET", "/api//v1/stat?path=/digits", {}),
        ("GET", "/another/api/v1/stat?path=/digits", {}),
        ("DELETE", "/api/v1/remove?path=/nothing", {}),
        ("PATCH", "/api/v1/stat?path=/digits", {}),
        ("OPTIONS", "/api/v1/stat?path=/digits", {}),
        ("POST", "/api/v1/close", {"Content-Type": "text/plain"}),
    ],
)
async def test_an_answer_is_the_worker_s_own(
    proxy: Proxy,
    fleet: Fleet,
    token: dict[str, str],
    method: str,
    target: str,
    headers: dict[str, str],
) -> None:
    """Status, headers and body are those that the worker gives without a proxy."""
    headers = token | headers | {"X-Request-ID": "the-client-s-own"}
    through = await ask(proxy, method, target, headers)
    direct = await ask(fleet, method, target, headers)
    assert comparable(through) == comparable(direct)
    assert through.headers.get("content-length") == direct.headers.get("content-length")


async def test_too_many_requests_are_told_as_by_the_worker(proxy: Proxy, fleet: Fleet) -> None:
    """429 with the worker's own words and `Retry-After`, of a namespace that may ask once a
    second."""
    name = f"hurried-{proxy.kind}"
    await make_namespaces(fleet, [name])
    admin = bearer("default", "admin") | {"Content-Type": "application/json"}
    body = b'{"quota": {"requests_per_second_max": 1}}'
    patched = await ask(fleet, "PATCH", f"/api/v1/namespaces/{name}", admin, body)
    assert patched.status == 200, patched.body
    refused = []
    for server in (proxy, fleet):
        for _ in range(50):
            headers = bearer(name) | {"X-Request-ID": "the-client-s-own"}
            answer = await ask(server, "GET", "/api/v1/stat?path=/", headers)
            if answer.status == 429:
                break
        refused.append(comparable(answer))
    (status, headers, body), direct = refused
    assert (status, body) == (429, direct[2])
    assert json.loads(body)["kind"] == "TooManyRequests"
    assert headers.keys() == direct[1].keys()
    assert int(headers["retry-after"]) >= 1


async def test_a_body_that_is_too_large_is_refused_with_413(
    proxy: Proxy, fleet: Fleet, token: dict[str, str]
) -> None:
    """By its length, before it is sent, or in the middle; in the server's envelope."""
    for target, length in (
        ("/api/v1/upload?path=/too-large", BODY_BYTES_MAX + 1),
        ("/api/v1/open", 3 * MIB),
    ):
        method = "PUT" if "upload" in target else "POST"
        kind = {} if method == "PUT" else {"Content-Type": "application/json"}
        answers = []
        for server in (proxy, fleet):
            client = await FrontClient.connect(server.port)
            headers = token | kind | {"Content-Length": str(length)}
            await client.send(request(method, target, headers=headers))
            answers.append(await asyncio.wait_for(client.response(), 10))
            await client.close()
        problems = [json.loads(answer.body) for answer in answers]
        assert [answer.status for answer in answers] == [413, 413]
        assert problems[0]["kind"] == problems[1]["kind"] == "PayloadTooLarge"
    assert (await ask(fleet, "GET", "/api/v1/stat?path=/too-large", token)).status == 404


async def test_too_long_a_head_is_refused_as_by_the_worker(
    proxy: Proxy, fleet: Fleet, token: dict[str, str]
) -> None:
    for target, headers, expected in (
        ("/api/v1/stat?path=/" + "a" * 20_000, {}, 414),
        ("/api/v1/stat?path=/", {f"X-{number}": "a" * 5_000 for number in range(8)}, 431),
    ):
        for server in (proxy, fleet):
            answer = await ask(server, "GET", target, token | headers)
            assert answer.status == expected


async def test_the_go_ahead_for_a_body_reaches_the_client(
    proxy: Proxy, token: dict[str, str]
) -> None:
    """A client that waits for `100 Continue` gets it, and its body is stored."""
    client = await FrontClient.connect(proxy.port)
    headers = token | {"Expect": "100-continue", "Content-Length": "4"}
    await client.send(request("PUT", "/api/v1/upload?path=/waited", headers=headers))
    assert await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 10)
    await client.send(b"body")
    assert (await client.response()).status == 200
    await client.close()
    answer = await ask(proxy, "GET", "/api/v1/download?path=/waited", token)
    assert answer.body == b"body"


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_bodies_stream_without_the_disk(
    proxy: Proxy, token: dict[str, str], chunked: bool
) -> None:
    """50 MiB up and down; the proxy writes no file, and sends on before it has all."""
    piece = random.Random(1).randbytes(MIB)
    pieces = [piece] * 50
    client = await FrontClient.connect(proxy.port)
    target = "/api/v1/upload?path=/large"
    if chunked:
        wire = chunked_request("PUT", target, pieces, headers=token)
    else:
        wire = request("PUT", target, headers=token, body=b"".join(pieces))
    await client.send(wire)
    assert (await client.response()).status == 200
    await client.send(request("GET", "/api/v1/download?path=/large", headers=token))
    answer = await client.response()
    assert hashlib.sha1(answer.body).digest() == hashlib.sha1(b"".join(pieces)).digest()
    await client.close()
    # nginx warns of each such file, which it removes from its directory at once.
    assert "temporary file" not in proxy.complaints()
    assert not [path for path in proxy.state_dir.rglob("*") if path.name.isdigit()]


async def test_the_first_half_arrives_before_the_second_is_sent(
    proxy: Proxy, fleet: Fleet, token: dict[str, str]
) -> None:
    """A proxy that collected the body would send nothing of it until it is whole."""
    body = json.dumps({"path": "/slow", "flags": {"create": True, "write": True}}).encode()
    headers = token | {"Content-Type": "application/json"}
    opened = await ask(proxy, "POST", "/api/v1/open", headers, body)
    handle_id = json.loads(opened.body)["handle_id"]
    client = await FrontClient.connect(proxy.port)
    target = f"/api/v1/write?handle_id={handle_id}&offset=0"
    headers = token | {"Content-Length": str(5 * MIB)}
    await client.send(request("POST", target, headers=headers) + bytes(4 * MIB))
    for _ in range(500):
        found = await ask(fleet, "GET", "/api/v1/stat?path=/slow", token)
        if json.loads(found.body)["size"] >= MIB:
            break
        await asyncio.sleep(0.02)
    else:
        raise AssertionError("nothing of the body has arrived at the worker")
    await client.send(bytes(MIB))
    assert json.loads((await client.response()).body)["bytes_written"] == 5 * MIB
    await client.close()


async def test_a_worker_with_too_much_to_do_is_heard(proxy: Proxy, token: dict[str, str]) -> None:
    """Its 503 and Retry-After pass, while eight uploads are in progress."""
    clients = []
    for number in range(8):
        client = await FrontClient.connect(proxy.port)
        headers = token | {"Content-Length": "2"}
        await client.send(request("PUT", f"/api/v1/upload?path=/{number}", headers=headers) + b"1")
        clients.append(client)
    for _ in range(200):
        answer = await ask(proxy, "GET", "/api/v1/stat?path=/", token)
        if answer.status == 503:
            break
        await asyncio.sleep(0.02)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert json.loads(answer.body)["kind"] == "Overloaded"
    for client in clients:
        await client.send(b"2")
        assert (await client.response()).status == 200
        await client.close()
