"""Many clients on the same files at once: one wins, nothing is lost, listings are whole."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import httpx2

from tests.e2e.conftest import new_name

if TYPE_CHECKING:
    from tests.fix_fleet import Fleet


async def test_two_clients_race_to_create(fleet: Fleet) -> None:
    """`If-None-Match: *`: one wins, all others are told 412, the winner's bytes are there."""
    for mount in ("", "/mem"):
        async with httpx2.AsyncClient(base_url=f"{fleet.url}/{new_name()}/api/v1/") as client:

            async def create(body: bytes, path: str) -> int:
                headers = {"If-None-Match": "*"}
                query = {"path": path}
                answer = await client.put("upload", params=query, content=body, headers=headers)
                return answer.status_code

            for number in range(10):
                path = f"{mount}/f{number}"
                bodies = [b"%d" % client_number * 70_000 for client_number in range(4)]
                statuses = await asyncio.gather(*(create(body, path) for body in bodies))
                assert sorted(statuses) == [200, 412, 412, 412]
                found = (await client.get("download", params={"path": path})).content
                assert found == bodies[statuses.index(200)]


async def test_lost_updates_are_refused(fleet: Fleet) -> None:
    """If-Match with one version: of many writers that read it, one succeeds."""
    for mount in ("", "/mem"):
        async with httpx2.AsyncClient(base_url=f"{fleet.url}/{new_name()}/api/v1/") as client:
            query = {"path": f"{mount}/f"}
            etag = (await client.put("upload", params=query, content=b"0")).headers["etag"]
            writes = [
                client.put("upload", params=query, content=b"%d" % n, headers={"If-Match": etag})
                for n in range(8)
            ]
            statuses = [answer.status_code for answer in await asyncio.gather(*writes)]
            assert sorted(statuses) == [200] + [412] * 7


async def test_a_hundred_clients_on_one_namespace(fleet: Fleet) -> None:
    """Each makes, reads, lists and removes its own files, at once, on its own connection."""
    tenant = new_name()

    async def one(number: int) -> str:
        async with httpx2.AsyncClient(base_url=f"{fleet.url}/{tenant}/api/v1/", timeout=60) as c:
            mount = "/mem" if number % 2 else ""
            query = {"path": f"{mount}/f{number}"}
            content = random.Random(number).randbytes(20_000)
            answer = await c.put("upload", params=query, content=content)
            assert answer.status_code == 200, answer.text
            assert (await c.get("download", params=query)).content == content
            names = [e["path"] for e in (await c.get("readdir", params={"path": mount})).json()]
            assert query["path"] in names
            assert (await c.delete("remove", params=query)).status_code == 204
            return answer.headers["x-fs9-slot"]

    assert len(set(await asyncio.gather(*(one(number) for number in range(100))))) == 1


async def test_pages_of_a_directory_that_changes(fleet: Fleet) -> None:
    """Files that were there all the time come exactly once, whatever is made or removed."""
    for mount in ("", "/mem"):
        async with httpx2.AsyncClient(base_url=f"{fleet.url}/{new_name()}/api/v1/") as client:
            stay = [f"{mount}/s{number:03}" for number in range(120)]
            await asyncio.gather(
                *(client.put("upload", params={"path": path}, content=b"") for path in stay)
            )
            done = asyncio.Event()

            async def churn(client: httpx2.AsyncClient, mount: str, done: asyncio.Event) -> None:
                number = 0
                while not done.is_set():
                    query = {"path": f"{mount}/{'asz'[number % 3]}{number * 7 % 1000}x"}
                    await client.put("upload", params=query, content=b"")
                    if number % 2:
                        await client.delete("remove", params=query)
                    number += 1

            churning = asyncio.ensure_future(churn(client, mount, done))
            seen: list[str] = []
            query: dict[str, object] = {"path": mount or "/", "limit": 7}
            while True:
                answer = await client.get("readdir", params=query)
                entries = answer.json()
                assert len(entries) <= 7
                seen += [entry["path"] for entry in entries]
                if "x-fs9-next-cursor" not in answer.headers:
                    break
                query["cursor"] = answer.headers["x-fs9-next-cursor"]
                assert 'rel="next"' in answer.headers["link"]
            done.set()
            await churning
            assert seen == sorted(set(seen), key=str.encode)
            assert set(stay) <= set(seen)
