"""One line a request on `fs9.access`, if wanted, whatever lane or refusal answered it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from fs9.auth.tokens import sign
from fs9.config.settings import Settings
from tests.fix_fleet import SECRET
from tests.fix_http import TEMPLATE, token
from tests.workers.fix_node import start_node_of
from tests.workers.test_request_ids import REQUESTS, ask, still_open
from tests.workers.test_revoking import until
from tests.workers.wire_client import WireClient, request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.fix_fleet import Fleet


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.name == "fs9.access"]


def settings_of(tmp_path: Path, **more: Any) -> Settings:
    data_dir = tmp_path / "d"
    return Settings(data_dir=data_dir, mounts=TEMPLATE, namespace_template=TEMPLATE, **more)


async def test_each_request_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fs9.access")
    async with AsyncExitStack() as stack:
        _, port = await start_node_of(settings_of(tmp_path, log_access=True), None, stack)
        client = await WireClient.connect(port)
        bodies = {}
        for number, (method, target, body, _) in enumerate(REQUESTS):
            answer = await ask(client, method, target, body, f"id-{number}")
            bodies[f"id-{number}"] = len(answer.body)
            client = await still_open(client, port, answer)
        await client.send(b"nonsense\r\n\r\n")
        await client.response()
        await client.close()
    lines = told(caplog)
    shown = [(line["method"], line["status"]) for line in lines]
    assert shown == [(method, status) for method, _, _, status in REQUESTS] + [("-", 400)]
    for line, (_, target, body, _) in zip(lines, REQUESTS, strict=False):
        assert line["path"] == target.partition("?")[0]
        assert line["sent_bytes"] == bodies[line["request_id"]]
        assert line["received_bytes"] == len(body)
        assert 0 <= line["duration_ms"] < 5000
    assert lines[0]["route"] == "/api/v1/stat"
    assert lines[0]["query"] == "path=/"
    assert lines[0]["namespace"] == "default"
    assert lines[0]["user"] == "anonymous"
    assert lines[2]["namespace"] == "fresh"
    assert lines[8]["route"] == "other"


async def test_it_is_off_by_default(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with AsyncExitStack() as stack:
        _, port = await start_node_of(settings_of(tmp_path), None, stack)
        client = await WireClient.connect(port)
        assert (await ask(client, "GET", "/api/v1/stat?path=/", b"")).status == 200
        await client.close()
    assert told(caplog) == []


async def test_a_client_that_leaves_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fs9.access")
    async with AsyncExitStack() as stack:
        _, port = await start_node_of(settings_of(tmp_path, log_access=True), None, stack)
        client = await WireClient.connect(port)
        await client.send(
            request("PUT", "/api/v1/upload?path=/f", headers={"Content-Length": "99"}) + b"half"
        )
        await asyncio.sleep(0.05)
        client.writer.transport.abort()
        for _ in range(500):
            if told(caplog):
                break
            await asyncio.sleep(0.01)
        (line,) = told(caplog)
        assert line["status"] in {400, 499}
        assert line["received_bytes"] == 4


async def test_the_lines_of_a_fleet_are_json_and_hold_no_secret(
    start_fleet: Callable[..., Fleet],
) -> None:
    """Slot, user and namespace are there; a forwarded request is told by its owner alone."""
    yaml = "logging: {access: true, format: json}\n"
    fleet = start_fleet(workers=2, yaml=yaml, environ={"FS9_JWT_SECRET": SECRET})
    client = await WireClient.connect(fleet.port)
    tokens = {}
    for name in ("default", "other", "third"):
        now = int(time.time())
        claims = {"sub": f"u-{name}", "ns": name, "roles": ["admin"], "iat": now, "exp": now + 60}
        tokens[name] = sign(claims, SECRET)
    wrong = token("default")
    count = 0
    for number in range(40):
        for name, bearer in tokens.items():
            headers = {"Authorization": f"Bearer {bearer}", "X-Request-ID": f"{name}-{number}"}
            target = f"/api/v1/stat?path=/%1b[2J&token={wrong}"
            await client.send(request("GET", target, headers=headers))
            await client.response()
            count += 1
    await client.send(request("GET", "/api/v1/stat", headers={"Authorization": f"Bearer {wrong}"}))
    assert (await client.response()).status == 401
    await client.close()
    # A line is written after its answer: the worker must not die before it.
    await until(lambda: fleet.log.read_text().count("fs9.access") > count)
    fleet.kill_worker(0)  # the arbiter tells of it
    await until(lambda: "SIGKILL" in fleet.log.read_text())
    assert fleet.stop() == 0
    text = fleet.log.read_text()
    assert all(line.startswith("{") for line in text.splitlines())
    assert not any(secret in text for secret in (*tokens.values(), wrong, SECRET))
    assert "\x1b" not in text
    lines = [json.loads(line) for line in text.splitlines() if "fs9.access" in line]
    assert len(lines) == count + 1
    assert len({line["request_id"] for line in lines}) == count + 1
    assert {line["slot"] for line in lines} == {0, 1}
    assert {(line["namespace"], line.get("user")) for line in lines} == {
        *((name, f"u-{name}") for name in tokens),
        ("default", None),
    }
    assert all("token=***" in line["query"] for line in lines[:count])
