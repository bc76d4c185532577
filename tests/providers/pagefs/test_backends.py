"""A mount's configuration: what it gives, and that an unusable one is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fs9.clock import ManualClock
from fs9.errors import InvalidArgument, PermissionDenied
from fs9.limits import Limits
from fs9.providers.pagefs import backends
from fs9.providers.pagefs.fsck import Checker
from fs9.providers.registry import ProviderContext
from fs9.types import REPLACE, StatChanges
from tests.providers.pagefs.scenario import is_there, write
from tests.providers.pagefs.test_branches import content

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.threads import BlockingPool


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def context(tmp_path: Path, clock: ManualClock, pool: BlockingPool) -> ProviderContext:
    return ProviderContext("acme", tmp_path, Limits(), clock, pool)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"backend": {"type": "tikv"}}, "not supported; use"),
        ({"backend": {"type": "lmbd"}}, "did you mean 'lmdb'"),
        ({"backend": {"type": 5}}, "must be a text"),
        ({"backend": {"type": "lmdb", "blocks": {"type": "fils"}}}, "did you mean 'files'"),
        ({"backend": {"type": "lmdb", "bloks": {}}}, "did you mean 'blocks'"),
        ({"bakend": {}}, "did you mean 'backend'"),
        ({"uid": -1}, "uid must be"),
        ({"inline_bytes": 10**6}, "inline_bytes must be"),
        ({"trash_retention_secs": -1}, "cannot be negative"),
    ],
)
async def test_an_unusable_configuration(
    config: dict[str, Any], message: str, context: ProviderContext
) -> None:
    """It fails where the mount is made, and says what was meant; nothing is stored instead."""
    with pytest.raises(InvalidArgument, match=message):
        await backends.create(config, context)
    assert not (context.data_dir / "pagefs").exists()


async def test_files_belong_to_the_configured_owner(context: ProviderContext) -> None:
    """In stat, in a listing and at open."""
    fs = await backends.create({"uid": 7, "gid": 8}, context)
    await write(fs, "/f", b"x")
    for info in (await fs.stat("/"), await fs.stat("/f"), *await fs.readdir("/", "", 9)):
        assert (info.uid, info.gid) == (7, 8)
    await fs.aclose()


async def test_what_is_replaced_goes_to_the_trash(
    context: ProviderContext, clock: ManualClock
) -> None:
    """By a rename and by a new version; counted as before, and gone in time."""
    fs = await backends.create({"trash_retention_secs": 100}, context)
    await write(fs, "/a", b"first")
    await write(fs, "/b", b"second")
    counted = fs.core.head.counters.files
    await fs.wstat("/b", StatChanges(name="/a"))
    file, _ = await fs.open("/a", REPLACE)
    await fs.write(file, 0, b"third")
    await fs.close(file)
    assert fs.core.head.counters.files == counted + 1
    infos = await fs.readdir("/.trash", "", 9)
    assert [info.path.partition("~")[2] for info in infos] == ["a", "a"]
    texts = [await content(fs, info.path) for info in infos]
    assert sorted(texts) == [b"first", b"second"]
    # Out of the trash again, over what is there.
    await fs.wstat(infos[0].path, StatChanges(name="/a"))
    assert len(await fs.readdir("/.trash", "", 9)) == 2
    assert (await Checker(fs).check()).faults == []
    clock.advance(200)
    file, _ = await fs.open("/a", REPLACE)
    await fs.close(file)
    assert len(await fs.readdir("/.trash", "", 9)) == 1
    await fs.aclose()


async def test_the_trash(context: ProviderContext, clock: ManualClock) -> None:
    """A removed file can be taken back until its time is over; the root does not list it."""
    fs = await backends.create({"trash_retention_secs": 100}, context)
    await write(fs, "/f", b"kept")
    await write(fs, "/g", b"other")
    await fs.remove("/f")
    assert [info.path for info in await fs.readdir("/", "", 9)] == ["/g"]
    (info,) = await fs.readdir("/.trash", "", 9)
    assert info.path.endswith("~f")
    assert await content(fs, info.path) == b"kept"
    with pytest.raises(PermissionDenied):
        await fs.remove("/.trash")
    clock.advance(101)
    await fs.remove("/g")
    assert not await is_there(fs, info.path)
    (info,) = await fs.readdir("/.trash", "", 9)
    await fs.remove(info.path)
    assert await fs.readdir("/.trash", "", 9) == []
    await fs.aclose()
