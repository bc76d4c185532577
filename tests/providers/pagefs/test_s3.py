"""The S3 block store keeps the contract, and gets over what a network and a busy server do."""

from __future__ import annotations

import dataclasses
import itertools
import random
import re
from typing import TYPE_CHECKING

import pytest

from fs9.clock import SystemClock
from fs9.errors import BackendUnavailable, InvalidArgument, Timeout
from fs9.providers.pagefs import s3blocks
from fs9.providers.pagefs.s3blocks import Bucket, S3Blocks
from tests.fault_proxy import FaultProxy, Mode
from tests.providers.pagefs.block_suite import BlockStoreSuite, OpenBlocks, name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fix_s3 import S3Server

_numbers = itertools.count()


@pytest.fixture
def bucket(s3: S3Server, s3_bucket: str) -> Bucket:
    return Bucket(s3_bucket, f"test/{next(_numbers)}", **s3.settings)


class TestS3Blocks(BlockStoreSuite):
    @pytest.fixture
    def open_blocks(self, bucket: Bucket) -> OpenBlocks:
        async def open_blocks() -> S3Blocks:
            return await s3blocks.open_blocks(bucket, SystemClock())

        return open_blocks


@pytest.fixture
async def proxy(s3: S3Server) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(s3.port) as proxy:
        yield proxy


async def through(proxy: FaultProxy, bucket: Bucket, **changes: float) -> S3Blocks:
    endpoint = f"http://127.0.0.1:{proxy.port}"
    changed = dataclasses.replace(bucket, endpoint=endpoint, **changes)
    return await s3blocks.open_blocks(changed, SystemClock())


@pytest.mark.parametrize("mode", ["error", "refuse", "cut"])
async def test_faults_that_pass_are_not_seen(proxy: FaultProxy, bucket: Bucket, mode: Mode) -> None:
    """Answers of 500, connections that end before and after the request: it is done in the end."""
    blocks = await through(proxy, bucket)
    data = random.Random(1).randbytes(100_000)
    for call in ("put", "get", "list", "delete"):
        proxy.set(mode, times=3)
        match call:
            case "put":
                await blocks.put(name(1, 1), 0, data)
            case "get":
                assert bytes(await blocks.get(name(1, 1), 5, 100)) == data[5:105]
            case "list":
                assert await blocks.list("", "", 9) == [(name(1, 1), len(data))]
            case "delete":
                await blocks.delete([name(1, 1)])
                assert await blocks.list("", "", 9) == []
    assert proxy.faults >= 12


async def test_requests_without_an_answer_are_sent_again(proxy: FaultProxy, bucket: Bucket) -> None:
    blocks = await through(proxy, bucket, request_s=0.5)
    proxy.set("silent", times=2)
    await blocks.put(name(1, 1), 0, b"data")
    assert proxy.faults == 2
    assert bytes(await blocks.get(name(1, 1), 0, 9)) == b"data"


async def test_slow_answers_are_waited_for(proxy: FaultProxy, bucket: Bucket) -> None:
    blocks = await through(proxy, bucket)
    proxy.delay_s = 0.3
    await blocks.put(name(1, 1), 0, b"data")
    assert bytes(await blocks.get(name(1, 1), 0, 9)) == b"data"


@pytest.mark.parametrize(("mode", "kind"), [("error", BackendUnavailable), ("silent", Timeout)])
async def test_faults_that_stay_are_errors_by_the_deadline(
    proxy: FaultProxy, bucket: Bucket, mode: Mode, kind: type[Exception]
) -> None:
    """And what was there before is there when they have passed."""
    blocks = await through(proxy, bucket, request_s=0.3, deadline_s=1.0)
    await blocks.put(name(1, 1), 0, b"kept")
    proxy.set(mode)
    with pytest.raises(kind):
        await blocks.put(name(1, 2), 0, b"lost")
    with pytest.raises(kind):
        await blocks.get(name(1, 1), 0, 4)
    proxy.set("pass")
    assert bytes(await blocks.get(name(1, 1), 0, 9)) == b"kept"


async def test_a_missing_bucket_is_said_at_once(bucket: Bucket) -> None:
    missing = dataclasses.replace(bucket, name="no-such-bucket")
    with pytest.raises(InvalidArgument, match=re.escape("'no-such-bucket' does not exist")):
        await s3blocks.open_blocks(missing, SystemClock())


async def test_wrong_credentials_are_said_at_once(bucket: Bucket) -> None:
    wrong = dataclasses.replace(bucket, secret_access_key="another")
    with pytest.raises(BackendUnavailable, match="credentials"):
        await s3blocks.open_blocks(wrong, SystemClock())
