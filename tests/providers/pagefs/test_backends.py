"""A mount's configuration: what it gives, and that an unusable one is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fs9.clock import ManualClock
from fs9.errors import AlreadyExists, InvalidArgument, PermissionDenied
from fs9.limits import Limits
from fs9.providers.pagefs import backends
from fs9.providers.pagefs.fsck import Checker
from fs9.providers.registry import ProviderContext
from fs9.types import MKDIR, REPLACE, OpenFlags, StatChanges
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


TRASHED = {"trash_retention_secs": 100}


async def test_into_the_trash_leads_removal_alone(context: ProviderContext) -> None:
    """What else is written or made there would never expire; out of it a file is renamed back."""
    fs = await backends.create(TRASHED, context)
    await write(fs, "/f", b"kept")
    await write(fs, "/g", b"other")
    await fs.remove("/f")
    (info,) = await fs.readdir("/.trash", "", 9)
    new = "/.trash/new"
    for refused in (
        fs.open(new, OpenFlags(write=True, create=True)),
        fs.open(new, REPLACE),
        fs.open(new, MKDIR),
        fs.open(info.path, OpenFlags(write=True)),
        fs.open(info.path, REPLACE),
        fs.open("/.trash/d/f", REPLACE),
        fs.wstat(new, StatChanges(symlink_target="x")),
        fs.wstat(info.path, StatChanges(size=0)),
        fs.wstat(info.path, StatChanges(mtime_ns=5)),
        fs.wstat("/g", StatChanges(name=new)),
        fs.wstat("/g", StatChanges(name=info.path)),
        fs.wstat(info.path, StatChanges(name=new)),
        fs.link("/g", new),
    ):
        with pytest.raises(PermissionDenied, match="takes what is removed"):
            await refused
    with pytest.raises(AlreadyExists):
        await fs.open("/.trash", MKDIR)
    await fs.wstat(info.path, StatChanges())
    assert await content(fs, info.path) == b"kept"
    await fs.wstat(info.path, StatChanges(name="/f"))
    assert await content(fs, "/f") == b"kept"
    await fs.aclose()


async def test_a_fork_s_trash_is_a_directory_like_any_other(context: ProviderContext) -> None:
    """Nothing goes there, and nothing in it expires."""
    fs = await backends.create(TRASHED, context)
    await write(fs, "/f", b"kept")
    await fs.remove("/f")
    await fs.branches.fork("x")
    await write(fs, "/.forks/x/.trash/new", b"x")
    await fs.remove("/.forks/x/.trash/new")
    assert len(await fs.readdir("/.forks/x/.trash", "", 9)) == 1
    await fs.aclose()


async def test_what_was_made_in_the_trash_before_hinders_nothing(
    context: ProviderContext, clock: ManualClock
) -> None:
    """Files of a time without retention stay; those that were removed go in time."""
    fs = await backends.create(TRASHED, context)
    await fs.aclose()
    fs = await backends.create({}, context)
    for name in ("!first", "zlast"):
        await write(fs, f"/.trash/{name}", b"x")
    with pytest.raises(PermissionDenied):
        await fs.wstat("/.trash", StatChanges(name="/elsewhere"))
    await fs.aclose()
    fs = await backends.create(TRASHED, context)
    for number in range(3):
        await write(fs, f"/f{number}", b"x")
        await fs.remove(f"/f{number}")
    clock.advance(200)
    await write(fs, "/last", b"x")
    await fs.remove("/last")
    names = [info.path.rpartition("~")[2] for info in await fs.readdir("/.trash", "", 9)]
    assert names == ["/.trash/!first", "last", "/.trash/zlast"]
    await fs.remove("/.trash/!first")
    await fs.aclose()


async def test_a_tree_without_a_trash_gets_one(context: ProviderContext) -> None:
    """One whose users have a /.trash of their own, which keeps its files; one that is restored."""
    fs = await backends.create({}, context)
    await fs.open("/.trash", MKDIR)
    await write(fs, "/.trash/mine", b"mine")
    await write(fs, "/.trash-1", b"taken")
    await write(fs, "/f", b"kept")
    await fs.branches.snapshot("s")
    await fs.aclose()
    fs = await backends.create(TRASHED, context)
    for _ in range(2):
        assert await content(fs, "/.trash-2/mine") == b"mine"
        await fs.remove("/f")
        (info,) = await fs.readdir("/.trash", "", 9)
        assert await content(fs, info.path) == b"kept"
        assert (await Checker(fs).check()).faults == []
        await fs.branches.restore("s")
    await fs.aclose()
