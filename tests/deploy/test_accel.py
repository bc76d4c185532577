"""Large downloads that nginx sends itself: the same answers, from the very file that was opened."""

from __future__ import annotations

import asyncio
import os
import re
import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from router.ring import Ring
from tests.deploy.calls import FrontClient, ask
from tests.deploy.conftest import Proxy
from tests.fix_fleet import Fleet
from tests.workers.wire_client import Response, WireClient, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 3 * 1024 * 1024
PREFIX = "/.fs9/files/"
YAML = f"""
server: {{accel_redirect: {PREFIX}}}
mounts:
- {{path: /, provider: localfs, config: {{root: "{{data_dir}}/namespaces/{{namespace}}/files"}}}}
"""
TARGET = "/api/v1/download?path=/big.bin"
OFFER = {"X-FS9-Accel": PREFIX}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """nginx before two workers that lend it files; one file, not quite new."""
    directory = tmp_path_factory.mktemp("accel")
    fleet = Fleet(directory, workers=2, yaml=YAML, environ={})
    proxy = None
    try:
        proxy = Proxy("nginx", fleet, directory / "proxy", auth=False)
        yield proxy
    finally:
        if proxy is not None:
            proxy.stop()
        fleet.stop()


@pytest.fixture
async def content(front: Proxy) -> bytes:
    data = os.urandom(SIZE)
    assert (await ask(front, "PUT", "/api/v1/upload?path=/big.bin", {}, data)).status == 200
    make_old(front.fleet)
    return data


def host_file(fleet: Fleet) -> Path:
    return fleet.data_dir / "namespaces" / "default" / "files" / "big.bin"


def make_old(fleet: Fleet) -> None:
    old_s = time.time() - 60
    os.utime(host_file(fleet), (old_s, old_s))


def lent(fleet: Fleet) -> set[str]:
    return {path.name for path in (fleet.run_directory / "lent").glob("*/*")}


async def through(proxy: Proxy, headers: dict[str, str], *, lends: bool) -> Response:
    """The answer, and whether a file was lent for it."""
    before = lent(proxy.fleet)
    answer = await ask(proxy, "GET", TARGET, headers)
    assert (len(lent(proxy.fleet) - before) == 1) is lends, headers
    assert not {"x-accel-redirect", "x-fs9-size"} & answer.headers.keys()
    return answer


def same(one: Response, other: Response) -> None:
    names = {"date", "server", "connection", "x-request-id", "accept-ranges"}
    kept = [{n: v for n, v in each.headers.items() if n not in names} for each in (one, other)]
    assert kept[0] == kept[1]
    assert (one.status, one.body) == (other.status, other.body)


@pytest.mark.parametrize(
    ("wanted", "lends"),
    [
        (None, True),
        ("bytes=0-", True),
        ("bytes=7-2000006", True),
        ("bytes=-2000000", True),
        (f"bytes=-{SIZE + 1}", True),
        (f"bytes=1-{SIZE * 9}", True),
        ("bytes=0-99", False),
        ("bytes=0-1,5-9", False),
        ("bytes=9-1", False),
        ("pages=1-2", False),
        (f"bytes={SIZE}-", False),
    ],
)
async def test_the_answer_is_the_workers(
    front: Proxy, content: bytes, wanted: str | None, lends: bool
) -> None:
    headers = {} if wanted is None else {"Range": wanted}
    answer = await through(front, headers, lends=lends)
    same(answer, await ask(front.fleet, "GET", TARGET, headers))
    if wanted is None:
        assert answer.body == content
    assert answer.headers["x-request-id"]
    assert answer.headers.get("etag") or answer.status == 416


async def test_conditions_are_judged_by_the_worker(front: Proxy, content: bytes) -> None:
    first = await through(front, {}, lends=True)
    for name, value in (
        ("If-None-Match", first.headers["etag"]),
        ("If-None-Match", '"other"'),
        ("If-Match", first.headers["etag"]),
        ("If-Match", '"other"'),
        ("If-Modified-Since", first.headers["last-modified"]),
        ("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:01 GMT"),
        ("If-Range", first.headers["etag"]),
        ("If-Range", '"other"'),
    ):
        headers = {name: value, "Range": "bytes=5-2000005"}
        answer = await through(front, headers, lends=False)
        same(answer, await ask(front.fleet, "GET", TARGET, headers))


async def test_only_nginx_at_a_front_socket_is_lent_a_file(front: Proxy, content: bytes) -> None:
    """Not a client that says what nginx says, nor one who asks for the place itself."""
    answer = await ask(front.fleet, "GET", TARGET, OFFER)
    assert (answer.status, answer.body) == (200, content)
    assert "x-accel-redirect" not in answer.headers
    owner = Ring(range(2)).owner("default")
    path = str(front.fleet.run_directory / f"slot-{owner}.front")
    for offer, lends in ((OFFER, True), ({}, False), ({"X-FS9-Accel": "/x/"}, False)):
        client = WireClient(*await asyncio.open_unix_connection(path))
        await client.send(request("GET", TARGET, headers=offer))
        answer = await client.response()
        await client.close()
        assert ("x-accel-redirect" in answer.headers, not answer.body) == (lends, lends)
    place = PREFIX + f"{owner}/" + next(iter(lent(front.fleet)))
    for name in (place, PREFIX, PREFIX + "../../view.json", "/.fs9/files/%2e%2e/view.json"):
        answer = await ask(front, "GET", name)
        direct = await ask(front.fleet, "GET", name)
        assert (answer.status, answer.body) == (direct.status, direct.body)
        assert answer.status in {400, 404}


async def test_it_is_the_file_that_was_opened_whatever_its_path_names_then(
    front: Proxy, content: bytes
) -> None:
    """nginx opens it late: replaced by another version, by a link out of the jail, removed."""
    fleet = front.fleet
    owner = Ring(range(2)).owner("default")
    path = str(fleet.run_directory / f"slot-{owner}.front")
    client = WireClient(*await asyncio.open_unix_connection(path))
    await client.send(request("GET", TARGET, headers=OFFER))
    place = (await client.response()).headers["x-accel-redirect"]
    await client.close()
    name = fleet.run_directory / "lent" / place.removeprefix(PREFIX)
    file = host_file(fleet)
    file.unlink()
    file.symlink_to("/etc/passwd")
    assert name.read_bytes() == content
    file.unlink()
    assert (await ask(front, "PUT", "/api/v1/upload?path=/big.bin", {}, b"new")).status == 200
    assert name.read_bytes() == content


async def test_the_tag_is_never_that_of_other_bytes(front: Proxy, content: bytes) -> None:
    """Versions come by uploads and in place, all of another size, while others download."""
    versions: dict[str, set[bytes]] = {}
    stop = asyncio.Event()

    async def read_on() -> int:
        count = 0
        client = await FrontClient.connect(front.port)
        while not stop.is_set() and count < 25:
            await client.send(request("GET", TARGET))
            answer = await asyncio.wait_for(client.response(), 30)
            assert answer.status == 200
            tag = answer.headers.get("etag")
            if tag is not None:
                versions.setdefault(tag, set()).add(answer.body[:1] + answer.body[-1:])
            count += 1
        await client.close()
        return count

    readers = [asyncio.create_task(read_on()) for _ in range(3)]
    for number in range(40):
        data = bytes([number]) * (SIZE + number)
        put = await ask(front, "PUT", "/api/v1/upload?path=/big.bin", {}, data)
        assert put.status == 200
        make_old(front.fleet)
        await asyncio.sleep(0.01)
    stop.set()
    assert sum(await asyncio.gather(*readers)) > 20
    assert versions
    assert all(len(found) == 1 for found in versions.values())


@pytest.mark.parametrize(
    ("size", "later_s", "tagged"), [(SIZE, 0, True), (SIZE - 1, 0, False), (SIZE, -1, False)]
)
async def test_a_file_that_was_changed_in_place_meanwhile_has_no_tag(
    front: Proxy, tmp_path: Path, size: int, later_s: int, tagged: bool
) -> None:
    """A stand-in for the worker says what the file was like before."""
    file = tmp_path / "file"
    file.write_bytes(bytes(SIZE))
    directory = front.fleet.run_directory / "lent"
    name = f"{os.urandom(8).hex()}"
    with file.open("rb") as opened:
        (directory / name).symlink_to(f"/proc/{os.getpid()}/fd/{opened.fileno()}")
        modified = formatdate(int(file.stat().st_mtime) + later_s, usegmt=True)
        head = (
            f'HTTP/1.1 200 OK\r\nX-FS9-Size: {size}\r\nETag: "v1"\r\nContent-Length: 0\r\n'
            f"Last-Modified: {modified}\r\nX-Accel-Redirect: {PREFIX}{name}\r\n\r\n"
        )

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head.encode())
            await writer.drain()
            writer.close()

        path = str(tmp_path / "worker")
        server = await asyncio.start_unix_server(answer, path)
        config = front.directory / "nginx.conf"
        text = config.read_text()
        front.stop()
        config.write_text(re.sub(r"unix:\S+\.front", f"unix:{path}", text))
        front.start()
        try:
            for headers, status in (({}, 200), ({"Range": "bytes=1-2"}, 206)):
                got = await ask(front, "GET", TARGET, headers)
                assert (got.status, got.headers.get("etag")) == (status, '"v1"' if tagged else None)
        finally:
            front.stop()
            config.write_text(text)
            front.start()
            server.close()
            (directory / name).unlink()


async def test_what_nginx_cannot_open_the_worker_sends(front: Proxy, content: bytes) -> None:
    """As where nginx may not see the worker's descriptors, or comes too late."""
    config = front.directory / "nginx.conf"
    text = config.read_text()
    directory = front.fleet.run_directory / "lent"
    blind = text.replace(f'alias "{directory}/"', f'alias "{directory}-not/"')
    assert blind != text
    front.stop()
    config.write_text(blind)
    front.start()
    try:
        for wanted in ({}, {"Range": "bytes=7-2000006"}):
            answer = await through(front, wanted, lends=True)
            same(answer, await ask(front.fleet, "GET", TARGET, wanted))
    finally:
        front.stop()
        config.write_text(text)
        front.start()
