"""A lease in a bucket, on a real server: one holder at a time, whose life the others wait out."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import obstore
import pytest

from fs9.clock import SystemClock
from fs9.errors import BackendUnavailable, OwnerUnavailable, Timeout
from fs9.providers.pagefs.s3client import Bucket, S3Client
from fs9.providers.pagefs.s3lease import S3Lease
from tests.fault_proxy import FaultProxy

if TYPE_CHECKING:
    from tests.fix_s3 import S3Server

_numbers = itertools.count()
_DEADLINE_S = 30
LeaseOf: TypeAlias = Callable[..., S3Lease]


@pytest.fixture
def lease_of(s3: S3Server, s3_bucket: str) -> LeaseOf:
    """`lease_of("host")`: all on the same storage."""
    path = f"leases/{next(_numbers)}/lease"

    def lease_of(
        holder: str, ttl_s: float = 30.0, endpoint: str = s3.url, deadline_s: float = 10.0
    ) -> S3Lease:
        settings = s3.settings | {"endpoint": endpoint}
        bucket = Bucket(s3_bucket, **settings, deadline_s=deadline_s)  # type: ignore[arg-type]
        return S3Lease(S3Client(bucket, SystemClock()), path, holder, SystemClock(), ttl_s)

    return lease_of


async def freeze(lease: S3Lease) -> None:
    """As a stopped process: it renews nothing."""
    assert lease._renewing is not None
    lease._renewing.cancel()
    await asyncio.wait([lease._renewing])


async def test_one_holder_at_a_time(lease_of: LeaseOf) -> None:
    """Another host is refused; let go, it is had at once."""
    first, second = lease_of("a"), lease_of("b")
    await first.take(0)
    with pytest.raises(OwnerUnavailable, match="another host serves"):
        await second.take(0)
    await first.renew()
    assert not first.over
    await first.aclose()
    await second.take(0)
    assert not second.over
    await second.aclose()


async def test_who_lives_keeps_it(lease_of: LeaseOf) -> None:
    """Longer than its time to live, by its renewals alone."""
    first, second = lease_of("a", 1.0), lease_of("b", 1.0)
    await first.take(0)
    with pytest.raises(OwnerUnavailable):
        await second.take(4.0)
    assert not first.lost
    await first.aclose()


async def test_who_was_away_too_long_has_lost_it(lease_of: LeaseOf) -> None:
    """It relies on it no longer by then, and hears of its loss at its next renewal."""
    first, second, lost = lease_of("a", 1.0), lease_of("b"), []
    await first.take(0)
    first.when_lost(lambda: lost.append(1))
    await freeze(first)
    await second.take(_DEADLINE_S)
    assert first.over
    await first.renew()
    with pytest.raises(OwnerUnavailable, match="taken over"):
        first.check()
    await first.aclose()
    await second.renew()
    second.check()
    await asyncio.sleep(0)
    assert lost == [1]
    await second.aclose()


async def test_the_same_host_does_not_wait_for_itself(lease_of: LeaseOf) -> None:
    """Its workers exclude one another by file locks; one that was killed let nothing go."""
    first, second = lease_of("a"), lease_of("a")
    await first.take(0)
    await second.take(0)
    await first.renew()
    assert first.lost
    await first.aclose()
    await second.renew()
    second.check()
    await second.aclose()


async def test_of_many_one_gets_it(lease_of: LeaseOf) -> None:
    leases = [lease_of(f"host {number}") for number in range(8)]
    done = await asyncio.gather(*(lease.take(0) for lease in leases), return_exceptions=True)
    got = [lease for lease, outcome in zip(leases, done, strict=True) if outcome is None]
    assert len(got) == 1
    assert sum(isinstance(outcome, OwnerUnavailable) for outcome in done) == 7
    await got[0].aclose()


async def test_a_put_whose_answer_was_lost_is_ours(s3: S3Server, lease_of: LeaseOf) -> None:
    """Sent again it meets the version that it made itself."""
    async with FaultProxy(s3.port) as proxy:
        first = lease_of("a", endpoint=f"http://127.0.0.1:{proxy.port}")
        await first.take(0)
        proxy.set("cut", times=1)
        await first.renew()
        first.check()
        assert proxy.faults == 1
        await first.aclose()


async def test_what_cannot_be_reached(s3: S3Server, lease_of: LeaseOf) -> None:
    """It is an error, and no loss: nobody else has it yet."""
    async with FaultProxy(s3.port) as proxy:
        first = lease_of("a", endpoint=f"http://127.0.0.1:{proxy.port}", deadline_s=1.0)
        await first.take(0)
        proxy.set("silent")
        with pytest.raises(Timeout):
            await first.renew()
        proxy.set("pass")
        await first.renew()
        first.check()
        await first.aclose()


async def test_a_lease_that_cannot_be_read(lease_of: LeaseOf) -> None:
    """It is no free lease."""
    lease = lease_of("a")
    await obstore.put_async(lease._client.store, lease._path, b"{")
    with pytest.raises(BackendUnavailable, match="cannot be read"):
        await lease.take(0)


async def test_one_that_is_erased_while_another_takes_it(
    lease_of: LeaseOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken as one that never was; Amazon answers 404 then, where others say 412."""
    first, second = lease_of("a"), lease_of("b")
    await first.take(0)
    await first.aclose()
    put = second._put

    async def put_after_the_end(holder: str, etag: str | None) -> str | None:
        if etag is not None:
            await first.erase()
            raise FileNotFoundError("put")
        return await put(holder, etag)

    with monkeypatch.context() as patched:
        patched.setattr(second, "_put", put_after_the_end)
        await second.take(_DEADLINE_S)
    await second.renew()
    second.check()
    await second.aclose()
