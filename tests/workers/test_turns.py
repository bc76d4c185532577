"""Connections take turns: one that sends many requests at once makes no other wait for all."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, cast

import pytest

from fs9.config.settings import Settings
from fs9.errors import TooManyRequests
from fs9.resilience.limiter import Refused
from tests.fix_http import TEMPLATE
from tests.workers.fix_bus import until
from tests.workers.fix_node import start_node_of, start_server
from tests.workers.wire_client import WireClient, request
from workers.connection import INPUT_BYTES_MAX, TURN_REQUESTS
from workers.intake import DRAIN_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fix_http import StartServer
    from workers.connection import Connection
    from workers.node import Node

__all__ = ["start_server"]

MANY = 400


async def test_a_request_is_answered_amid_the_many_of_another(start_server: StartServer) -> None:
    """Few of the many are done before it; in the end all of them are, in order."""
    port = int((await start_server()).base_url.rpartition(":")[2])
    many, one = await WireClient.connect(port), await WireClient.connect(port)
    flags = {"flags": {"write": True, "create": True}, "path": "/f"}
    json_type = {"Content-Type": "application/json"}
    body = json.dumps(flags).encode()
    await many.send(request("POST", "/api/v1/open", headers=json_type, body=body))
    handle = json.loads((await many.response()).body)["handle_id"]
    stat = request("GET", "/api/v1/stat?path=/f")
    await one.send(stat)
    assert (await one.response()).status == 200

    targets = [f"/api/v1/write?handle_id={handle}&offset={number}" for number in range(MANY)]
    burst = b"".join(request("POST", target, body=b"x") for target in targets)
    await asyncio.gather(many.send(burst), one.send(stat))
    assert json.loads((await one.response()).body)["size"] < MANY / 2
    for _ in range(MANY):
        assert (await many.response()).status == 200
    await one.send(stat)
    assert json.loads((await one.response()).body)["size"] == MANY
    await many.close()
    await one.close()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Node, WireClient]]:
    """A node, and one connection to it."""
    settings = Settings(data_dir=tmp_path / "d", mounts=TEMPLATE, namespace_template=TEMPLATE)
    async with AsyncExitStack() as stack:
        node, port = await start_node_of(settings, None, stack)
        client = await WireClient.connect(port)
        stack.push_async_callback(client.close)
        await client.send(STAT)
        assert (await client.response()).status == 200
        yield node, client


STAT = request("GET", "/api/v1/stat?path=/")


def connection_of(node: Node) -> Connection:
    (found,) = [cast("Connection", each) for each in node._connections]
    return found


def refuse(node: Node, monkeypatch: pytest.MonkeyPatch, hold_s: float) -> None:
    """Refuse whatever is asked from now on, so late."""
    limiter = node.context.limiting.requests
    limiter.on = True
    refused = Refused("too much", "user", 1.0, hold_s)
    monkeypatch.setattr(limiter, "refusal", lambda *_: refused)


async def hold_a_refusal(
    node: Node, client: WireClient, monkeypatch: pytest.MonkeyPatch
) -> Connection:
    """A connection whose request is refused, but not yet answered."""
    refuse(node, monkeypatch, hold_s=0.2)
    await client.send(STAT)
    connection = connection_of(node)
    await until(lambda: connection.exchange is not None)
    return connection


@pytest.mark.parametrize("refused", [False, True])
async def test_no_turn_of_the_loop_goes_to_many_requests_of_one_connection(
    served: tuple[Node, WireClient], monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """One that was refused has one in a turn."""
    node, client = served
    if refused:
        refuse(node, monkeypatch, hold_s=0)
        await client.send(STAT)
        assert (await client.response()).status == TooManyRequests.status
    begun, in_turns, begin = 0, [0], node.account.begin

    def counted(each: object) -> None:
        nonlocal begun
        begun += 1
        begin(each)  # type: ignore[arg-type]

    def turn() -> None:
        in_turns.append(begun)
        if begun < MANY:
            loop.call_soon(turn)

    monkeypatch.setattr(node.account, "begin", counted)
    loop = asyncio.get_running_loop()
    loop.call_soon(turn)
    await client.send(STAT * MANY)
    for _ in range(MANY):
        await client.response()
    most = max(after - before for before, after in itertools.pairwise(in_turns))
    assert most == 1 if refused else 1 < most <= 2 * TURN_REQUESTS


async def test_what_comes_while_a_refusal_is_held_is_not_read(
    served: tuple[Node, WireClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even little; then it is answered."""
    node, client = served
    connection = await hold_a_refusal(node, client, monkeypatch)
    await client.send(STAT)
    await until(lambda: connection.flow.read_paused)
    assert [(await client.response()).status for _ in range(2)] == [TooManyRequests.status] * 2
    await until(lambda: not connection.flow.read_paused)


async def test_what_is_held_keeps_no_namespace_from_moving_and_no_worker_from_leaving(
    served: tuple[Node, WireClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, client = served
    refuse(node, monkeypatch, hold_s=1000)
    await client.send(STAT)
    limiting = node.context.limiting
    await until(lambda: limiting.held)
    node.forget_leavers()  # a new view
    assert (await client.response()).status == TooManyRequests.status
    limiting.release(leaving=True)
    await client.send(STAT)
    assert (await client.response()).status == TooManyRequests.status


async def test_a_body_behind_a_request_that_took_its_time_is_read(
    served: tuple[Node, WireClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is small enough to be collected, and more than what is kept of requests ahead."""
    node, client = served
    connection = await hold_a_refusal(node, client, monkeypatch)
    monkeypatch.undo()
    node.context.limiting.requests.on = False
    body = b" " * 3 * INPUT_BYTES_MAX + b"{}"
    wire = request("POST", "/api/v1/open", headers={"Content-Type": "application/json"}, body=body)
    await client.send(wire[:-INPUT_BYTES_MAX])
    await until(lambda: connection.flow.read_paused)
    await client.send(wire[-INPUT_BYTES_MAX:])
    assert (await client.response()).status == TooManyRequests.status
    async with asyncio.timeout(60):
        assert (await client.response()).status == 422


async def test_of_a_large_refused_body_little_is_read(
    served: tuple[Node, WireClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, client = served
    refuse(node, monkeypatch, hold_s=0)
    connection = connection_of(node)
    head = request("PUT", "/api/v1/upload?path=/f", headers={"Content-Length": "100000000"})
    await client.send(head)
    answer = await client.response()
    assert (answer.status, answer.headers["connection"]) == (TooManyRequests.status, "close")
    sending = asyncio.create_task(client.send(b"x" * 100 * DRAIN_BYTES_MAX))
    await until(lambda: connection.flow.read_paused)
    sending.cancel()
    connection.transport.abort()
