"""What POSIX promises of open files, and what an upload promises its readers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.e2e.conftest import new_name
from tests.e2e.reference import Reference, RefusedError

if TYPE_CHECKING:
    from tests.fix_fleet import Fleet


def test_a_handle_follows_its_file_through_a_rename(reference: Reference, base: str) -> None:
    """Also when a directory above it is renamed, and when the old name gets a new file."""
    reference.mkdir(f"{base}/d")
    reference.write_file(f"{base}/d/f", b"first")
    handle_id = reference.open(f"{base}/d/f", read=True, write=True)
    reference.wstat(f"{base}/d", name=f"{base}/e")
    reference.wstat(f"{base}/e/f", name=f"{base}/g")
    reference.mkdir(f"{base}/d")
    reference.write_file(f"{base}/d/f", b"another")
    assert reference.write(handle_id, 5, b" more") == 5
    assert reference.read(handle_id) == b"first more"
    assert reference.read_file(f"{base}/g") == b"first more"
    assert reference.read_file(f"{base}/d/f") == b"another"
    reference.close(handle_id)


@pytest.mark.parametrize("how", ["remove", "upload", "rename over"])
def test_a_handle_keeps_a_file_that_has_no_name(reference: Reference, base: str, how: str) -> None:
    """Removed or replaced, it is read and written until the handle closes, and seen by no one."""
    path = f"{base}/f"
    reference.write_file(path, b"old")
    handle_id = reference.open(path, read=True, write=True)
    if how == "remove":
        reference.remove(path)
    elif how == "upload":
        reference.upload(path, b"new")
    else:
        reference.write_file(f"{base}/g", b"new")
        reference.wstat(f"{base}/g", name=path)
    assert reference.write(handle_id, 3, b"er") == 2
    assert reference.read(handle_id) == b"older"
    if how == "remove":
        assert not reference.exists(path)
    else:
        assert reference.read_file(path) == b"new"
    reference.close(handle_id)
    assert [entry["path"] for entry in reference.readdir(base)] == (
        [] if how == "remove" else [path]
    )


def test_a_truncation_is_seen_by_open_handles(reference: Reference, base: str) -> None:
    path = f"{base}/f"
    reference.write_file(path, b"0123456789")
    handle_id = reference.open(path, read=True, write=True)
    reference.wstat(path, size=4)
    assert reference.read(handle_id) == b"0123"
    reference.close(reference.open(path, write=True, truncate=True))
    assert reference.read(handle_id) == b""
    reference.write(handle_id, 2, b"x")
    assert reference.read_file(path) == b"\0\0x"


def test_metadata_of_an_upload(reference: Reference, base: str) -> None:
    """Replacing the content keeps the mode, as writing into the old file would."""
    path = f"{base}/f"
    reference.write_file(path, b"old")
    reference.wstat(path, mode=0o640)
    reference.upload(path, b"new")
    assert reference.stat(path)["mode"] & 0o777 == 0o640


@pytest.mark.parametrize("base", ["", "/mem"])
async def test_readers_see_the_old_or_the_new_file(fleet: Fleet, base: str) -> None:
    """Downloads during uploads: each is one version, whole, and no ETag stands for two."""
    async with httpx2.AsyncClient(
        base_url=f"{fleet.url}/{new_name()}/api/v1/", timeout=60
    ) as client:
        query = {"path": f"{base}/f"}
        tags: dict[str, int] = {}

        async def upload(number: int) -> None:
            content = bytes([number]) * (300_000 + number * 70_000)
            answer = await client.put("upload", params=query, content=content)
            assert answer.status_code == 200
            tags[answer.headers["etag"]] = number

        await upload(1)
        done = asyncio.Event()
        seen: set[tuple[str, int]] = set()

        async def read() -> None:
            while not done.is_set():
                answer = await client.get("download", params=query)
                number = answer.content[0]
                assert answer.content == bytes([number]) * (300_000 + number * 70_000)
                seen.add((answer.headers["etag"], number))

        readers = [asyncio.ensure_future(read()) for _ in range(3)]
        for number in range(2, 25):
            await upload(number)
        done.set()
        await asyncio.gather(*readers)
        assert len(seen) > 1
        # A version that is replaced while it is being opened may have a tag of its own, since
        # that changes its status; but no tag ever stands for two versions.
        assert all(tags.get(tag, number) == number for tag, number in seen)
        assert len({tag for tag, _ in seen}) == len(seen)


@pytest.mark.parametrize("base", ["", "/mem"])
async def test_appends_do_not_interleave(fleet: Fleet, base: str) -> None:
    """Twelve appenders, each with records of its own, in small and in streamed writes."""
    async with httpx2.AsyncClient(
        base_url=f"{fleet.url}/{new_name()}/api/v1/", timeout=60
    ) as client:
        path = f"{base}/log"
        await client.put("upload", params={"path": path}, content=b"")

        async def append(number: int) -> None:
            flags = {"write": True, "append": True}
            answer = await client.post("open", json={"path": path, "flags": flags})
            query = {"handle_id": answer.json()["handle_id"], "offset": 0}
            size = 90_000 if number % 3 == 0 else 900
            for _ in range(4):
                record = bytes([number]) * size + b"\n"
                answer = await client.post("write", params=query, content=record)
                assert answer.json() == {"bytes_written": size + 1}

        numbers = [*range(65, 77)]
        await asyncio.gather(*(append(number) for number in numbers))
        records = (await client.get("download", params={"path": path})).content.splitlines()
        assert len(records) == 48
        for record in records:
            assert len(set(record)) == 1
            assert len(record) == (90_000 if record[0] % 3 == 0 else 900)


async def test_many_make_the_same_directory(fleet: Fleet) -> None:
    """Of twenty mkdirs at once one succeeds; the others are told that it exists."""
    async with httpx2.AsyncClient(base_url=f"{fleet.url}/{new_name()}/api/v1/") as client:
        for path in ("/d", "/mem/d"):
            body = {"path": path, "flags": {"create": True, "directory": True}}
            answers = await asyncio.gather(*(client.post("open", json=body) for _ in range(20)))
            assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19


async def test_a_first_request_may_come_many_times(fleet: Fleet) -> None:
    """W-C19: overlapping first requests of a new namespace all see it whole."""
    tenant = new_name()
    url = f"{fleet.url}/{tenant}/api/v1/stat?path=/mem"
    async with httpx2.AsyncClient() as client:
        answers = await asyncio.gather(*(client.get(url) for _ in range(40)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["x-fs9-slot"] for answer in answers}) == 1


def test_one_connection_serves_many_namespaces(fleet: Fleet) -> None:
    """Keep-alive: the slots change with the tenant, and each tenant has one."""
    slots: dict[str, set[str]] = {}
    tenants = [new_name() for _ in range(8)]
    with httpx2.Client(base_url=fleet.url, limits=httpx2.Limits(max_connections=1)) as client:
        for number in range(80):
            tenant = tenants[number * 5 % 8]
            body = b"%d" % number
            query = {"path": "/mem/f"}
            answer = client.put(f"/{tenant}/api/v1/upload", params=query, content=body)
            assert answer.status_code == 200
            slots.setdefault(tenant, set()).add(answer.headers["x-fs9-slot"])
            found = client.get(f"/{tenant}/api/v1/download", params=query)
            assert found.content == body
            slots[tenant].add(found.headers["x-fs9-slot"])
    assert all(len(found) == 1 for found in slots.values())
    assert len({slot for found in slots.values() for slot in found}) > 1


def test_hellofs_serves_what_it_promises(default_api: httpx2.Client) -> None:
    hello = Reference(default_api, blank="+")
    entry = hello.readdir("/hello")[0]["path"]
    content = hello.read_file(entry)
    assert content
    assert hello.download(entry).content == content
    assert hello.statfs("/hello")["total_bytes"] == 64 * 2**20
    path = f"/hello/{new_name()}"
    assert hello.write_file(path, b"written") == 7
    assert hello.read_file(path) == b"written"
    assert hello.upload(path, b"uploaded") == {"path": path, "bytes_written": 8}
    assert hello.read_file(path) == b"uploaded"
    hello.remove(path)
    assert not hello.exists(path)
    with pytest.raises(RefusedError) as caught:
        hello.remove("/hello")
    assert caught.value.status == 403
