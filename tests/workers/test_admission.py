"""Connections are counted in all and by address; those too many are told so and closed."""

from __future__ import annotations

import resource
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from fs9.config.settings import Settings
from fs9.limits import Limits
from fs9.services import Services
from tests.fix_http import TEMPLATE
from tests.workers.fix_node import start_node_of
from tests.workers.wire_client import WireClient, request
from workers.admission import Admission, files_max, raise_files_max

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from workers.node import Node

HEALTH = request("GET", "/health")


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


def settings(tmp_path: Path, trusted: tuple[str, ...] = (), **limits: int) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        mounts=TEMPLATE,
        trusted_proxies=trusted,
        limits=Limits(**limits),
    )


async def admission(stack: AsyncExitStack, made: Settings) -> Admission:
    services = await Services.open(made)
    stack.push_async_callback(services.aclose)
    return Admission(services)


async def test_an_address_has_its_bound_and_all_have_one_together(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    made = settings(tmp_path, ("10.0.0.0/8",), connections_max=8, connections_per_address_max=2)
    counted = await admission(stack, made)
    assert [counted.enter("192.0.2.1") is None for _ in range(3)] == [True, True, False]
    counted.leave("192.0.2.1")
    assert counted.enter("10.0.0.1") is None
    assert counted.enter("10.0.0.1") is None
    assert counted.enter("10.0.0.1") is None, "a proxy of ours is many clients"
    assert counted.enter("unix") is None
    assert counted.enter("") is None
    assert counted.enter("2001:db8::1") is None
    refusal = counted.enter("198.51.100.1")
    assert refusal is not None
    assert refusal.kind == "Overloaded"
    assert counted.may_bid_farewell
    for peer in ("192.0.2.1", "192.0.2.1", "2001:db8::1", "198.51.100.1"):
        counted.leave(peer)
    assert counted.enter("2001:db8::1") is None
    assert counted.enter("2001:db8::2") is None
    third = counted.enter("2001:db8::3")
    assert third is not None
    assert third.kind == "TooManyRequests", "one customer's network is one address"


async def test_far_too_many_are_closed_without_a_word(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    counted = await admission(stack, settings(tmp_path, connections_max=1))
    for _ in range(500):
        counted.enter("192.0.2.1")
    assert not counted.may_bid_farewell


async def connect(node: tuple[Node, int]) -> WireClient:
    return await WireClient.connect(node[1])


async def test_a_connection_too_many_is_answered_and_closed_and_room_is_room_again(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    node = await start_node_of(settings(tmp_path, connections_per_address_max=2), None, stack)
    first, second = await connect(node), await connect(node)
    for client in (first, second):
        await client.send(HEALTH)
        assert (await client.response()).status == 200
    third = await connect(node)
    await third.send(HEALTH)  # it does not know yet; what it sends must not destroy the answer
    answer = await third.response()
    assert (answer.status, answer.headers["connection"]) == (429, "close")
    assert b"Too many connections from this address" in answer.body
    assert int(answer.headers["retry-after"]) >= 1
    assert await third.at_end()
    await third.close()
    await first.close()
    for _ in range(100):
        fourth = await connect(node)
        await fourth.send(HEALTH)
        status = (await fourth.response()).status
        await fourth.close()
        if status == 200:
            break
    assert status == 200
    await second.close()


async def test_a_worker_with_too_many_answers_503(stack: AsyncExitStack, tmp_path: Path) -> None:
    node = await start_node_of(settings(tmp_path, connections_max=1), None, stack)
    first, second = await connect(node), await connect(node)
    assert (await second.response()).status == 503
    await first.send(HEALTH)
    assert (await first.response()).status == 200
    await first.close()
    await second.close()


def test_a_process_may_open_as_many_files_as_the_system_allows() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        assert files_max() == 512
        raise_files_max()
        assert files_max() == min(before[1], 2**20)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
