"""/metrics of any worker tells what the whole fleet has done, with bounded labels."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from fs9.auth.tokens import sign
from tests.fix_fleet import SECRET
from tests.workers.wire_client import WireClient, chunked_request, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fix_fleet import Fleet

Samples = dict[str, float]


async def scrape(fleet: Fleet, slot: int, headers: dict[str, str] | None = None) -> Samples:
    """The samples as one slot tells them: all that it counted itself, for it flushes that now."""
    path = fleet.run_directory / f"slot-{slot}.front"
    client = WireClient(*await asyncio.open_unix_connection(str(path)))
    await client.send(request("GET", "/metrics", headers=headers))
    answer = await client.response()
    await client.close()
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum over all series of `name` that have these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        value
        for series, value in samples.items()
        if re.match(rf"{name}(\{{|$)", series) and all(item in series for item in wanted)
    )


async def scrape_until(
    fleet: Fleet, slot: int, reached: Callable[[Samples], bool], within_s: float = 60
) -> Samples:
    """Other workers flush once a second."""
    deadline = time.monotonic() + within_s
    while True:
        samples = await scrape(fleet, slot)
        if reached(samples) or time.monotonic() > deadline:
            return samples
        await asyncio.sleep(0.1)


async def test_every_worker_tells_the_counts_of_all_and_none_is_lost_with_a_worker(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(workers=3)
    client = await WireClient.connect(fleet.port)
    for _ in range(20):
        for number in range(10):
            await client.send(request("GET", f"/t{number}/api/v1/stat?path=/"))
            assert (await client.response()).status == 200
    for target, status in [("/t1/api/v1/stat?path=/x", 404), ("/no/such/route", 404)]:
        await client.send(request("GET", target))
        assert (await client.response()).status == status
    body = b'{"path":"/f","flags":{"create":true,"write":true}}'
    json_type = {"Content-Type": "application/json"}
    await client.send(request("POST", "/t1/api/v1/open", headers=json_type, body=body))
    assert (await client.response()).status == 200
    name = "fs9_http_requests_total"

    def complete(samples: Samples) -> bool:
        return total(samples, name, path="/api/v1/stat", status="200") == 200

    for slot in range(3):
        samples = await scrape_until(fleet, slot, complete)
        assert total(samples, name, path="/api/v1/stat", status="200") == 200
        assert total(samples, name, namespace="t3", method="GET") == 20
        assert total(samples, name, path="/api/v1/stat", status="404", namespace="t1") == 1
        assert total(samples, name, path="other", status="404") == 1
        stat = {"path": "/api/v1/stat", "status": "200"}
        assert total(samples, "fs9_http_request_duration_seconds_count", **stat) == 200
        assert total(samples, "fs9_active_handles") == 1
        assert total(samples, "fs9_connections") >= 1
    assert total(samples, "fs9_handoffs_total") > 0
    assert total(samples, "fs9_forwards_total") > 0
    assert not any("/no/such" in series or "/t1/" in series for series in samples)
    await client.close()
    fleet.kill_worker(0)
    samples = await scrape_until(fleet, 1, lambda samples: not complete(samples), within_s=2)
    assert complete(samples), "a dead worker's counts stay, and are not counted twice"


async def test_bytes_threads_loads_and_workers_are_told(
    start_fleet: Callable[..., Fleet],
) -> None:
    """Body bytes on all lanes, framing left out; what each worker says is merged as it must be."""
    fleet = start_fleet(workers=2)
    client = await WireClient.connect(fleet.port)
    received = sent = 0
    chunks = [b"x" * 70_000, b"y" * 5]
    for data, in_bytes in (
        (request("PUT", "/api/v1/upload?path=/f", body=b"z" * 300_000), 300_000),
        (chunked_request("PUT", "/api/v1/upload?path=/g", chunks), 70_005),
        (request("GET", "/api/v1/download?path=/f"), 0),
        (request("GET", "/api/v1/stat?path=/f"), 0),
        (request("GET", "/api/v1/mounts"), 0),
        (request("DELETE", "/api/v1/remove?path=/g"), 0),
        (request("GET", "/no/such/route"), 0),
    ):
        await client.send(data)
        sent += len((await client.response()).body)
        received += in_bytes
    await client.close()

    await scrape(fleet, 1)
    samples = await scrape(fleet, 0)
    assert total(samples, "fs9_http_request_bytes_total") == received
    assert total(samples, "fs9_http_response_bytes_total") >= sent
    assert total(samples, "fs9_http_response_bytes_total") < sent + 100_000, "earlier scrapes"
    assert total(samples, "fs9_workers") == 2
    assert total(samples, "fs9_workers_wanted") == 2
    assert total(samples, "fs9_blocking_calls_waiting") == 0
    assert total(samples, "fs9_blocking_calls") >= 0
    assert total(samples, "fs9_namespace_load_seconds_count", outcome="ok") >= 1


async def test_a_fleet_that_was_scaled_down_misses_no_worker(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(workers=3)
    await asyncio.to_thread(change, fleet, "scale", "2")

    def told(samples: Samples) -> tuple[float, float]:
        return total(samples, "fs9_workers"), total(samples, "fs9_workers_wanted")

    samples = await scrape_until(fleet, 0, lambda found: told(found) == (2, 2))
    assert told(samples) == (2, 2)


async def test_a_drain_and_what_moves_with_it_is_told(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet(workers=2)
    client = await WireClient.connect(fleet.port)
    json_type = {"Content-Type": "application/json"}
    body = b'{"path":"/f","flags":{"create":true,"write":true}}'
    await client.send(request("POST", "/api/v1/open", headers=json_type, body=body))
    opened = await client.response()
    owner = opened.headers["x-fs9-slot"]
    other = 1 - int(owner)
    samples = await scrape_until(
        fleet, other, lambda found: total(found, "fs9_ring_share") > 0.99 and owner in str(found)
    )
    for slot in "01":
        assert 0.3 < total(samples, "fs9_ring_share", slot=slot) < 0.7
    assert total(samples, "fs9_bus_lag_seconds") < 5
    assert total(samples, "fs9_drain_seconds_count") == 0
    for _ in range(2):  # a slot that is drained already is not drained once more
        await asyncio.to_thread(change, fleet, "drain", owner)
    handle = json.loads(opened.body)["handle_id"]
    target = f"/api/v1/write?handle_id={handle}&offset=0"
    await client.send(request("POST", target, body=b"x"))
    answer = await client.response()
    assert (answer.status, answer.headers["x-fs9-slot"]) == (200, str(other))
    samples = await scrape_until(
        fleet, other, lambda found: total(found, "fs9_drain_seconds_count") > 0
    )
    assert total(samples, "fs9_drain_seconds_count") == 1
    assert total(samples, "fs9_handles_revived_total") == 1
    assert total(samples, "fs9_namespace_lock_wait_seconds_count") >= 2
    assert total(samples, "fs9_ring_share", slot=str(other)) == 1
    assert total(samples, "fs9_ring_share", slot=owner) == 0
    fleet.kill_broker()
    samples = await scrape_until(fleet, other, lambda found: total(found, "fs9_bus_gaps_total") > 0)
    assert total(samples, "fs9_bus_gaps_total") > 0
    await client.close()


def change(fleet: Fleet, *arguments: str) -> None:
    command = [sys.executable, "-m", "fs9.cli.main", "fleet", *arguments]
    subprocess.run([*command, "--data-dir", str(fleet.data_dir)], check=True, timeout=60)


async def test_with_authentication_the_metrics_are_for_administrators(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(workers=1, environ={"FS9_JWT_SECRET": SECRET})
    client = await WireClient.connect(fleet.port)
    now = int(time.time())
    for namespace, roles, status in (
        ("default", [], 403),
        ("default", ["read-only"], 403),
        ("default", ["operator"], 200),
        ("admin", ["admin"], 200),
        ("acme", ["admin"], 403),  # W-A12
    ):
        claims = {"sub": "u", "ns": namespace, "roles": roles, "iat": now, "exp": now + 60}
        headers = {"Authorization": f"Bearer {sign(claims, SECRET)}"}
        await client.send(request("GET", "/metrics", headers=headers))
        assert (await client.response()).status == status, roles
    await client.send(request("GET", "/metrics"))
    assert (await client.response()).status == 401
    await client.close()


async def test_metrics_can_be_switched_off(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet(workers=1, yaml="server: {metrics: {enabled: false}}\n")
    client = await WireClient.connect(fleet.port)
    await client.send(request("GET", "/metrics"))
    assert (await client.response()).status == 404
    await client.close()
