"""The audit trail of a real fleet: nothing that was answered is missing, whatever dies or moves."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx2

from fs9.observe.audit_chain import AuditRecord, ChainCheck
from tests.e2e.test_fleet import change
from tests.http.test_events_stream import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fix_fleet import Fleet

NAMES = ["acme", "beta", "gamma"]


async def put(client: httpx2.AsyncClient, name: str, path: str) -> str | None:
    """The slot that answered; None: it may have been done or not."""
    try:
        answer = await client.put(f"/{name}/api/v1/upload", params={"path": path}, content=b"x")
    except httpx2.TransportError:
        return None
    return answer.headers["x-fs9-slot"] if answer.status_code == 200 else None


async def chain(client: httpx2.AsyncClient, name: str) -> list[AuditRecord]:
    links: list[AuditRecord] = []
    while True:
        after = links[-1].sequence if links else 0
        answer = await client.get(f"/{name}/api/v1/events/chain", params={"after": after})
        assert answer.status_code == 200
        page = [AuditRecord(**link) for link in answer.json()]
        if not page:
            return links
        links += page


async def ends_with(client: httpx2.AsyncClient, name: str, path: str) -> bool:
    return path in {link.path for link in await chain(client, name)}


async def test_kill_9_loses_no_event_of_what_was_answered(
    start_fleet: Callable[..., Fleet], metadata: dict[str, str]
) -> None:
    """Uploads to three namespaces while both workers are killed; then every chain is whole."""
    fleet = await asyncio.to_thread(start_fleet, workers=2, environ=metadata)
    answered: dict[str, set[str]] = {name: set() for name in NAMES}
    over = asyncio.Event()
    async with httpx2.AsyncClient(base_url=fleet.url, timeout=30) as client:
        # Opened and written, and never closed: its worker is killed.
        made = await client.post(
            "/acme/api/v1/open",
            json={"path": "/open", "flags": {"read": True, "write": True, "create": True}},
        )
        query = {"handle_id": made.json()["handle_id"], "offset": 0}
        assert (await client.post("/acme/api/v1/write", params=query, content=b"x")).is_success

        async def load(name: str) -> None:
            number = 0
            while not over.is_set():
                number += 1
                if await put(client, name, f"/{number}") is not None:
                    answered[name].add(f"/{number}")

        tasks = [asyncio.create_task(load(name)) for name in NAMES]
        for slot in (0, 1):
            await asyncio.sleep(0.7)
            fleet.kill_worker(slot)
        await asyncio.sleep(0.7)
        over.set()
        await asyncio.gather(*tasks)
        async with asyncio.timeout(60):
            while not all([await put(client, name, "/last") for name in NAMES]):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            for name in NAMES:
                while not await ends_with(client, name, "/last"):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        for name in NAMES:
            links = await chain(client, name)
            check = ChainCheck()
            check.feed(links)
            assert check.end() is None
            assert answered[name]
            assert answered[name] <= {link.path for link in links}
        acme = [(link.path, link.details) for link in await chain(client, "acme")]
        assert ("/open", {"unfinished": True}) in acme


async def test_followers_of_events_through_a_drain(start_fleet: Callable[..., Fleet]) -> None:
    """Each event once, in order, none lost: with the id of the last one, as browsers do."""
    fleet = await asyncio.to_thread(start_fleet, workers=2)
    seen: list[dict[str, Any]] = []
    slots: set[str] = set()
    async with httpx2.AsyncClient(base_url=fleet.url, timeout=30) as client:
        owner = await put(client, "acme", "/first")
        assert owner is not None

        async def follow() -> None:
            last = "0"
            while not seen or seen[-1]["path"] != "/over":
                headers = {"last-event-id": last}
                raw, taken = b"", 0
                try:
                    async with client.stream(
                        "GET", "/acme/api/v1/events", params={"follow": 1}, headers=headers
                    ) as answer:
                        slots.add(answer.headers.get("x-fs9-slot", ""))
                        async for piece in answer.aiter_raw():
                            raw += piece
                            for frame in parse(raw)[taken:]:
                                taken += 1
                                last = frame.id
                                seen.append(json.loads(frame.data))
                            if seen and seen[-1]["path"] == "/over":
                                return
                except httpx2.TransportError:
                    pass
                await asyncio.sleep(0.05)

        following = asyncio.create_task(follow())
        draining = asyncio.create_task(change(fleet, "drain", owner))
        sent = ["/first"]
        while not draining.done() or len(sent) < 20:
            path = f"/{len(sent)}"
            while await put(client, "acme", path) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            sent.append(path)
            await asyncio.sleep(0.02)
        await draining
        # Uploads of one path that were tried twice would be counted in one event.
        assert await put(client, "acme", "/over") not in {None, owner}
        async with asyncio.timeout(60):
            await following
    assert [event["path"] for event in seen] == [*sent, "/over"]
    sequences = [event["sequence"] for event in seen]
    assert sequences == sorted(set(sequences))
    assert len(slots) == 2
