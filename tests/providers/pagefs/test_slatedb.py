"""The SlateDB store keeps the contract; its own fencing is ours."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from fs9.clock import SystemClock
from fs9.errors import Fs9Error, OwnerUnavailable
from fs9.providers.pagefs import slatestore
from fs9.providers.pagefs.s3blocks import S3Blocks
from fs9.providers.pagefs.s3client import Bucket, S3Client
from fs9.providers.pagefs.s3lease import S3Lease
from fs9.providers.pagefs.store import Batch
from tests.providers.pagefs.store_suite import END, MetaStoreSuite, OpenStore

if TYPE_CHECKING:
    from fs9.providers.pagefs.slatestore import SlateStore
    from tests.fix_s3 import S3Server

_numbers = itertools.count()


@pytest.fixture
def open_store(s3: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> OpenStore:
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    path = f"test/{next(_numbers)}/meta"

    async def open_store() -> SlateStore:
        client = S3Client(Bucket(s3_bucket), SystemClock())
        lease = S3Lease(client, f"{path}-lease", "host", SystemClock(), 30.0)
        await lease.take(0)
        objects = S3Blocks(S3Client(Bucket(s3_bucket, path), SystemClock()))
        return await slatestore.open_store(s3_bucket, path, lease, objects, timeout_s=30.0)

    return open_store


class TestSlateStore(MetaStoreSuite):
    pass


async def test_the_owner_hears_of_its_loss(open_store: OpenStore) -> None:
    """At the latest with its next commit; then nothing is read from memory either."""
    old, lost = await open_store(), []
    old.when_lost(lambda: lost.append(1))
    await old.commit(Batch({b"a": b"1"}))
    new = await open_store()
    await new.commit(Batch({b"a": b"2"}))
    with pytest.raises(OwnerUnavailable):
        await old.commit(Batch({b"a": b"3"}))
    with pytest.raises(OwnerUnavailable):
        await old.get(b"a")
    await old.aclose()
    assert lost == [1]
    assert await new.scan(b"", END, 9) == [(b"a", b"2")]
    await new.aclose()


async def test_a_missing_bucket_is_an_error(s3: S3Server, monkeypatch) -> None:
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    client = S3Client(Bucket("no-such-bucket"), SystemClock())
    lease = S3Lease(client, "lease", "host", SystemClock(), 30.0)
    with pytest.raises(Fs9Error):
        await lease.take(0)
    objects = S3Blocks(client)
    with pytest.raises(Fs9Error):
        await slatestore.open_store("no-such-bucket", "meta", lease, objects, timeout_s=3.0)
