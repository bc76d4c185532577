"""`fs9 fleet reload` goes on with the code and the settings that are on disk now, or refuses to."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from tests.arch.tree import ROOT
from tests.e2e.test_fleet import Running, change, fs9_fleet, status, until
from tests.workers.wire_client import Response, WireClient, request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fix_fleet import Fleet


async def ask_slot(fleet: Fleet, slot: int, method: str, path: str, body: bytes = b"") -> Response:
    """A question that this slot answers itself: of a namespace of its own, or of none."""
    socket = fleet.run_directory / f"slot-{slot}.front"
    client = WireClient(*await asyncio.open_unix_connection(str(socket)))
    headers = {"Content-Type": "application/json"} if body else {}
    await client.send(request(method, path, headers=headers, body=body))
    answer = await asyncio.wait_for(client.response(), 20)
    await client.close()
    return answer


async def versions(fleet: Fleet, workers: int) -> set[str]:
    answers = [await ask_slot(fleet, slot, "GET", "/version") for slot in range(workers)]
    return {json.loads(answer.body)["version"] for answer in answers}


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A copy of the packages, to be changed."""
    for name in ("fs9", "router", "workers"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / "code" / name, ignore=ignored)
    return tmp_path / "code"


async def test_new_code_and_new_settings_are_in_every_worker_and_no_request_fails(
    start_fleet: Callable[..., Fleet], code: Path
) -> None:
    fleet = start_fleet(workers=2, code=code)
    before = {slot: info["pid"] for slot, info in (await status(fleet)).items()}
    arbiter = fleet.process.pid
    running = Running(fleet, forgiving=False)
    await running.grow(100)
    module = code / "fs9" / "__init__.py"
    module.write_text(module.read_text() + '\n__version__ = "9.9.9"\n')
    fleet.config.write_text(
        "server: {max_body_size_bytes: 700, workers: 7}\nlogging: {access: true}\n"
    )
    await change(fleet, "reload")
    await running.grow(100)
    assert (await running.end()).failures == []
    assert await versions(fleet, 2) == {"9.9.9"}
    after = {slot: info["pid"] for slot, info in (await status(fleet)).items()}
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    assert fleet.process.pid == arbiter
    assert fleet.process.poll() is None
    for tenant in ("t0", "t1", "t2", "t3"):
        answer = await ask_slot(fleet, 0, "POST", f"/{tenant}/api/v1/open", b"x" * 701)
        assert answer.status == 413
    # The next one to be started has them, too, and a dying worker is replaced.
    fleet.kill_worker(1, signal.SIGKILL)

    async def replaced() -> bool:
        now = await status(fleet)
        return now[1]["state"] == "ready" and now[1]["pid"] not in {after[1], None}

    await until(replaced)
    assert await versions(fleet, 2) == {"9.9.9"}
    assert "fs9.access" in fleet.log.read_text()
    assert fleet.stop() == 0


async def test_what_cannot_be_used_is_refused_with_the_reason_and_all_serve_on(
    start_fleet: Callable[..., Fleet], code: Path
) -> None:
    fleet = start_fleet(workers=2, code=code)
    before = {slot: info["pid"] for slot, info in (await status(fleet)).items()}

    async def refusal() -> str:
        done = await asyncio.to_thread(fs9_fleet, fleet, "reload")
        assert done.returncode == 1
        return done.stderr

    fleet.config.write_text("server: {prt: 1}\n")
    assert "unknown key server.prt" in await refusal()
    fleet.config.write_text("mounts: [{path: /, provider: localfs, config: {root: /no/such}}]\n")
    assert "/no/such" in await refusal()
    fleet.config.write_text("{}\n")
    module = code / "workers" / "node.py"
    module.write_text(module.read_text() + "\nthis is no Python\n")
    assert "SyntaxError" in await refusal()
    assert {slot: info["pid"] for slot, info in (await status(fleet)).items()} == before
    assert (await ask_slot(fleet, 0, "GET", "/readyz")).status == 200
    assert fleet.stop() == 0


async def test_a_drained_slot_stays_drained_and_what_waits_for_the_next_start_is_said(
    start_fleet: Callable[..., Fleet],
) -> None:
    """Over the broker's death, too: the command goes on waiting."""
    fleet = start_fleet(workers=3, yaml="server: {bus: {keys_dir: /tmp/a}}\n")
    await change(fleet, "drain", "1")
    before = {slot: info["pid"] for slot, info in (await status(fleet)).items()}
    fleet.config.write_text("server: {bus: {keys_dir: /tmp/b}}\n")
    reload = asyncio.create_task(asyncio.to_thread(fs9_fleet, fleet, "reload"))

    async def begun() -> bool:
        return (await status(fleet))[0]["pid"] != before[0]

    await until(begun)
    fleet.kill_broker()
    done = await reload
    assert (done.returncode, "server.bus.keys_dir" in done.stderr) == (0, True), done.stderr
    after = await status(fleet)
    assert [after[slot]["state"] for slot in range(3)] == ["ready", "drained", "ready"]
    assert not {info["pid"] for info in after.values()} & set(before.values())
    assert fleet.stop() == 0
