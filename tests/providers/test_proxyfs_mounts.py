"""proxyfs: what is mounted, for whom, and what mounts of one upstream share."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import (
    BackendUnavailable,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from fs9.providers.policy import AddressPolicy
from fs9.providers.proxyfs import ProxyFactory
from fs9.providers.proxyfs_upstream import Upstreams, _claims_of
from fs9.providers.registry import ProviderContext
from fs9.types import (
    READ,
    MountSpec,
    OpenFlags,
)
from tests.fix_http import Server, StartServer, new_tenant, start_server
from tests.fix_proxy import make_proxy
from tests.providers.fix_proxyfs import put, upstream

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.limits import Limits
    from fs9.threads import BlockingPool

__all__ = ["start_server", "upstream"]


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
