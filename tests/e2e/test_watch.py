"""Watchers while the namespace changes its owner: each change once, in order, none missed."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING

import httpx2

from fs9.client import AsyncClient, Client
from tests.e2e.test_fleet import change

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.wire.messages import WatchEvent
    from tests.fix_fleet import Fleet

WATCHERS = 3
OVER = "/w/over"


def watch_in_thread(url: str, begun: threading.Event, seen: list[WatchEvent]) -> None:
    with Client(url, namespace="acme") as client:
        for event in client.watch("/w"):
            begun.set()
            seen.append(event)
            if event.path == OVER:
                return


async def watch(url: str, begun: asyncio.Event, seen: list[WatchEvent]) -> None:
    async with (
        AsyncClient(url, namespace="acme") as client,
        aclosing(client.watch("/w")) as events,  # type: ignore[type-var]
    ):
        async for event in events:
            begun.set()
            seen.append(event)
            if event.path == OVER:
                return


def assert_each_once(events: list[WatchEvent], answered: set[str], doubtful: set[str]) -> None:
    """The uploads that were answered are told, with numbers that have no gap.

    `doubtful`: what an answer did not come of may be there twice, for it was sent twice.
    """
    assert events[0].type == "cursor"
    places = [each.cursor.split("-") for each in events]
    assert len({epoch for epoch, _ in places}) == 1
    sequence = [int(number) for _, number in places]
    assert sequence == list(range(sequence[0], sequence[0] + len(sequence)))
    told = [each.path for each in events if each.type == "upload"]
    assert answered - doubtful <= set(told)
    again = {path for path in told if told.count(path) > 1}
    lost = {each.path for each in events if each.type == "lost"}
    assert again | lost <= doubtful


async def test_watchers_while_the_owner_changes(start_fleet: Callable[..., Fleet]) -> None:
    """The owner's slot is drained, comes back, and is killed; the clients connect again: both of
    them are told of every answered change, once, with numbers that have no gap."""
    fleet = await asyncio.to_thread(start_fleet, workers=2)
    seen: list[list[WatchEvent]] = [[] for _ in range(WATCHERS + 1)]
    async with httpx2.AsyncClient(base_url=f"{fleet.url}/acme/api/v1/", timeout=30) as client:
        answered: list[str] = []
        doubtful: set[str] = set()

        async def put(path: str) -> str:
            async with asyncio.timeout(60):
                while True:
                    try:
                        answer = await client.put("upload", params={"path": path}, content=b"x")
                    except httpx2.TransportError:
                        doubtful.add(path)
                        continue
                    if answer.status_code == 200:
                        answered.append(path)
                        return answer.headers["x-fs9-slot"]
                    doubtful.add(path)
                    await asyncio.sleep(0.05)

        made = {"path": "/w", "flags": {"create": True, "directory": True}}
        assert (await client.post("open", json=made)).status_code == 200
        begun = [asyncio.Event() for _ in range(WATCHERS)]
        tasks = [
            asyncio.create_task(watch(fleet.url, event, events))
            for event, events in zip(begun, seen, strict=False)
        ]
        ready = threading.Event()
        thread = threading.Thread(target=watch_in_thread, args=(fleet.url, ready, seen[-1]))
        thread.start()
        for event in begun:
            await event.wait()
        assert await asyncio.to_thread(ready.wait, 30)
        numbers = iter(range(100_000))

        async def put_while(work: asyncio.Task[None]) -> None:
            while not work.done():
                await put(f"/w/{next(numbers)}")
            await work

        owner = await put("/w/first")
        await put_while(asyncio.create_task(change(fleet, "drain", owner)))
        assert await put(f"/w/{next(numbers)}") != owner
        await put_while(asyncio.create_task(change(fleet, "undrain", owner)))
        working = asyncio.create_task(put_while(asyncio.create_task(asyncio.sleep(0.5))))
        await asyncio.sleep(0.1)
        fleet.kill_worker(int(await put("/w/before")))
        await working
        for _ in range(20):
            await put(f"/w/{next(numbers)}")
        await put(OVER)
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)
        await asyncio.to_thread(thread.join, 60)
        assert not thread.is_alive()
    for events in seen:
        assert [each.cursor for each in events[1:]] == [each.cursor for each in seen[0][1:]]
        assert_each_once(events, set(answered), doubtful)
