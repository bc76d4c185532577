"""fs9.providers.kvstore: keys on disk, what they survive, and how changes are committed."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from fs9.clock import SystemClock
from fs9.errors import (
    AlreadyExists,
    BackendUnavailable,
)
from fs9.limits import MIB, Limits
from fs9.providers import kvfs, kvstore
from fs9.providers.registry import ProviderContext
from fs9.quota import Quota
from fs9.types import MKDIR, REPLACE
from tests.conformance.driver import ProviderDriver
from tests.conformance.steps import content_of, make_directory, make_file
from tests.providers.killed import last_answered

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.providers.kvfs import KvFs
    from fs9.threads import BlockingPool


@pytest.fixture
def disk(tmp_path: Path, pool: BlockingPool) -> Any:
    async def open_kv(mount: str = "/", namespace: str = "acme") -> KvFs:
        quota = Quota()
        context = ProviderContext(namespace, tmp_path, Limits(), SystemClock(), pool, quota, mount)
        return await kvfs.create({}, context)

    return open_kv


async def test_keys_last(disk: Any):
    """Closed and opened again, everything is there, with its etag; each mount has its own."""
    first = await disk()
    kv = ProviderDriver(first)
    await make_directory(kv, "/d")
    await make_file(kv, "/d/k", b"v" * 100_000)
    before = await kv.readdir("/d")
    staged, _ = await kv.open("/d/staged", REPLACE)  # and is never closed
    await kv.write(staged, 0, b"gone")
    await kv.aclose()
    kv = ProviderDriver(await disk())
    assert await kv.readdir("/d") == before
    assert await content_of(kv, "/d/k") == b"v" * 100_000
    counters = kv.provider._writer.counters
    assert (counters.bytes_used, counters.files) == (100_000, 3)
    for other in (await disk(mount="/m"), await disk(namespace="beta")):
        assert await other.readdir("/", "", 10) == []
        await other.aclose()
    await kv.aclose()


async def test_the_map_grows(disk: Any, monkeypatch: pytest.MonkeyPatch):
    """A store that is full gets a larger map, and the change that did not fit is made."""
    monkeypatch.setattr(kvstore, "_MAP_BYTES", MIB)
    kv = ProviderDriver(await disk())
    content = random.Random(1).randbytes(5 * MIB)
    await make_file(kv, "/f", content)
    assert await content_of(kv, "/f") == content
    await kv.aclose()
    kv = ProviderDriver(await disk())
    assert await content_of(kv, "/f") == content
    await kv.aclose()


async def test_many_changes_share_a_commit(disk: Any, monkeypatch: pytest.MonkeyPatch):
    """Fifty who write at once wait for few commits, and each gets its own answer."""
    provider = await disk()
    kv = ProviderDriver(provider)
    commits = []
    apply = provider._store.apply
    monkeypatch.setattr(provider._store, "apply", lambda c: commits.append(len(c)) or apply(c))
    outcomes = await asyncio.gather(
        *(kv.open(f"/k{n % 40}", MKDIR) for n in range(50)), return_exceptions=True
    )
    assert sum(isinstance(outcome, AlreadyExists) for outcome in outcomes) == 10
    assert sum(commits) == 50
    assert len(commits) <= 3
    await kv.aclose()


def test_an_event_loop_that_ends_waits_for_nothing(tmp_path: Path, pool: BlockingPool):
    """Changes that are cut off with everything else do not keep the process from its end."""

    async def main() -> None:
        context = ProviderContext("acme", tmp_path, Limits(), SystemClock(), pool)
        kv = await kvfs.create({}, context)
        for number in range(200):
            asyncio.get_running_loop().create_task(kv.open(f"/{number}", MKDIR))
        await asyncio.sleep(0)

    asyncio.run(main())


async def test_a_directory_that_is_no_store(disk: Any, tmp_path: Path):
    provider = await disk()
    directory = provider._directory
    await provider.aclose()
    (directory / "data.mdb").write_bytes(b"not a store" * 10_000)
    with pytest.raises(BackendUnavailable, match="kvfs"):
        await disk()


#: For `last_answered`.
_VICTIM = """
import asyncio, sys
from pathlib import Path
from fs9.clock import SystemClock
from fs9.limits import Limits
from fs9.providers import kvfs
from fs9.providers.registry import ProviderContext
from fs9.threads import BlockingPool
from fs9.types import REPLACE, OpenFlags, StatChanges

async def main():
    context = ProviderContext("acme", Path(sys.argv[1]), Limits(), SystemClock(), BlockingPool(2))
    kv = await kvfs.create({}, context)
    number = 0
    while True:
        number += 1
        path = f"/k{number % 7}"
        file, _ = await kv.open(path, REPLACE)
        await kv.write(file, 0, b"%09d" % number * 5000)
        await kv.close(file)
        print(number, flush=True)
        await kv.wstat(path, StatChanges(name="/moved"))
        file, _ = await kv.open("/moved", OpenFlags(write=True, append=True))
        await kv.write(file, 0, b"+")
        await kv.close(file)
        await kv.wstat("/moved", StatChanges(name=path))

asyncio.run(main())
"""


async def test_killed_at_any_time(disk: Any, tmp_path: Path):
    """What was answered is there, whole; nothing is half; the counts agree with the tree."""
    dice = random.Random()
    for _ in range(4):
        answered = last_answered(_VICTIM, tmp_path, dice.randrange(2, 40))
        kv = ProviderDriver(await disk())
        seen = []
        for info in await kv.readdir("/"):
            content = await content_of(kv, info.path)
            number = content[:9]
            assert content in (number * 5000, number * 5000 + b"+")
            seen.append((int(number), info.size))
        assert max(number for number, _ in seen) >= answered
        counters = kv.provider._writer.counters
        assert counters.files == 1 + len(seen)
        assert counters.bytes_used == sum(size for _, size in seen)
        await kv.aclose()
