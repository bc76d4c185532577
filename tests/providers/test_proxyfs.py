"""proxyfs: what it asks its upstream, when it asks again, and what it makes of the answers."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from fs9.clock import ManualClock
from fs9.errors import (
    AlreadyExists,
    BackendUnavailable,
    CircuitBreakerOpen,
    Conflict,
    InvalidArgument,
    InvalidHandle,
    NotDirectory,
    NotFound,
    NotSupported,
    PayloadTooLarge,
    PermissionDenied,
    PreconditionFailed,
    Remote,
    Timeout,
    TooManyHops,
    Transient,
)
from fs9.limits import KIB, MIB
from fs9.providers.policy import AddressPolicy
from fs9.providers.proxyfs import ProxyFactory, ProxyFs
from fs9.providers.proxyfs_cache import BLOCK_BYTES, BlockCache, Version
from fs9.providers.proxyfs_infos import at
from fs9.providers.proxyfs_upstream import FAILURES_MAX, RECOVERY_S, Upstreams, _claims_of
from fs9.providers.registry import ProviderContext
from fs9.resilience.backoff import NEVER
from fs9.types import (
    READ,
    REPLACE,
    Capability,
    Condition,
    FileInfo,
    FileType,
    MountSpec,
    OpenFlags,
    StatChanges,
)
from fs9.wire.hops import hops_so_far
from tests.fix_http import Server, StartServer, new_tenant, start_server, token
from tests.fix_proxy import Answer, Answers, Wire, make_proxy

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.limits import Limits
    from fs9.threads import BlockingPool

__all__ = ["start_server"]

RW_CREATE = OpenFlags(read=True, write=True, create=True)
URL = "http://fs9.test"


@pytest.fixture
async def upstream(start_server: StartServer) -> Server:
    return await start_server(template=(MountSpec("/", "memfs"),))


@pytest.fixture
def wire(upstream: Server) -> Wire:
    assert upstream.transport is not None
    return Wire(upstream.transport)


async def scripted(answer: Answer, **more: Any) -> ProxyFs:
    """A mount of a server that answers what the test says, as an older server would."""
    return await make_proxy(Server(URL), transport=Answers(answer), **more)


async def put(proxy: ProxyFs, path: str, content: bytes) -> None:
    file, _ = await proxy.open(path, REPLACE)
    await proxy.write(file, 0, content)
    await proxy.close(file)


# -- Hops ---------------------------------------------------------------------------------------


async def test_each_call_counts_one_hop_more(upstream: Server, wire: Wire):
    """0 for a client's own request, and on from what the request came with."""
    proxy = await make_proxy(upstream, transport=wire)
    await proxy.stat("/")
    before = hops_so_far.set(4)
    file, _ = await proxy.open("/f", RW_CREATE)
    hops_so_far.reset(before)
    await proxy.write(file, 0, b"x")
    await proxy.close(file)
    assert [hops for name, hops in wire.hops() if name != "capabilities"] == ["1", "5", "5", "5"]


async def test_too_many_hops_are_not_passed_on(upstream: Server, wire: Wire):
    proxy = await make_proxy(upstream, transport=wire, max_hops=3)
    wire.requests.clear()
    before = hops_so_far.set(3)
    with pytest.raises(TooManyHops, match=r"too many proxy hops: 3 \(max: 3\)"):
        await proxy.stat("/")
    hops_so_far.reset(before)
    assert not wire.requests


# -- Handles that expire ------------------------------------------------------------------------


async def expire(upstream: Server, proxy: ProxyFs, file: Any) -> None:
    """The upstream closes the handle by itself."""
    api = upstream.client(tenant=proxy.tenant)  # type: ignore[attr-defined]
    answer = await api.post("close", json={"handle_id": file.handle.handle_id})
    assert answer.status_code == 204


async def test_an_expired_handle_is_opened_again(upstream: Server):
    """For reading and writing, and nothing is emptied or made anew by it."""
    proxy = await make_proxy(upstream, cache_bytes=0)
    file, _ = await proxy.open("/f", OpenFlags(read=True, write=True, create=True, truncate=True))
    await proxy.write(file, 0, b"abc")
    await expire(upstream, proxy, file)
    assert bytes(await proxy.read(file, 0, 9)) == b"abc"
    await expire(upstream, proxy, file)
    assert await proxy.write(file, 3, b"d") == 1
    await expire(upstream, proxy, file)
    await proxy.close(file, sync=True)
    assert (await proxy.stat("/f")).size == 4


async def test_an_expired_handle_follows_a_rename_made_here(upstream: Server):
    proxy = await make_proxy(upstream, cache_bytes=0)
    await proxy.open("/d", OpenFlags(create=True, directory=True))
    await put(proxy, "/d/f", b"moved")
    file, _ = await proxy.open("/d/f", READ)
    await proxy.wstat("/d", StatChanges(name="/e"))
    await expire(upstream, proxy, file)
    assert bytes(await proxy.read(file, 0, 9)) == b"moved"


async def test_an_expired_handle_never_becomes_another_file(upstream: Server):
    """A file that was removed or replaced through this mount is not found again by its name."""
    proxy = await make_proxy(upstream, cache_bytes=0)
    for gone in (proxy.remove("/f"), put(proxy, "/f", b"other")):
        await put(proxy, "/f", b"old")
        file, _ = await proxy.open("/f", READ)
        await gone
        await put(proxy, "/f", b"new")
        await expire(upstream, proxy, file)
        with pytest.raises(InvalidHandle):
            await proxy.read(file, 0, 9)
        await proxy.close(file)


# -- Trying again -------------------------------------------------------------------------------


async def test_what_is_safe_is_tried_again(upstream: Server, wire: Wire):
    """Reads come back after a broken connection; a rename, which may have been done, does not."""
    proxy = await make_proxy(upstream, transport=wire)
    await put(proxy, "/f", b"x")
    wire.break_next = 2
    assert (await proxy.stat("/f")).size == 1
    wire.break_next = 1
    with pytest.raises(Transient):
        await proxy.wstat("/f", StatChanges(name="/g"))
    assert not wire.break_next
    assert (await proxy.stat("/f")).size == 1


async def test_an_upstream_that_fails_is_left_alone(upstream: Server, wire: Wire):
    """After some failures nothing is sent for a while; then one call finds out."""
    clock = ManualClock()
    proxy = await make_proxy(upstream, transport=wire, clock=clock, retries=NEVER)
    wire.break_next = FAILURES_MAX
    for _ in range(FAILURES_MAX):
        with pytest.raises(Transient):
            await proxy.stat("/")
    sent = len(wire.requests)
    with pytest.raises(CircuitBreakerOpen, match=r"fs9\.test"):
        await proxy.stat("/")
    assert len(wire.requests) == sent
    clock.advance(RECOVERY_S)
    assert (await proxy.stat("/")).is_dir


async def test_errors_about_files_do_not_open_the_breaker(upstream: Server, wire: Wire):
    proxy = await make_proxy(upstream, transport=wire)
    for _ in range(FAILURES_MAX + 1):
        with pytest.raises(NotFound):
            await proxy.stat("/missing")


# -- The token ----------------------------------------------------------------------------------


async def test_a_token_is_replaced_before_it_expires(start_server: StartServer):
    clock = ManualClock()
    server = await start_server(auth=True, clock=clock, template=(MountSpec("/", "memfs"),))
    assert server.transport is not None
    wire = Wire(server.transport)
    first = token("default", "admin", clock=clock)
    proxy = await make_proxy(server, tenant="default", transport=wire, clock=clock, token=first)
    await proxy.stat("/")
    assert wire.names().count("refresh") == 0
    clock.advance(500)  # of 600
    await proxy.stat("/")
    clock.advance(3000)  # the first one has expired, and its grace with it
    await proxy.stat("/")
    assert wire.names().count("refresh") == 1
    assert wire.requests[-1].headers["authorization"] != f"Bearer {first}"


async def test_an_expired_token_is_replaced_when_it_is_refused(start_server: StartServer):
    """One that cannot be replaced is an error of the mount, not of who asks."""
    clock = ManualClock()
    server = await start_server(auth=True, clock=clock, template=(MountSpec("/", "memfs"),))
    wrong = token("default", "admin", clock=clock)[:-6] + "AAAAAA"
    proxy = await make_proxy(server, tenant="default", clock=clock, token=wrong)
    with pytest.raises(Remote, match=r"remote error from http://fs9\.test/default"):
        await proxy.stat("/")
    for none in ("opaque", "a.b.c"):
        proxy = await make_proxy(server, tenant="default", clock=clock, token=none)
        with pytest.raises(Remote):
            await proxy.stat("/")


# -- Errors -------------------------------------------------------------------------------------


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


# -- Reading what was read before ---------------------------------------------------------------


async def test_what_was_read_is_not_fetched_again(upstream: Server, wire: Wire):
    clock = ManualClock()
    proxy = await make_proxy(upstream, transport=wire, clock=clock)
    content = bytes(i * 7 % 251 for i in range(3 * BLOCK_BYTES + 100))
    await put(proxy, "/f", content)
    wire.requests.clear()
    for _ in range(3):
        file, _ = await proxy.open("/f", READ)
        for offset, size in (
            (0, 10),
            (BLOCK_BYTES - 5, 10),
            (5, 3 * BLOCK_BYTES),
            (len(content), 5),
        ):
            assert bytes(await proxy.read(file, offset, size)) == content[offset : offset + size]
        await proxy.close(file)
    assert wire.names().count("download") == 3  # the first block, the second, the others
    assert "read" not in wire.names()


async def test_an_upstream_that_sends_no_versions_is_asked_once():
    """Older ones have etags in infos and none in downloads: there is nothing to cache."""
    info = {"path": "/f", "size": 3, "file_type": "regular", "mode": 0o644, "uid": 0, "gid": 0}
    times = {"atime": 1, "mtime": 1, "ctime": 1}
    asked: list[str] = []

    def answer(path: str) -> tuple[int, Any]:
        asked.append(path.rpartition("/")[2])
        if path.endswith("open"):
            return 200, {"handle_id": "1", "metadata": {**info, **times, "etag": "e1"}}
        return 200, 123

    proxy = await scripted(answer)
    asked.clear()
    for _ in range(2):
        file, _ = await proxy.open("/f", READ)
        assert bytes(await proxy.read(file, 0, 3)) == b"123"
    assert asked == ["open", "download", "read", "open", "read"]


async def test_a_change_is_seen_as_late_as_documented(upstream: Server, wire: Wire):
    """One made here at once, one made elsewhere after `cache_fresh_s`."""
    clock = ManualClock()
    proxy = await make_proxy(upstream, transport=wire, clock=clock, cache_fresh_s=5)
    await put(proxy, "/f", b"one")
    reader, _ = await proxy.open("/f", READ)
    assert bytes(await proxy.read(reader, 0, 9)) == b"one"
    writer, _ = await proxy.open("/f", OpenFlags(write=True))
    await proxy.write(writer, 0, b"two")
    assert bytes(await proxy.read(reader, 0, 9)) == b"two"
    reader, _ = await proxy.open("/f", READ)
    assert bytes(await proxy.read(reader, 0, 9)) == b"two"
    elsewhere = await make_proxy(upstream, tenant=proxy.tenant)  # type: ignore[attr-defined]
    other, _ = await elsewhere.open("/f", OpenFlags(write=True))
    await elsewhere.write(other, 0, b"six")
    assert bytes(await proxy.read(reader, 0, 9)) == b"two"
    clock.advance(5)
    assert bytes(await proxy.read(reader, 0, 9)) == b"six"
    wire.requests.clear()
    assert bytes(await proxy.read(reader, 0, 9)) == b"six"
    assert wire.names() == ["read"]


async def test_the_next_piece_is_asked_for_while_one_is_used(upstream: Server, wire: Wire):
    """From the start of a file on, as far as it goes; what cannot be used is asked for again."""
    clock = ManualClock()
    proxy = await make_proxy(upstream, transport=wire, clock=clock, cache_bytes=0)
    content = bytes(range(256)) * 4 * KIB
    await put(proxy, "/f", content)

    async def read(offset: int, size: int, calls: int) -> None:
        """One read, and how many calls there have been since the last."""
        assert bytes(await proxy.read(file, offset, size)) == content[offset : offset + size]
        for _ in range(50):
            await asyncio.sleep(0)  # the next call, if there is one, has begun
        assert wire.names().count("read") == calls
        wire.requests.clear()

    piece = 300 * KIB
    file, _ = await proxy.open("/f", READ)
    await read(0, piece, 2)
    await read(piece, piece, 1)
    await read(2 * piece, piece, 1)
    await read(3 * piece, MIB - 3 * piece, 0)
    await proxy.close(file)

    file, _ = await proxy.open("/f", READ)
    await read(0, 1000, 1)  # small
    await read(1000, piece, 2)
    await read(500_000, piece, 1)  # somewhere else
    await read(500_000 + piece, 1000, 1)
    await proxy.close(file)

    file, _ = await proxy.open("/f", READ)
    await read(0, piece, 2)
    writer, _ = await proxy.open("/f", OpenFlags(write=True))
    await proxy.write(writer, piece, b"new")
    content = content[:piece] + b"new" + content[piece + 3 :]
    await read(piece, piece, 1)
    await read(2 * piece, piece, 1)  # nothing ahead any more
    await proxy.close(file)

    file, _ = await proxy.open("/f", READ)
    await read(0, piece, 2)
    clock.advance(2)
    await read(piece, piece, 1)
    await proxy.close(file)


def test_the_cache_is_bounded():
    """The least recently used blocks go, and no file takes more than its share."""
    cache = BlockCache(10 * BLOCK_BYTES)
    assert cache.takes(2 * BLOCK_BYTES)
    assert not cache.takes(3 * BLOCK_BYTES)
    versions = [Version(f"/{number}", "e", BLOCK_BYTES) for number in range(40)]
    for version in versions:
        cache.put(version, 0, b"x" * BLOCK_BYTES)
        cache.get(versions[0], 0)
        assert cache.used_bytes <= 10 * BLOCK_BYTES
    assert cache.get(versions[0], 0) is not None
    assert cache.get(versions[1], 0) is None
    assert cache.get(Version("/39", "other", BLOCK_BYTES), 0) is None


# -- Replacing ----------------------------------------------------------------------------------


async def test_an_upload_is_streamed(upstream: Server, wire: Wire):
    """A large file goes on in pieces as it is written, in one request."""
    proxy = await make_proxy(upstream, transport=wire)
    wire.requests.clear()
    file, _ = await proxy.open("/big", REPLACE)
    for number in range(32):
        await proxy.write(file, number * 256 * KIB, bytes([number]) * (256 * KIB))
        assert wire.sent_bytes >= (number - 2) * 256 * KIB  # at most two pieces wait
    info = await proxy.close(file)
    assert info is not None
    assert info.size == 8 * MIB
    assert wire.names().count("upload") == 1


async def test_a_replacement_is_written_in_order(upstream: Server):
    proxy = await make_proxy(upstream)
    file, _ = await proxy.open("/f", REPLACE)
    await proxy.write(file, 0, b"ab")
    with pytest.raises(NotSupported):
        await proxy.write(file, 9, b"x")
    await proxy.close(file, discard=True)
    with pytest.raises(NotFound):
        await proxy.stat("/f")


async def test_an_upload_that_is_refused_says_why(start_server: StartServer):
    server = await start_server(
        template=(MountSpec("/", "memfs"),), write_body_bytes_max=MIB, read_whole_bytes_max=MIB
    )
    proxy = await make_proxy(server)
    file, _ = await proxy.open("/f", REPLACE)

    async def fill() -> None:
        for number in range(64):
            await proxy.write(file, number * MIB, bytes(MIB))

    with pytest.raises(PayloadTooLarge):
        await fill()
    await proxy.close(file, discard=True)


async def test_conditions_go_to_the_upstream(upstream: Server, wire: Wire):
    proxy = await make_proxy(upstream, transport=wire)
    await put(proxy, "/f", b"x")
    with pytest.raises(PreconditionFailed):
        await proxy.remove("/f", Condition(if_match=("other",)))
    assert wire.requests[-1].headers["if-match"] == '"other"'


# -- Mounts -------------------------------------------------------------------------------------


@pytest.fixture
def context(
    tmp_path: Path, limits: Limits, clock: ManualClock, pool: BlockingPool
) -> ProviderContext:
    return ProviderContext("acme", tmp_path, limits, clock, pool)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, "upstream"),
        ({"upstream": "files.example.com"}, "is not a URL"),
        ({"upstream": "http://x", "max_hops": 0}, "max_hops"),
        ({"upstream": "http://x", "max_hop": 3}, "did you mean 'max_hops'"),
        ({"upstream": "http://x", "token": "new\nline"}, "token"),
        ({"upstream": "http://x", "timeout_s": 0}, "timeout_s"),
    ],
)
async def test_an_unusable_config_is_refused(context: ProviderContext, config: Any, text: str):
    with pytest.raises(InvalidArgument, match=text):
        await ProxyFactory().create(config, context)


async def test_mounts_of_one_upstream_share_its_breaker(context: ProviderContext):
    """An upstream that is down does not keep a mount from being made."""
    upstreams = Upstreams()
    factory = ProxyFactory(upstreams)
    config = {"upstream": "http://127.0.0.1:9/one"}
    first = await factory.create(config, context)
    second = await factory.create({"upstream": "http://127.0.0.1:9/two", "max_hops": 5}, context)
    assert first._calls._breaker is second._calls._breaker
    with pytest.raises(BackendUnavailable):
        await first.stat("/")
    await first.aclose()
    await second.aclose()
    assert not upstreams._known


async def test_mounts_of_users_do_not_reach_this_host(context: ProviderContext):
    """Neither by an address nor by a name that means one; the operator's networks may be."""
    guarded = dataclasses.replace(context, addresses=AddressPolicy())
    for url in ("http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9", "http://10.0.0.1:9"):
        proxy = await ProxyFactory().create({"upstream": url}, guarded)
        with pytest.raises(PermissionDenied, match="not a public address"):
            await proxy.stat("/")
        await proxy.aclose()


async def test_the_end_of_a_token_is_read_from_it():
    """Claims of any shape that are none leave the token as it is."""

    def made(claims: Any) -> str:
        return "x." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode() + ".y"

    found = _claims_of(made({"exp": 5, "iat": 1, "sub": "a"}))
    assert found is not None
    assert (found.exp, found.iat) == (5, 1)
    for text in ("", "opaque", "a.b.c", "a.!.c", made([]), made({"exp": "soon"}), made({})):
        assert _claims_of(text) is None


async def test_tenants_are_kept_apart(upstream: Server):
    one, two = await make_proxy(upstream), await make_proxy(upstream, tenant=new_tenant())
    await put(one, "/f", b"x")
    with pytest.raises(NotFound):
        await two.stat("/f")


@pytest.mark.parametrize("provider", ["pubsubfs", "streamfs"])
async def test_a_topic_of_the_upstream_is_read_as_it_grows(
    start_server: StartServer, provider: str
):
    """What was kept at the open, then what comes; nothing twice, nothing from the cache."""
    mounts = (MountSpec("/", "memfs"), MountSpec("/t", provider))
    proxy = await make_proxy(await start_server(template=mounts))
    writer, _ = await proxy.open("/t/topic", OpenFlags(write=True, create=True))
    await proxy.write(writer, 0, b"one\n")
    reader, _ = await proxy.open("/t/topic", READ)
    read = b""
    for word in (b"", b"two\n", b"three\n"):
        if word:
            await proxy.write(writer, 0, word)
        read += bytes(await proxy.read(reader, len(read), 100))
        assert read.endswith(word or b"one\n")
        assert bytes(await proxy.read(reader, len(read), 100)) == b""
    assert read.split() == [b"one", b"two", b"three"]
    await put(proxy, "/t/topic", b"four\n")
    assert bytes(await proxy.read(reader, len(read), 100)).split() == [b"four"]


async def test_a_call_may_begin_outside_of_a_task(upstream: Server):
    """As workers step small operations; the connection is used by a task all the same."""
    proxy = await make_proxy(upstream)
    loop = asyncio.get_running_loop()
    call = proxy.stat("/")
    begun: asyncio.Future[Any] = loop.create_future()
    loop.call_soon(lambda: begun.set_result([call.send(None)]))
    (waits_for,) = await begun
    assert isinstance(waits_for, asyncio.Task)
    await asyncio.wait([waits_for])
    with pytest.raises(StopIteration) as done:
        call.send(None)
    assert done.value.value.is_dir
