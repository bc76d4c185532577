"""Starting, stopping and dying: nothing acknowledged is lost, nobody else notices."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fs9.config.settings import Settings
from fs9.limits import Limits
from router.ring import Ring
from router.view import SlotState, View
from tests.fix_http import TEMPLATE
from tests.workers.fix_bus import until
from tests.workers.fix_node import start_node_of
from tests.workers.wire_client import Response, WireClient, request
from workers.lifecycle import Lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.vfs.namespace import Namespace
    from tests.fix_fleet import Fleet

#: So that what is left can be seen from outside.
ON_LOCALFS = """
mounts: [{path: /, provider: localfs, config: {root: "{data_dir}/namespaces/{namespace}/files"}}]
"""
HEAD = b"PUT /api/v1/upload?path=/%b HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n"


async def ask(fleet: Fleet, method: str, target: str, body: bytes = b"") -> Response:
    client = await WireClient.connect(fleet.port)
    headers = {"Content-Type": "application/json"} if method == "POST" else {}
    await client.send(request(method, target, headers=headers, body=body))
    answer = await asyncio.wait_for(client.response(), 60)
    await client.close()
    return answer


async def wait_until_gone(pid: int) -> None:
    for _ in range(1200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{pid} lives on")


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_requests_in_flight_finish(
    start_fleet: Callable[..., Fleet], sig: signal.Signals
) -> None:
    fleet = start_fleet(workers=2, yaml=ON_LOCALFS)
    client = await WireClient.connect(fleet.port)
    await client.send(HEAD % b"late" + b"half")
    idle = await WireClient.connect(fleet.port)
    await idle.send(request("GET", "/api/v1/stat?path=/"))  # so it is in the same worker
    assert (await idle.response()).status == 200
    fleet.process.send_signal(sig)
    assert await asyncio.wait_for(idle.at_end(), 20), "idle connections are closed"
    await client.send(b"full")
    answer = await client.response()
    assert answer.status == 200
    assert answer.headers["connection"] == "close"
    await client.close()
    await idle.close()
    assert await asyncio.to_thread(fleet.wait) == 0
    assert (fleet.data_dir / "namespaces/default/files/late").read_bytes() == b"halffull"
    assert fleet.log.read_text() == ""


async def test_after_the_signal_no_connection_is_accepted(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(workers=2)
    client = await WireClient.connect(fleet.port)
    await client.send(HEAD % b"late" + b"half")
    fleet.process.send_signal(signal.SIGTERM)
    for _ in range(200):
        try:
            other = await WireClient.connect(fleet.port)
        except ConnectionRefusedError:
            break
        await other.close()
        await asyncio.sleep(0.02)
    else:
        raise AssertionError("connections are still accepted")
    await client.send(b"full")
    assert (await client.response()).status == 200
    await client.close()


async def test_a_second_signal_ends_it_at_once_and_leaves_no_half_file(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(workers=2, yaml=ON_LOCALFS)
    await ask(fleet, "PUT", "/api/v1/upload?path=/old", b"old")
    client = await WireClient.connect(fleet.port)
    await client.send(HEAD % b"old" + b"half")
    fleet.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.5)
    assert fleet.process.poll() is None, "it waits for the request in flight"
    since = time.monotonic()
    fleet.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(fleet.process.wait, 60)
    assert time.monotonic() - since < 10, "far below the 30 s of a graceful end"
    await client.close()
    files = fleet.data_dir / "namespaces/default/files"
    assert {path.name: path.read_bytes() for path in files.iterdir()} == {"old": b"old"}


async def test_the_deadline_ends_a_request_that_does_not(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(workers=1, yaml=ON_LOCALFS + "server: {shutdown_timeout_secs: 3}\n")
    client = await WireClient.connect(fleet.port)
    await client.send(HEAD % b"never" + b"half")
    assert await asyncio.to_thread(fleet.stop) == 0
    assert list((fleet.data_dir / "namespaces/default/files").iterdir()) == []
    await client.close()


async def test_open_handles_are_closed_and_synced_at_the_end(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(workers=2, yaml=ON_LOCALFS)
    flags = {"read": True, "write": True, "create": True}
    body = json.dumps({"path": "/f", "flags": flags}).encode()
    opened = json.loads((await ask(fleet, "POST", "/api/v1/open", body)).body)
    target = f"/api/v1/write?handle_id={opened['handle_id']}&offset=0"
    assert (await ask(fleet, "POST", target, b"kept")).status == 200
    assert await asyncio.to_thread(fleet.stop) == 0
    assert (fleet.data_dir / "namespaces/default/files/f").read_bytes() == b"kept"


@pytest.mark.parametrize("broker_hangs", [False, True])
def test_no_process_is_left_behind(start_fleet: Callable[..., Fleet], broker_hangs: bool) -> None:
    """Nor a zombie: the arbiter, the last to leave, has seen to all of its children."""
    fleet = start_fleet(workers=2, yaml=ON_LOCALFS)
    arbiter = fleet.process.pid
    children = Path(f"/proc/{arbiter}/task/{arbiter}/children").read_text().split()
    assert len(children) == 3, "two workers and the broker"
    if broker_hangs:
        (broker,) = {int(pid) for pid in children} - {fleet.pid_of(0), fleet.pid_of(1)}
        os.kill(broker, signal.SIGSTOP)
    assert fleet.stop() == 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


async def test_a_worker_that_dies_is_replaced_and_the_others_notice_nothing(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(workers=3)
    slots = {}
    for number in range(30):
        name = f"t{number}"
        answer = await ask(fleet, "PUT", f"/{name}/api/v1/upload?path=/f", name.encode())
        slots.setdefault(answer.headers["x-fs9-slot"], name)
    assert len(slots) == 3
    kept = await WireClient.connect(fleet.port)
    other = f"/{slots['1']}/api/v1/download?path=/f"
    await kept.send(request("GET", other))
    assert (await kept.response()).status == 200
    killed = fleet.kill_worker(0)
    for _ in range(50):
        await kept.send(request("GET", other))
        assert (await kept.response()).body == slots["1"].encode()
    answer = await ask(fleet, "GET", f"/{slots['0']}/api/v1/download?path=/f")
    assert answer.body == slots["0"].encode(), "its namespaces answer again"
    async with asyncio.timeout(60):
        while fleet.pid_of(0) == killed:  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.05)
    await kept.close()


async def test_a_worker_dies_with_the_arbiter(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet(workers=2)
    pids = [fleet.pid_of(slot) for slot in range(2)]
    fleet.process.kill()
    fleet.process.wait()
    for pid in pids:
        await wait_until_gone(pid)


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_signals_that_are_not_for_a_fleet_change_nothing(
    start_fleet: Callable[..., Fleet],
) -> None:
    """gunicorn's own, and the end of the terminal, which every process hears of: what is in
    progress goes on, and who dies later is replaced as ever."""
    fleet = start_fleet(workers=2)
    before = children_of(fleet.process.pid)
    client = await WireClient.connect(fleet.port)
    await client.send(HEAD % b"late" + b"half")
    await ask(fleet, "GET", "/x/api/v1/stat?path=/")
    for sig in (signal.SIGTTIN, signal.SIGTTOU, signal.SIGTTOU, signal.SIGUSR2, signal.SIGWINCH):
        fleet.process.send_signal(sig)
    for pid in [fleet.process.pid, *before]:
        os.kill(pid, signal.SIGHUP)
    await asyncio.sleep(1.5)  # the arbiter looks after its children every second
    assert children_of(fleet.process.pid) == before
    await client.send(b"full")
    assert (await client.response()).status == 200
    await client.close()
    killed = [fleet.kill_worker(slot) for slot in range(2)]
    async with asyncio.timeout(60):
        while any(fleet.pid_of(slot) in killed for slot in range(2)):  # noqa: ASYNC110 - others do
            await asyncio.sleep(0.05)
    assert (await ask(fleet, "GET", "/api/v1/download?path=/late")).body == b"halffull"
    assert fleet.stop() == 0


async def test_data_and_namespaces_survive_a_restart(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet(workers=2)
    await ask(fleet, "POST", "/api/v1/namespaces", b'{"name":"acme"}')
    await ask(fleet, "PUT", "/acme/api/v1/upload?path=/f", b"kept")
    opened = await ask(fleet, "POST", "/acme/api/v1/open", b'{"path":"/f","flags":{"read":true}}')
    handle = json.loads(opened.body)["handle_id"]
    fleet.stop()
    again = type(fleet)(fleet.data_dir.parent, workers=1, environ={})
    try:
        assert (await ask(again, "GET", "/api/v1/namespaces/acme")).status == 200
        assert (await ask(again, "GET", "/acme/api/v1/download?path=/f")).body == b"kept"
        stale = json.dumps({"handle_id": handle, "offset": 0, "size": 9}).encode()
        answer = await ask(again, "POST", "/acme/api/v1/read", stale)
        assert (answer.status, json.loads(answer.body)["kind"]) == (400, "InvalidHandle")
    finally:
        again.stop()


def run_serve(*arguments: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    command = [sys.executable, "-m", "fs9.cli.main", "serve", *arguments]
    environ = {"PATH": os.environ["PATH"], **(environ or {})}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)
    return done.returncode, done.stderr


async def test_what_cannot_be_served_is_refused_with_an_explanation(
    start_fleet: Callable[..., Fleet], tmp_path: os.PathLike[str]
) -> None:
    fleet = start_fleet(workers=1)
    data = ["--data-dir", str(fleet.data_dir)]
    status, text = run_serve("--port", "0", *data)
    assert status == 1
    assert "another fleet" in text
    assert "--data-dir" in text
    other = ["--data-dir", os.path.join(tmp_path, "other")]
    status, text = run_serve("--port", str(fleet.port), *other)
    assert status == 1
    assert "cannot listen" in text
    status, text = run_serve("--host", "0.0.0.0", "--port", "0", *other)
    assert status == 1
    assert "--insecure" in text
    assert "Traceback" not in text


async def test_somebody_listens_at_every_front_also_of_a_slot_without_a_process(
    start_fleet: Callable[..., Fleet],
) -> None:
    """A killed worker's is another's until it is replaced; that of one scaled away stays so."""
    fleet = start_fleet(workers=3)
    fronts = [fleet.run_directory / f"slot-{slot}.front" for slot in range(3)]

    async def answers_at(slot: int) -> int:
        """The slot that does."""
        client = WireClient(*await asyncio.open_unix_connection(str(fronts[slot])))
        await client.send(request("GET", "/livez"))
        answer = await client.response()
        await client.close()
        assert answer.status == 200
        return int(answer.headers["x-fs9-slot"])

    assert [await answers_at(slot) for slot in range(3)] == [0, 1, 2]
    await wait_until_gone(fleet.kill_worker(0))
    is_lent = False
    async with asyncio.timeout(60):
        while True:
            try:
                if await answers_at(0) == 0:
                    break
                is_lent = True
            except ConnectionError:
                assert not is_lent, "only until the arbiter has seen that the worker is gone"
            await asyncio.sleep(0.01)
    for count, expected in ((1, [0, 0, 0]), (3, [0, 1, 2])):
        command = [sys.executable, "-m", "fs9.cli.main", "fleet", "scale", str(count)]
        command += ["--data-dir", str(fleet.data_dir)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert [await answers_at(slot) for slot in range(3)] == expected
    assert fleet.stop() == 0


async def test_a_namespace_that_a_newer_view_gave_back_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody ends its followers any more, however long a transfer takes that began before."""
    settings = Settings(data_dir=tmp_path / "d", mounts=TEMPLATE, limits=Limits(owner_wait_s=0.02))
    async with AsyncExitStack() as stack:
        node, port = await start_node_of(settings, None, stack)
        bus: Any = SimpleNamespace(gaps=0, view=None, lag_s=0.0)
        lifecycle = Lifecycle(node, bus, lambda: None)
        client = await WireClient.connect(port)
        await client.send(request("GET", "/api/v1/stat?path=/"))
        assert (await client.response()).status == 200
        await client.close()
        ended: list[str] = []
        monkeypatch.setattr(node.services.namespaces, "end_followers", ended.append)
        node.membership.begin("default")
        lifecycle._on_view(View(100, "e", {0: SlotState.DRAINING, 1: SlotState.READY}))
        await until(lambda: len(ended) > 2, 60)
        lifecycle._on_view(View(101, "e", {0: SlotState.READY, 1: SlotState.DRAINED}))
        await until(lambda: not lifecycle._giving_up, 60)
        assert node.services.namespaces.loaded("default") is not None
        node.membership.end("default")


async def test_a_namespace_that_is_loaded_after_a_view_has_moved_it_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view comes after the request was found to be ours, and before its first step."""
    name = next(name for name in ("a", "b", "c", "d") if Ring((0, 1)).owner(name) == 1)
    settings = Settings(data_dir=tmp_path / "d", mounts=TEMPLATE)
    async with AsyncExitStack() as stack:
        node, port = await start_node_of(settings, None, stack)
        bus: Any = SimpleNamespace(gaps=0, view=None, lag_s=0.0)
        lifecycle = Lifecycle(node, bus, lambda: None)
        namespaces = node.services.namespaces
        find = namespaces.find

        async def find_late(name: str, *, create: bool) -> Namespace:
            lifecycle._on_view(View(100, "e", {0: SlotState.READY, 1: SlotState.READY}))
            return await find(name, create=create)

        monkeypatch.setattr(namespaces, "find", find_late)
        client = await WireClient.connect(port)
        await client.send(request("PUT", f"/{name}/api/v1/upload?path=/f", body=b"x"))
        assert (await client.response()).status == 200
        await client.close()
        await until(lambda: not lifecycle._giving_up, 60)
        assert namespaces.names() == []
