"""Followers of a topic while its namespace moves: each message once, in order, none lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx2

from tests.e2e.test_fleet import change
from tests.http.test_events_stream import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fix_fleet import Fleet

CONFIG = """
mounts:
  - {path: /, provider: memfs}
  - {path: /ps, provider: pubsubfs, config: {persistent: true}}
namespace_template:
  - {path: /, provider: memfs}
  - {path: /ps, provider: pubsubfs, config: {persistent: true}}
"""
FOLLOWERS = 4


async def follow(url: str, name: str, seen: list[str], connections: list[str]) -> None:
    """As a browser does: with the id of the last event, again and again, to the word `over`."""
    last = ""
    async with httpx2.AsyncClient(base_url=f"{url}/{name}/api/v1/", timeout=30) as client:
        while True:
            headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
            raw, taken = b"", 0
            try:
                async with client.stream(
                    "GET", "follow", params={"path": "/ps/t"}, headers=headers
                ) as answer:
                    if answer.status_code == 200:
                        connections.append(answer.headers["x-fs9-slot"])
                    async for piece in answer.aiter_raw():
                        raw += piece
                        for frame in parse(raw)[taken:]:
                            taken += 1
                            assert frame.name == ""
                            seen.append(frame.data)
                            last = frame.id
                            if frame.data == "over":
                                return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)


async def test_followers_while_the_owner_changes(start_fleet: Callable[..., Fleet]) -> None:
    """The owner's slot is drained, comes back, and is killed; the followers connect again."""
    fleet = await asyncio.to_thread(start_fleet, workers=2, yaml=CONFIG)
    seen: list[list[str]] = [[] for _ in range(FOLLOWERS)]
    connections: list[str] = []
    async with httpx2.AsyncClient(base_url=f"{fleet.url}/acme/api/v1/", timeout=30) as client:

        async def publish(word: str) -> str:
            """Until it is answered; an error of a dying worker may hide that it was written."""
            async with asyncio.timeout(60):
                while True:
                    try:
                        answer = await client.put(
                            "upload", params={"path": "/ps/t"}, content=word.encode()
                        )
                    except httpx2.TransportError:
                        continue
                    if answer.status_code == 200:
                        return answer.headers["x-fs9-slot"]
                    await asyncio.sleep(0.05)

        owner = await publish("0")
        tasks = [
            asyncio.create_task(follow(fleet.url, "acme", words, connections)) for words in seen
        ]
        numbers = iter(range(1, 100_000))

        async def publish_while(work: asyncio.Task[None]) -> None:
            while not work.done():
                await publish(str(next(numbers)))
            await work

        await publish_while(asyncio.create_task(change(fleet, "drain", owner)))
        assert await publish(str(next(numbers))) != owner
        await publish_while(asyncio.create_task(change(fleet, "undrain", owner)))
        fleet.kill_worker(int(await publish(str(next(numbers)))))
        for _ in range(20):
            await publish(str(next(numbers)))
        await publish("over")
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)
    # All saw the same, and what was answered is in it, in order; a message whose answer the
    # killed worker did not give may be there twice, for it was published twice.
    assert all(words == seen[0] for words in seen)
    numbers_seen = [int(word) for word in seen[0][:-1]]
    assert sorted(set(numbers_seen)) == list(range(max(numbers_seen) + 1))
    assert len(numbers_seen) - len(set(numbers_seen)) <= 1
    assert numbers_seen == sorted(numbers_seen)
    assert len(set(connections)) == 2


async def test_a_fleet_that_stops_ends_its_followers(start_fleet: Callable[..., Fleet]) -> None:
    """Their answers end in order, at once: nothing waits for them to the deadline."""
    fleet = await asyncio.to_thread(start_fleet, workers=1, yaml=CONFIG)
    async with httpx2.AsyncClient(base_url=f"{fleet.url}/acme/api/v1/", timeout=30) as client:
        await client.put("upload", params={"path": "/ps/t"}, content=b"one")
        headers = {"accept": "text/event-stream"}
        async with client.stream(
            "GET", "follow", params={"path": "/ps/t"}, headers=headers
        ) as answer:
            pieces = answer.aiter_raw()
            raw = await anext(pieces)
            stopping = asyncio.create_task(asyncio.to_thread(fleet.stop))
            async with asyncio.timeout(20):  # the deadline of a stop is 30 seconds
                async for piece in pieces:
                    raw += piece
            assert [frame.data for frame in parse(raw)] == ["one"]
        assert await stopping == 0
