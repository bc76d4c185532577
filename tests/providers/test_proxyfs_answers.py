"""proxyfs: what it makes of what an upstream answers, be it old, wrong or hostile."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from fs9.errors import (
    AlreadyExists,
    BackendUnavailable,
    Conflict,
    InvalidArgument,
    InvalidHandle,
    NotDirectory,
    NotFound,
    NotSupported,
    PermissionDenied,
    Remote,
    Timeout,
    TooManyHops,
)
from fs9.providers.proxyfs_infos import at
from fs9.resilience.backoff import NEVER
from fs9.types import (
    Capability,
    FileInfo,
    FileType,
    MountSpec,
    OpenFlags,
)
from tests.fix_http import Server, StartServer, start_server
from tests.fix_proxy import make_proxy
from tests.providers.fix_proxyfs import URL, put, scripted, upstream

__all__ = ["start_server", "upstream"]


async def test_no_prefix_comes_twice(upstream: Server):
    proxy = await make_proxy(upstream)
    with pytest.raises(NotFound) as caught:
        await proxy.stat("/x")
    assert str(caught.value) == "not found: /x"
    assert caught.value.detail == "/x"


@pytest.mark.parametrize(
    ("status", "text", "kind", "told"),
    [
        (404, "not found: /x", NotFound, "not found: /x"),
        (400, "not a directory: /x", NotDirectory, "not a directory: /x"),
        (400, "invalid argument: odd", InvalidArgument, "invalid argument: odd"),
        (409, "already exists: /x", AlreadyExists, "already exists: /x"),
        (409, "conflict: etag", Conflict, "conflict: etag"),
        (403, "permission denied: /x", PermissionDenied, "permission denied: /x"),
        (501, "not implemented: chmod", NotSupported, "not implemented: chmod"),
        (508, "too many proxy hops: 8 (max: 8)", TooManyHops, "too many proxy hops: 8 (max: 8)"),
        (504, "timeout after 30s", Timeout, "timeout after 30s"),
        (500, "internal error: oops", Remote, f"remote error from {URL}/t: oops"),
        (500, "remote error from n: x", Remote, f"remote error from {URL}/t: "),
        (503, "circuit breaker open for s3", BackendUnavailable, f"{URL}/t: "),
        (400, "invalid argument: invalid handle_id", InvalidHandle, "invalid handle: invalid"),
        (400, "invalid handle: 7", InvalidHandle, "invalid handle: 7"),
        (401, "Missing Authorization header", Remote, "Missing Authorization header"),
        (503, "storage backend unavailable: s3", BackendUnavailable, f"{URL}/t: s3"),
    ],
)
async def test_answers_without_a_kind(status: int, text: str, kind: type, told: str):
    """As the reference's server gives them: the class is found, and no prefix is doubled."""

    def answer(path: str) -> tuple[int, Any]:
        return status, {"error": text, "code": status}

    proxy = await scripted(answer, tenant="t", retries=NEVER)
    with pytest.raises(kind) as caught:
        await proxy.stat("/x")
    assert told in str(caught.value)
    assert type(caught.value) is kind


async def test_who_is_no_fs9_server(upstream: Server):
    proxy = await scripted(lambda path: (200, "<html>"))
    with pytest.raises(Remote, match="is this an fs9 server"):
        await proxy.stat("/")


async def test_an_upstream_is_not_trusted(monkeypatch: pytest.MonkeyPatch):
    """With our memory, with counts, with names, with where requests go."""
    info = {"path": "/f", "size": 10, "file_type": "regular", "mode": 0o644, "uid": 0, "gid": 0}
    info |= {"atime": 1, "mtime": 1, "ctime": 1}
    names = ["/..", "/.", "/", "/a\0b", "/" + "n" * 256, "/" + "n" * 255, "/d/../ok"]
    said: dict[str, tuple[int, Any]] = {
        "open": (200, {"handle_id": "1", "metadata": info}),
        "stat": (200, " " * 5000),
        "read": (200, "x" * 11),
        "write": (200, {"bytes_written": 4}),
        "readdir": (200, [{**info, "path": name} for name in names]),
        "statfs": (302, ""),
    }
    proxy = await scripted(
        lambda path: said.get(path.rpartition("/")[2], (404, "")), answer_bytes_max=4000
    )
    with pytest.raises(Remote, match="more than 4000 bytes"):
        await proxy.stat("/f")
    with pytest.raises(Remote, match="redirects"):
        await proxy.statfs("/")
    file, _ = await proxy.open("/f", OpenFlags(read=True, write=True))
    with pytest.raises(Remote, match="11 bytes of at most 10"):
        await proxy.read(file, 0, 10)
    for count in (4, -1):
        said["write"] = (200, {"bytes_written": count})
        with pytest.raises(Remote, match=f"{count} bytes written of 3"):
            await proxy.write(file, 0, b"abc")
    listed = [entry.path for entry in await proxy.readdir("/", "", 10)]
    assert listed == ["/" + "n" * 255, "/ok"]


@pytest.mark.parametrize("size", [-1, 2**63, 2**80])
def test_no_file_has_such_a_size(size: int):
    with pytest.raises(Remote, match=f"a file of {size} bytes"):
        at("/f", FileInfo("/f", size, FileType.REGULAR, 0o644, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("etag", ['a"\r\nx: y', 'a"', "a b", "\u2603", "\x01", "e" * 257])
def test_what_no_file_can_have_is_brought_into_bounds(etag: str):
    """Headers are made of it."""
    told = FileInfo("/x", 1, FileType.REGULAR, -1, -1, 2**40, 2**70, -(2**70), 5, etag)
    found = at("/f", told)
    assert (found.path, found.mode, found.uid, found.gid) == ("/f", 0o7777, 2**32 - 1, 0)
    assert (found.atime_ns, found.mtime_ns, found.ctime_ns) == (2**63 - 1, 1 - 2**63, 5)
    assert found.etag == ""
    good = FileInfo("/f", 1, FileType.SYMLINK, 0o777, 1, 2, 3, 4, 5, "1a-2b!", "target")
    assert at("/f", good) == good


async def test_a_message_of_an_older_upstream_is_whole():
    """Its topics do not count the newline; to write that once more would be another message."""
    info = {"path": "/t", "size": 0, "file_type": "regular", "mode": 0o600, "uid": 0, "gid": 0}
    info |= {"atime": 1, "mtime": 1, "ctime": 1}

    def answer(path: str) -> tuple[int, Any]:
        if path.endswith("open"):
            return 200, {"handle_id": "1", "metadata": info}
        return 200, {"bytes_written": 3}

    proxy = await scripted(answer)
    file, _ = await proxy.open("/t", OpenFlags(write=True))
    assert await proxy.write(file, 0, b"one\n") == 4
    assert await proxy.write(file, 0, b"more") == 3


async def test_what_a_silent_upstream_holds_is_not_closed_while_somebody_waits():
    """It would be silent again; it lets an idle handle go itself. One that answers is asked."""
    info = {"path": "/f", "size": 10, "file_type": "regular", "mode": 0o644, "uid": 0, "gid": 0}
    info |= {"atime": 1, "mtime": 1, "ctime": 1}
    asked: list[str] = []

    def answer(path: str) -> tuple[int, Any]:
        asked.append(path.rpartition("/")[2])
        if asked[-1] == "read":
            raise httpx2.ReadTimeout("silent")
        return 200, {"handle_id": "1", "metadata": info}

    proxy = await scripted(answer, retries=NEVER)
    for silent in (True, False):
        file, _ = await proxy.open("/f", OpenFlags(read=True))
        if silent:
            with pytest.raises(Timeout):
                await proxy.read(file, 0, 10)
        del asked[:]
        await proxy.close(file, discard=True)
        assert asked == ([] if silent else ["close"])


# -- Older servers ------------------------------------------------------------------------------


async def test_a_listing_without_pages():
    """An older server ignores the limit, does not sort by bytes and doubles slashes."""
    names = ["b", "a", "é", "c"]
    info = {"size": 1, "file_type": "regular", "mode": 0o100644, "uid": 0, "gid": 0}
    times = {"atime": 1, "mtime": 1, "ctime": 1}

    def answer(path: str) -> tuple[int, Any]:
        if not path.endswith("readdir"):
            return 404, {"error": "not found: /", "code": 404}
        return 200, [{"path": f"/d//{n}", **info, **times} for n in names]

    proxy = await scripted(answer)
    assert [i.path for i in await proxy.readdir("/d", "", 2)] == ["/d/a", "/d/b"]
    assert [i.path for i in await proxy.readdir("/d", "b", 9)] == ["/d/c", "/d/é"]
    assert proxy.capabilities() & Capability.CHOWN  # it did not say: it may be asked for anything
    assert (await proxy.readdir("/d", "", 1))[0].mode == 0o644


async def test_a_long_directory_comes_in_several_pages(start_server: StartServer, monkeypatch):
    server = await start_server(template=(MountSpec("/", "memfs"),))
    monkeypatch.setattr("fs9.providers.proxyfs.PAGE_ENTRIES_MAX", 4)
    proxy = await make_proxy(server)
    for number in range(10):
        await put(proxy, f"/{number}", b"")
    assert [info.path for info in await proxy.readdir("/", "", 100)] == [f"/{n}" for n in range(10)]
    assert len(await proxy.readdir("/", "3", 5)) == 5
