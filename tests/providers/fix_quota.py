"""Providers that charge a quota, and what they should have charged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fs9.clock import SystemClock
from fs9.errors import Fs9Error
from fs9.limits import Limits
from fs9.providers import localfs, memfs
from fs9.providers.registry import ProviderContext
from fs9.types import REPLACE, OpenFlags

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fs9.provider import Provider
    from fs9.quota import Quota
    from fs9.threads import BlockingPool

CREATE = OpenFlags(write=True, create=True)
APPEND = OpenFlags(write=True, create=True, append=True)
TRUNCATE = OpenFlags(write=True, create=True, truncate=True)


async def make_provider(kind: str, quota: Quota, directory: Path, pool: BlockingPool) -> Provider:
    context = ProviderContext("acme", directory, Limits(), SystemClock(), pool, quota)
    if kind == "memfs":
        return await memfs.create({}, context)
    return await localfs.create({"root": "{data_dir}/files"}, context)


@pytest.fixture(params=["memfs", "localfs"])
async def make(request, tmp_path: Path, pool: BlockingPool) -> AsyncIterator[Any]:
    made: list[Provider] = []

    async def make(quota: Quota) -> Provider:
        made.append(await make_provider(request.param, quota, tmp_path, pool))
        return made[-1]

    yield make
    for provider in made:
        await provider.aclose()


def used(quota: Quota) -> tuple[int, int]:
    return quota.bytes_used, quota.files_used


async def put(provider: Provider, path: str, data: bytes) -> None:
    file, _ = await provider.open(path, REPLACE)
    try:
        await provider.write(file, 0, data)
    except Fs9Error:
        await provider.close(file, discard=True)
        raise
    await provider.close(file)


async def walk(provider: Provider, path: str = "/") -> tuple[int, int]:
    """(bytes, files) that a client finds."""
    bytes_ = files = 0
    for info in await provider.readdir(path, "", 10_000):
        files += 1
        if info.is_dir:
            below = await walk(provider, info.path)
            bytes_, files = bytes_ + below[0], files + below[1]
        else:
            bytes_ += info.size
    return bytes_, files
