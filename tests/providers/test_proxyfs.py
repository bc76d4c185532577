"""proxyfs: what it asks its upstream, and when it asks again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fs9.clock import ManualClock
from fs9.errors import (
    CircuitBreakerOpen,
    InvalidHandle,
    NotFound,
    NotSupported,
    PayloadTooLarge,
    PreconditionFailed,
    Remote,
    TooManyHops,
    Transient,
)
from fs9.limits import KIB, MIB
from fs9.providers.proxyfs_upstream import FAILURES_MAX, RECOVERY_S
from fs9.resilience.backoff import NEVER
from fs9.types import (
    READ,
    REPLACE,
    Condition,
    MountSpec,
    OpenFlags,
    StatChanges,
)
from fs9.wire.hops import hops_so_far
from tests.fix_http import Server, StartServer, start_server, token
from tests.fix_proxy import Wire, make_proxy
from tests.providers.fix_proxyfs import RW_CREATE, put, upstream, wire

if TYPE_CHECKING:
    from fs9.providers.proxyfs import ProxyFs

__all__ = ["start_server", "upstream", "wire"]

__all__ = ["start_server"]


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
