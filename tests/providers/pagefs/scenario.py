"""The operations of the fault matrix, the tree they work on, and what a tree looks like."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from fs9.errors import NotFound
from fs9.types import MKDIR, REPLACE, Condition, OpenFlags, StatChanges

if TYPE_CHECKING:
    from fs9.providers.pagefs.provider import PageFs
    from fs9.providers.pagefs.view import View

Operation: TypeAlias = Callable[["PageFs"], Awaitable[Any]]
CREATE = OpenFlags(read=True, write=True, create=True)
READ_WRITE = OpenFlags(read=True, write=True)
BIG = random.Random(1).randbytes(100_000)
NEW = random.Random(2).randbytes(60_000)


async def write(fs: PageFs, path: str, data: bytes, offset: int = 0, *, sync: bool = True) -> None:
    file, _ = await fs.open(path, CREATE)
    try:
        done = 0
        while done < len(data):
            done += await fs.write(file, offset + done, data[done:])
    finally:
        await fs.close(file, sync=sync)


async def make_tree(fs: PageFs, *, snapshot: bool) -> None:
    """Everything synced: this much must never be lost. The snapshot is called `old`."""
    for path in ("/d", "/d/e", "/empty"):
        file, _ = await fs.open(path, MKDIR)
        await fs.close(file)
    await write(fs, "/d/small", b"small content")
    await write(fs, "/d/big", BIG[:70_000])
    await write(fs, "/d/big", BIG[70_000:], 70_000)
    await write(fs, "/other", b"o" * 9000)
    await fs.wstat("/d/link", StatChanges(symlink_target="small"))
    await fs.link("/d/small", "/d/hard")
    await fs.tree.set_attribute(fs.core.head, "/d/small", "user.a", b"1")
    if snapshot:
        await fs.branches.snapshot("old")
    await write(fs, "/d/big", b"changed", 500)
    await fs.core.settle()


async def look(fs: PageFs) -> dict[str, Any]:
    """All that can be seen: the live tree, the branches, and what they count."""
    core = fs.core
    seen: dict[str, Any] = {}
    for view in [core.head, *core.forks.values(), *core.snapshots.values()]:
        await _look(fs, view, "/", seen)
    return seen


async def _look(fs: PageFs, view: View, path: str, seen: dict[str, Any]) -> None:
    number, inode = await fs.tree.find(view, path)
    content = b""
    if inode.kind == 1:
        content = bytes(await fs.content.read_inode(view, number, inode, 0, inode.size))
        assert len(content) == inode.size
    attributes = await fs.tree.attributes(view, path)
    seen[view.name + path] = (
        inode.kind,
        inode.mode,
        inode.nlink,
        inode.size,
        content,
        inode.target,
        attributes,
    )
    if inode.kind == 2:
        for info in await fs.tree.readdir(view, path, "", 1000):
            await _look(fs, view, info.path, seen)


# -- the operations ---------------------------------------------------------------------------


async def create(fs: PageFs) -> None:
    file, _ = await fs.open("/d/new", CREATE)
    await fs.close(file)


async def mkdir(fs: PageFs) -> None:
    await fs.open("/d/newdir", MKDIR)


async def symlink(fs: PageFs) -> None:
    await fs.wstat("/d/new", StatChanges(symlink_target="/x"))


async def link(fs: PageFs) -> None:
    await fs.link("/d/big", "/empty/big")


async def set_attribute(fs: PageFs) -> None:
    await fs.tree.set_attribute(fs.core.head, "/d/big", "user.b", b"2")


async def remove_attribute(fs: PageFs) -> None:
    await fs.tree.remove_attribute(fs.core.head, "/d/small", "user.a")


async def chmod(fs: PageFs) -> None:
    await fs.wstat("/d/big", StatChanges(mode=0o600, mtime_ns=5))


async def write_small(fs: PageFs) -> None:
    await write(fs, "/d/small", b"LARGE", sync=False)


async def write_middle(fs: PageFs) -> None:
    await write(fs, "/d/big", NEW[:5000], 40_000, sync=False)


async def append(fs: PageFs) -> None:
    await write(fs, "/d/big", NEW[:30_000], 100_000, sync=False)


async def write_far(fs: PageFs) -> None:
    await write(fs, "/d/small", b"far", 5_000_000, sync=False)


async def write_synced(fs: PageFs) -> None:
    await write(fs, "/d/big", NEW[:9000], 20_000)


async def truncate_to_nothing(fs: PageFs) -> None:
    await fs.wstat("/d/big", StatChanges(size=0))


async def shrink(fs: PageFs) -> None:
    await fs.wstat("/d/big", StatChanges(size=50_001))


async def grow(fs: PageFs) -> None:
    await fs.wstat("/d/big", StatChanges(size=300_000))


async def open_truncate(fs: PageFs) -> None:
    flags = OpenFlags(write=True, truncate=True)
    file, _ = await fs.open("/d/big", flags)
    await fs.close(file)


async def rename(fs: PageFs) -> None:
    await fs.wstat("/d/big", StatChanges(name="/d/bigger"))


async def rename_over(fs: PageFs) -> None:
    await fs.wstat("/other", StatChanges(name="/d/big"))


async def rename_across(fs: PageFs) -> None:
    await fs.wstat("/d", StatChanges(name="/empty"))


async def remove_small(fs: PageFs) -> None:
    await fs.remove("/d/small")


async def remove_big(fs: PageFs) -> None:
    await fs.remove("/d/big", Condition(if_match=("*",)))


async def rmdir(fs: PageFs) -> None:
    await fs.remove("/d/e")


async def remove_while_open(fs: PageFs) -> None:
    file, _ = await fs.open("/other", READ_WRITE)
    await fs.remove("/other")
    assert len(await fs.read(file, 0, 99_999)) == 9000
    await fs.close(file)


async def replace(fs: PageFs) -> None:
    file, _ = await fs.open("/d/big", REPLACE)
    await fs.write(file, 0, NEW)
    await fs.close(file, sync=True)


async def replace_with_little(fs: PageFs) -> None:
    file, _ = await fs.open("/d/small", REPLACE)
    await fs.write(file, 0, b"new")
    await fs.close(file)


async def discard(fs: PageFs) -> None:
    file, _ = await fs.open("/d/big", REPLACE)
    await fs.write(file, 0, NEW)
    await fs.close(file, discard=True)


async def snapshot(fs: PageFs) -> None:
    await fs.branches.snapshot("now")


async def delete_snapshot(fs: PageFs) -> None:
    await fs.branches.delete_snapshot("old")
    await fs.core.settle()


async def restore(fs: PageFs) -> None:
    await fs.branches.restore("old")
    await fs.core.settle()


async def fork(fs: PageFs) -> None:
    await fs.branches.fork("f", "old")


async def compact(fs: PageFs) -> None:
    number, _ = await fs.tree.find(fs.core.head, "/d/big")
    await fs._compact(fs.core.head, number)
    await fs.core.settle()


async def tidy(fs: PageFs) -> None:
    """What earlier removals left to do."""
    await fs.core.settle()


OPERATIONS: list[Operation] = [
    create, mkdir, symlink, link, set_attribute, remove_attribute, chmod, write_small,
    write_middle, append, write_far, write_synced, truncate_to_nothing, shrink, grow,
    open_truncate, rename, rename_over, rename_across, remove_small, remove_big, rmdir,
    remove_while_open, replace, replace_with_little, discard, snapshot, delete_snapshot,
    restore, fork, compact, tidy,
]  # fmt: skip
#: When these return, what they did survives a loss of power.
SYNCED = {write_synced, replace}
#: These need the snapshot `old`.
BRANCHING = {delete_snapshot, restore, fork}


async def is_there(fs: PageFs, path: str) -> bool:
    try:
        await fs.stat(path)
    except NotFound:
        return False
    return True
