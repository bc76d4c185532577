"""Every answer of every lane carries X-Request-ID: the client's, if it is sane, or a new one."""

from __future__ import annotations

import asyncio
import io
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from fs9.config.settings import Settings
from fs9.limits import Limits
from fs9.observe.log import configure
from tests.fix_http import TEMPLATE
from tests.workers.fix_node import start_node_of
from tests.workers.wire_client import Response, WireClient, chunked_request, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.fix_fleet import Fleet

#: (method, target, body, status): lane 1, 1 with an error, 1 that waits, 2, 2 up, 3, refusals.
REQUESTS = [
    ("GET", "/api/v1/stat?path=/", b"", 200),
    ("GET", "/api/v1/stat?path=/none", b"", 404),
    ("GET", "/fresh/api/v1/stat?path=/", b"", 200),
    ("PUT", "/api/v1/upload?path=/f", b"x" * 100_000, 200),
    ("GET", "/api/v1/download?path=/f", b"", 200),
    ("HEAD", "/api/v1/download?path=/f", b"", 200),
    ("GET", "/api/v1/mounts", b"", 200),
    ("GET", "/health", b"", 200),
    ("GET", "/no/such/route", b"", 404),
    ("PATCH", "/api/v1/stat", b"", 405),
    ("BREW", "/api/v1/stat", b"", 405),
    ("OPTIONS", "*", b"", 404),
    ("DELETE", "/api/v1/remove?path=/f", b"", 204),
]


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    settings = Settings(data_dir=tmp_path / "d", mounts=TEMPLATE, namespace_template=TEMPLATE)
    async with AsyncExitStack() as stack:
        yield (await start_node_of(settings, None, stack))[1]


@pytest.fixture
def plain_logging() -> Iterator[None]:
    """Leave the process's loggers as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


async def ask(
    client: WireClient, method: str, target: str, body: bytes, given: str | None = None
) -> Response:
    headers = {} if given is None else {"X-Request-ID": given}
    await client.send(request(method, target, body=body, headers=headers))
    return await client.response(to_head=method == "HEAD")


async def still_open(client: WireClient, port: int, answer: Response) -> WireClient:
    """The client, or another one when the answer closed its connection."""
    if answer.headers.get("connection") != "close":
        return client
    await client.close()
    return await WireClient.connect(port)


@pytest.mark.parametrize("given", ["abc-1", "x" * 128])
async def test_a_sane_id_comes_back_on_every_lane(port: int, given: str) -> None:
    client = await WireClient.connect(port)
    for method, target, body, status in REQUESTS:
        answer = await ask(client, method, target, body, given)
        assert (answer.status, answer.headers["x-request-id"]) == (status, given), target
        client = await still_open(client, port, answer)
    await client.close()


async def test_without_a_sane_one_each_answer_has_another(port: int) -> None:
    client = await WireClient.connect(port)
    seen = set()
    for given in (None, "a b", "x" * 129, "a,b"):
        for method, target, body, _ in REQUESTS:
            answer = await ask(client, method, target, body, given)
            seen.add(answer.headers["x-request-id"])
            client = await still_open(client, port, answer)
    assert len(seen) == 4 * len(REQUESTS)
    assert not seen & {"a b", "a,b", "x" * 129}
    await client.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: 1\r\n folded\r\n\r\n",
        b"GET /" + b"a" * 20_000,
        chunked_request("PUT", "/api/v1/upload?path=/f", [b"x"]).replace(b"\r\n1;", b"\r\nz;"),
    ],
)
async def test_refusals_of_what_is_no_http_have_one_too(port: int, data: bytes) -> None:
    client = await WireClient.connect(port)
    await client.send(data)
    answer = await client.response()
    assert answer.status in {400, 414}
    assert answer.headers["x-request-id"]
    await client.close()


async def test_an_overloaded_worker_names_the_request(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "d", limits=Limits(concurrent_requests_max=1))
    async with AsyncExitStack() as stack:
        node, port = await start_node_of(settings, None, stack)
        node.active = 1
        client = await WireClient.connect(port)
        answer = await ask(client, "GET", "/api/v1/stat?path=/", b"", "mine")
        assert (answer.status, answer.headers["x-request-id"]) == (503, "mine")
        node.metrics.flush()
        assert b'fs9_refusals_total{kind="Overloaded"} 1.0' in node.metrics.render()
        await client.close()


async def test_a_forwarded_request_keeps_its_id(start_fleet: Callable[..., Fleet]) -> None:
    """Also those without one have just one, and hand-offs change nothing."""
    fleet = start_fleet(workers=3, environ={})
    client = await WireClient.connect(fleet.port)
    for number in range(150):
        target = f"/t{number % 10}/api/v1/stat?path=/"
        answer = await ask(client, "GET", target, b"", f"id-{number}")
        assert (answer.status, answer.headers["x-request-id"]) == (200, f"id-{number}")
        assert (await ask(client, "GET", target, b"")).headers["x-request-id"]
    await client.close()


async def test_a_bug_is_logged_with_the_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_logging: None
) -> None:
    """So that the text that the client shows leads to the traceback."""
    stream = io.StringIO()
    settings = Settings(data_dir=tmp_path / "d", mounts=TEMPLATE, namespace_template=TEMPLATE)
    async with AsyncExitStack() as stack:
        node, port = await start_node_of(settings, None, stack)
        configure(settings, stream, slot=7)
        client = await WireClient.connect(port)
        assert (await ask(client, "GET", "/api/v1/stat?path=/", b"")).status == 200
        namespace = node.services.namespaces.loaded("default")
        assert namespace is not None
        (root,) = [mount for mount in namespace.vfs.mounts if mount.path == "/"]

        async def bug(*_: object) -> None:
            await asyncio.sleep(0)
            raise ZeroDivisionError

        monkeypatch.setattr(root.provider, "stat", bug)
        monkeypatch.setattr(root.provider, "statfs", bug)
        for target, given in (("stat", "lane-1"), ("statfs", "lane-3")):
            answer = await ask(client, "GET", f"/api/v1/{target}?path=/", b"", given)
            assert answer.status == 500
            (line,) = [line for line in stream.getvalue().splitlines() if given in line]
            assert line.endswith(f"unexpected error  slot=7  request_id={given}")
        await client.close()
