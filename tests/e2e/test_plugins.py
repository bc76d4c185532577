"""Native plugins in a fleet: known to all workers, and dead with their worker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

from tests.fix_plugins import compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fix_fleet import Fleet


def plugin_processes(library: Path) -> dict[int, int]:
    """Those that have the library mapped: process -> its parent."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(library) in (entry / "maps").read_text():
                stat = (entry / "stat").read_text()
                found[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
    return found


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110 - other processes are what changes
            await asyncio.sleep(0.05)


async def test_plugins_in_a_fleet(start_fleet: Callable[..., Fleet], tmp_path: Path) -> None:
    """Loaded by one worker all know it; it crashes, and dies, without taking one with it."""
    directory = tmp_path / "plugins"
    directory.mkdir()
    library = directory / "libodd.so"
    library.write_bytes(compiled("odd").read_bytes())
    settings = {
        "server": {"plugins": {"directories": [str(directory)], "api": True}},
        "mounts": [
            {"path": "/", "provider": "memfs"},
            {"path": "/p", "provider": "odd"},
        ],
    }
    fleet = start_fleet(workers=2, yaml=json.dumps(settings))
    api = f"{fleet.url}/api/v1"

    def fresh(method: str, path: str, **more: object) -> httpx2.Response:
        """On a connection of its own, so that any worker may answer."""
        return httpx2.request(method, f"{api}/{path}", timeout=60, **more)

    loaded = fresh("POST", "plugin/load", json={"name": "more", "path": "libodd.so"})
    assert loaded.status_code == 200
    for _ in range(10):
        assert fresh("GET", "plugin/list").json() == ["more", "odd"]

    assert fresh("PUT", "upload?path=/p/f", content=b"kept").status_code == 200
    ((first, worker),) = plugin_processes(library).items()
    assert fresh("GET", "stat?path=/p/abort").status_code == 503
    assert fresh("GET", "stat?path=/").status_code == 200
    await until(lambda: fresh("GET", "stat?path=/p").status_code == 200)
    ((second, same),) = plugin_processes(library).items()
    assert (same, second != first) == (worker, True)

    os.kill(worker, signal.SIGKILL)
    await until(lambda: second not in plugin_processes(library))
    await until(lambda: fresh("GET", "stat?path=/p").status_code == 200)
    assert worker not in plugin_processes(library).values()

    fleet.process.send_signal(signal.SIGTERM)
    assert fleet.process.wait(60) == 0
    await until(lambda: not plugin_processes(library))


async def test_what_mounts_need_is_not_there_when_workers_are_forked(
    start_fleet: Callable[..., Fleet], tmp_path: Path
) -> None:
    """A library, or a thread, of the process that forks them would be in every worker."""
    library = tmp_path / "libodd.so"
    library.write_bytes(compiled("odd").read_bytes())
    settings = {
        "server": {"plugins": {"preload": [{"name": "odd", "path": str(library)}]}},
        "mounts": [{"path": "/", "provider": "odd", "config": {"isolation": "inline"}}],
    }
    fleet = start_fleet(workers=2, yaml=json.dumps(settings))
    answer = httpx2.get(f"{fleet.url}/api/v1/stat?path=/", timeout=60)
    assert answer.status_code == 200
    owner = fleet.pid_of(int(answer.headers["x-fs9-slot"]))
    assert set(plugin_processes(library)) == {owner}
