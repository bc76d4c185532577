"""What the tests of localfs do all the time: whole-file calls, and the constants for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.clock import SystemClock
from fs9.limits import Limits
from fs9.providers.registry import ProviderContext
from fs9.types import (
    ALWAYS,
    READ,
    REPLACE,
    Condition,
    OpenFlags,
)

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.providers.localfs import LocalFs
    from fs9.threads import BlockingPool

ANY = Condition(if_match=("*",))
ABSENT = Condition(if_none_match=("*",))
STALE = Condition(if_match=("stale",))
CREATE = OpenFlags(write=True, create=True)
BOTH = OpenFlags(read=True, write=True)
BYTES_MAX = 1 << 40


async def content(local: LocalFs, path: str) -> bytes:
    file, _ = await local.open(path, READ)
    try:
        return bytes(await local.read(file, 0, 10_000_000))
    finally:
        await local.close(file)


async def put(local: LocalFs, path: str, data: bytes, condition: Condition = ALWAYS, **close):
    file, _ = await local.open(path, REPLACE, condition)
    if data:
        assert await local.write(file, 0, data) == len(data)
    return await local.close(file, **close)


async def made(local: LocalFs, path: str, flags: OpenFlags, condition: Condition = ALWAYS):
    file, info = await local.open(path, flags, condition)
    await local.close(file)
    return info


async def names(local: LocalFs, path: str = "/", after: str = "", limit: int = 1000):
    return [info.path for info in await local.readdir(path, after, limit)]


def context(data_dir: Path, pool: BlockingPool, namespace: str = "ns") -> ProviderContext:
    return ProviderContext(namespace, data_dir, Limits(), SystemClock(), pool)
