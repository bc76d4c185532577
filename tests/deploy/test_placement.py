"""Every token of one namespace reaches one worker, its owner, without a hand-off; and what a
client says of the way changes nothing."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

from router.ring import Ring
from tests.deploy.calls import FrontClient, ask, bearer, make_namespaces
from tests.deploy.conftest import WORKERS, Proxy, slot_of
from tests.workers.wire_client import request

if TYPE_CHECKING:
    from tests.fix_fleet import Fleet

NAMES = [f"tenant-{number}" for number in range(200)]
SPOOFED = {
    "X-FS9-Cluster": "fs9_0",
    "X-FS9-Slot": "0",
    "X-FS9-Place": "0",
    "X-Namespace": "tenant-0",
    "X-Tenant": "tenant-0",
    "X-NS": "tenant-0",
    "X-Forwarded-For": "10.9.8.7",
    "X-Forwarded-Host": "elsewhere",
    "X-Forwarded-Prefix": "/tenant-0",
    "X-Real-IP": "10.9.8.7",
    "X-Envoy-Original-Path": "/tenant-0/api/v1/stat?path=/",
    "X-Envoy-Upstream-Alt-Stat-Name": "fs9_0",
    "X-Accel-Redirect": "/tenant-0/api/v1/stat?path=/",
    "X-Original-URL": "/tenant-0/api/v1/stat?path=/",
    "Forwarded": "for=10.9.8.7;host=elsewhere",
}


async def collect(proxy: Proxy, wires: list[tuple[str, bytes]]) -> dict[str, set[str]]:
    """Send all, over four connections; the slots that answered for each name."""
    slots: dict[str, set[str]] = {}
    clients = [await FrontClient.connect(proxy.port) for _ in range(4)]
    for number, (name, wire) in enumerate(wires):
        client = clients[number % len(clients)]
        await client.send(wire)
        answer = await client.response()
        assert answer.status == 200, answer.body
        slots.setdefault(name, set()).add(answer.headers["x-fs9-slot"])
    for client in clients:
        await client.close()
    return slots


def check_arrivals(proxy: Proxy, requests: int) -> None:
    """The worker to which the proxy has sent a request is the one that answered it."""
    logged = proxy.logged(requests)
    assert len(logged) == requests
    moved = [line[0] for line in logged if slot_of(line["to"]) != line["slot"]]
    assert not moved


async def test_every_token_of_a_namespace_reaches_its_owner_directly(
    proxy: Proxy, fleet: Fleet
) -> None:
    """Two hundred namespaces, three tokens each, in random order."""
    await make_namespaces(fleet, NAMES)
    proxy.forget()
    wires = [
        (name, request("GET", "/api/v1/stat?path=/", headers=bearer(name)))
        for name in NAMES
        for _ in range(3)
    ]
    random.Random(7).shuffle(wires)
    slots = await collect(proxy, wires)
    ring = Ring(range(WORKERS))
    assert slots == {name: {str(ring.owner(name))} for name in NAMES}
    assert len({next(iter(found)) for found in slots.values()}) == WORKERS
    check_arrivals(proxy, len(wires))


async def test_a_token_that_was_refreshed_through_the_proxy_stays_there(
    proxy: Proxy, fleet: Fleet
) -> None:
    """The refresh itself, and what comes with the new token, are answered by the owner directly."""
    await make_namespaces(fleet, NAMES[:6])
    ring = Ring(range(WORKERS))
    proxy.forget()
    for name in NAMES[:6]:
        token = bearer(name)
        for _ in range(2):
            answer = await ask(proxy, "POST", "/api/v1/auth/refresh", token)
            assert answer.status == 200, answer.body
            assert answer.headers["x-fs9-slot"] == str(ring.owner(name))
            token = {"Authorization": f"Bearer {json.loads(answer.body)['token']}"}
            answer = await ask(proxy, "GET", "/api/v1/stat?path=/", token)
            assert (answer.status, answer.headers["x-fs9-slot"]) == (200, str(ring.owner(name)))
    check_arrivals(proxy, 24)


async def test_the_tenant_prefix_decides_without_authentication(open_proxy: Proxy) -> None:
    """Also for the namespace that no prefix names."""
    open_proxy.forget()
    paths = {name: f"/{name}/api/v1/stat?path=/" for name in NAMES}
    paths["default"] = "/api/v1/stat?path=/"
    wires = [(name, request("GET", path)) for name, path in paths.items() for _ in range(3)]
    random.Random(7).shuffle(wires)
    slots = await collect(open_proxy, wires)
    ring = Ring(range(WORKERS))
    assert slots == {name: {str(ring.owner(name))} for name in paths}
    check_arrivals(open_proxy, len(wires))


async def test_what_a_client_says_of_the_way_changes_nothing(proxy: Proxy, fleet: Fleet) -> None:
    """Neither the worker that answers nor the answer."""
    await make_namespaces(fleet, NAMES[:8])
    ring = Ring(range(WORKERS))
    for name in NAMES[:8]:
        marked = bearer(name)
        await ask(fleet, "PUT", "/api/v1/upload?path=/me", marked, name.encode())
        proxy.forget()
        answer = await ask(proxy, "GET", "/api/v1/download?path=/me", marked | SPOOFED)
        assert (answer.status, answer.body) == (200, name.encode())
        assert answer.headers["x-fs9-slot"] == str(ring.owner(name))
        check_arrivals(proxy, 1)


async def test_a_token_that_does_not_hold_is_refused_by_the_worker(
    proxy: Proxy, fleet: Fleet
) -> None:
    """Whatever it names, and whether or not it can be read."""
    token = bearer("tenant-0")["Authorization"]
    for value in (
        token[:-4] + "AAAA",
        "Bearer a.b.c",
        "Bearer a.eyJucyI6WyJhIl19.c",
        "Bearer " + "." * 2,
        "Bearer a.%%%.c",
        "Basic YTpi",
        "Bearer a." + "eyJucyI6" * 500 + ".c",
    ):
        answer = await ask(proxy, "GET", "/api/v1/stat?path=/", {"Authorization": value})
        assert answer.status == 401, value
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/api/v1/stat?path=/", "/health", "/nothing", "//api/v1/stat", "/a//api/v1/b"):
        through, direct = await ask(proxy, "GET", path), await ask(fleet, "GET", path)
        assert through.status == direct.status, path
