"""A worker is killed behind the proxy: what can be repeated safely succeeds, nothing is done
twice, and the worker's namespaces come back to it directly."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

import pytest

from fs9.cli.main import main
from router.ring import Ring
from tests.deploy.calls import FrontClient, answered_by, ask
from tests.deploy.conftest import WORKERS, Proxy, slot_of
from tests.fix_fleet import Fleet
from tests.workers.wire_client import request

if TYPE_CHECKING:
    from collections.abc import Iterator

TENANTS = [f"t{number}" for number in range(40)]
VICTIM = 1
STOP = signal.SIGSTOP
#: How long what must become true may take on a busy machine.
_PATIENCE_S = 60


@pytest.fixture(scope="module", params=["nginx", "envoy"])
def own_proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """With a fleet of its own, without authentication."""
    directory = tmp_path_factory.mktemp("dying")
    fleet = Fleet(directory, workers=WORKERS, environ={})
    try:
        proxy = Proxy(request.param, fleet, directory / "proxy", auth=False)
        yield proxy
        proxy.stop()
    finally:
        fleet.stop()


async def test_gets_succeed_and_changes_happen_once_while_a_worker_is_killed(
    own_proxy: Proxy,
) -> None:
    """Readers ask all the time, of every namespace; one worker dies, twice."""
    fleet = own_proxy.fleet
    for tenant in TENANTS:
        put = await ask(own_proxy, "PUT", f"/{tenant}/api/v1/upload?path=/f", {}, b"x")
        assert put.status == 200
    ring = Ring(range(WORKERS))
    assert {ring.owner(tenant) for tenant in TENANTS} == set(range(WORKERS))
    stop = asyncio.Event()
    readers = [asyncio.create_task(read_on(own_proxy, number, stop)) for number in range(4)]
    for _ in range(2):
        await asyncio.sleep(0.5)
        old = fleet.kill_worker(VICTIM)
        await replaced(fleet, old)
        await asyncio.sleep(0.5)
    stop.set()
    counts = await asyncio.gather(*readers)
    assert sum(counts) > 100
    await arrives_directly(own_proxy, next(t for t in TENANTS if ring.owner(t) == VICTIM))


async def read_on(proxy: Proxy, number: int, stop: asyncio.Event) -> int:
    """Reads one namespace after another on one connection; how many."""
    client = await FrontClient.connect(proxy.port)
    count = 0
    while not stop.is_set():
        tenant = TENANTS[(number * 10 + count) % len(TENANTS)]
        for method in ("GET", "HEAD"):
            target = f"/{tenant}/api/v1/download?path=/f"
            await client.send(request(method, target))
            head = method == "HEAD"
            answer = await asyncio.wait_for(client.response(to_head=head), _PATIENCE_S)
            assert (answer.status, answer.body) == (200, b"" if head else b"x"), tenant
        count += 1
    await client.close()
    return count


async def replaced(fleet: Fleet, old: int) -> None:
    """Wait until another process holds the slot; it is still to begin to serve."""
    async with asyncio.timeout(_PATIENCE_S):
        while fleet.pid_of(VICTIM) == old:  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.02)


async def arrives_directly(proxy: Proxy, tenant: str) -> None:
    """The proxy tries the worker's own socket again, soon."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        proxy.forget()
        answer = await ask(proxy, "GET", f"/{tenant}/api/v1/stat?path=/f")
        sent_to = slot_of(proxy.logged(1)[0]["to"].rpartition(" ")[2])
        if sent_to == answer.headers["x-fs9-slot"] == str(VICTIM):
            return
        assert time.monotonic() < deadline_s, (sent_to, answer.headers["x-fs9-slot"])


async def owned_by_the_victim(fleet: Fleet, tenant: str) -> None:
    """Wait until every worker says so.

    A worker that was just started holds its slot before it owns anything; until then another one
    answers for its namespaces.
    """
    async with asyncio.timeout(_PATIENCE_S):
        for slot in range(WORKERS):
            while await answered_by(fleet, slot, f"/{tenant}/api/v1/stat?path=/") != VICTIM:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_a_change_that_was_sent_is_not_sent_again(own_proxy: Proxy) -> None:
    """The worker stands still with the request, and is killed: the client hears of it."""
    for method in ("PUT", "POST", "DELETE"):
        async with asyncio.timeout(_PATIENCE_S):
            while not await send_and_kill(own_proxy, method):
                pass


async def send_and_kill(own_proxy: Proxy, method: str) -> bool:
    """Was it the victim that the proxy sent the change to?

    A proxy that has seen it dead leaves it out for a second or two. Another worker then keeps the
    request for the one that replaces the victim, which may do it.
    """
    fleet = own_proxy.fleet
    ring = Ring(range(WORKERS))
    tenant = next(t for t in TENANTS if ring.owner(t) == VICTIM)
    put = await ask(own_proxy, "PUT", f"/{tenant}/api/v1/upload?path=/f", {}, b"old")
    assert put.status == 200
    await owned_by_the_victim(fleet, tenant)
    own_proxy.forget()
    pid = fleet.pid_of(VICTIM)
    fleet.kill_worker(VICTIM, sig=STOP)
    targets = {"PUT": "upload?path=/f", "DELETE": "remove?path=/f", "POST": "close"}
    client = await FrontClient.connect(own_proxy.port)
    headers = {"Content-Type": "application/json"} if method == "POST" else {}
    body = {"PUT": b"new", "POST": b'{"handle_id": "x"}', "DELETE": b""}[method]
    wire = request(method, f"/{tenant}/api/v1/{targets[method]}", headers=headers, body=body)
    await client.send(wire)
    await asyncio.sleep(0.5)
    fleet.kill_worker(VICTIM)
    answer = await asyncio.wait_for(client.response(), _PATIENCE_S)
    await client.close()
    await replaced(fleet, pid)
    sent_to = own_proxy.logged(1)[0]["to"]
    if f"slot-{VICTIM}." not in sent_to:
        return False
    assert (answer.status in {502, 503}, sent_to.count("slot-")) == (True, 1), (method, sent_to)
    kept = await ask(fleet, "GET", f"/{tenant}/api/v1/download?path=/f")
    assert (kept.status, kept.body) == (200, b"old"), method
    return True


class Uploader:
    """Uploads and removes small files of one namespace; nothing may fail."""

    def __init__(self, port: int, tenant: str) -> None:
        self.port, self.tenant, self.count = port, tenant, 0

    async def run(self, stop: asyncio.Event) -> None:
        client = await FrontClient.connect(self.port)
        while not stop.is_set():
            for method, target in (("PUT", "upload"), ("DELETE", "remove")):
                target = f"/{self.tenant}/api/v1/{target}?path=/small"
                await client.send(request(method, target, body=b"x" if method == "PUT" else b""))
                async with asyncio.timeout(_PATIENCE_S):
                    answer = await client.response()
                assert answer.status in {200, 204}, (self.tenant, method, answer.body)
            self.count += 1
        await client.close()


async def all_go_on(uploaders: list[Uploader], counts: list[int]) -> None:
    """Three rounds more than `counts`, each."""
    while any(each.count < old + 3 for each, old in zip(uploaders, counts, strict=True)):  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def test_changes_pass_while_workers_are_replaced_and_their_number_changes(
    own_proxy: Proxy,
) -> None:
    """Those too that the proxy never sends twice, and with files that are not current: for a
    slot that has no process another one listens."""
    fleet, stop = own_proxy.fleet, asyncio.Event()
    uploaders = [Uploader(own_proxy.port, tenant) for tenant in TENANTS[:8]]
    async with asyncio.TaskGroup() as group:
        for each in uploaders:
            group.create_task(each.run(stop))
        for arguments in (["reload"], ["scale", "2"], ["scale", str(WORKERS)]):
            command = ["fleet", *arguments, "--data-dir", str(fleet.data_dir)]
            assert await asyncio.to_thread(main, command) == 0, arguments
            counts = [each.count for each in uploaders]
            async with asyncio.timeout(_PATIENCE_S):
                await all_go_on(uploaders, counts)
        stop.set()
    ring = Ring(range(WORKERS))
    await arrives_directly(own_proxy, next(t for t in TENANTS if ring.owner(t) == VICTIM))
