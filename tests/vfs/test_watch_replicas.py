"""fs9.vfs.watch: who follows what it is told has the tree, whatever happens side by side."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import (
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from fs9.path import is_within
from fs9.types import MKDIR
from tests.vfs.fix_watched import EXCLUSIVE, NEW, Kept, Seen, make, owner, put, rename

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.clock import ManualClock
    from fs9.limits import Limits
    from fs9.vfs.session import Session

__all__ = ["owner"]


class Replica:
    """A tree built of events alone; it looks only where it is told `lost`, as late as it can, and
    where that was renamed to."""

    def __init__(self, session: Session, paths: set[str]) -> None:
        self.seen = Seen(session)
        self.paths = set(paths)
        self.lost: list[str] = []
        self.numbers: list[int] = []

    def apply(self, event: dict[str, Any]) -> None:
        kind, path, target = event["type"], event["path"], event["target"]
        self.numbers.append(event["sequence"])
        if kind in {"create", "upload"}:
            self.paths.add(path)
        elif kind == "remove":
            self.paths.discard(path)
        elif kind == "rename":
            moved = {each for each in self.paths if (each + "/").startswith(path + "/")}
            self.paths -= moved
            self.paths -= {each for each in self.paths if (each + "/").startswith(target + "/")}
            self.paths |= {target + each[len(path) :] for each in moved}
            if any(is_within(path, each) or is_within(each, path) for each in self.lost):
                self.lost.append(target)
        elif kind == "lost":
            self.lost.append(path)

    async def catch_up(self) -> None:
        done = len(self.seen.events)
        await self.seen.all()
        for event in self.seen.events[done:]:
            self.apply(event)

    async def look(self, session: Session) -> None:
        """List anew what was lost; nothing changes meanwhile."""
        real = await tree_of(session)
        for path in self.lost:
            prefix = path.rstrip("/") + "/"
            self.paths = {each for each in self.paths if not (each + "/").startswith(prefix)}
            self.paths |= {each for each in real if (each + "/").startswith(prefix)}
        self.lost.clear()

    def reconnect(self, session: Session) -> None:
        self.seen.close()
        self.seen = Seen(session, cursor=self.seen.cursor)


async def tree_of(session: Session) -> set[str]:
    paths: set[str] = set()
    pending = ["/"]
    while pending:
        for info in await session.readdir(pending.pop()):
            paths.add(info.path)
            if info.is_dir:
                pending.append(info.path)
    return paths


class Slow(Kept):
    """Its changes take a while, before and after they are done, so that they run side by side."""

    dice = random.Random(1)

    async def _dawdle(self) -> None:
        for _ in range(self.dice.randrange(4)):
            await asyncio.sleep(0)

    async def open(self, *arguments: Any) -> Any:
        await self._dawdle()
        opened = await super().open(*arguments)
        await self._dawdle()
        return opened

    async def wstat(self, *arguments: Any) -> None:
        await self._dawdle()
        await super().wstat(*arguments)
        await self._dawdle()

    async def remove(self, *arguments: Any) -> None:
        await self._dawdle()
        await super().remove(*arguments)
        await self._dawdle()


async def change_something(session: Session, dice: random.Random) -> None:
    """One change of a small tree, where most names meet others."""
    names = ["/a", "/b", "/a/x", "/b/x", "/a/y", "/a/x/1", "/b/x/1", "/c"]
    path, target = dice.choice(names), dice.choice(names)
    try:
        match dice.randrange(6):
            case 0:
                await make(session, path, MKDIR)
            case 1:
                await make(session, path, dice.choice([NEW, EXCLUSIVE]))
            case 2:
                await put(session, path)
            case 3 | 4:
                await session.remove(path)
            case _:
                await rename(session, path, target)
    except (OSError, NotFound, InvalidArgument, PermissionDenied):
        return
    except Exception as error:
        if type(error).__name__ not in {
            "AlreadyExists",
            "NotDirectory",
            "IsDirectory",
            "DirectoryNotEmpty",
            "Conflict",
        }:
            raise


@pytest.mark.parametrize("seed", range(60))
async def test_replicas_of_several_clients_are_the_tree(
    seed: int, owner: Callable[..., Any], limits: Limits, clock: ManualClock
):
    """Whatever runs side by side, breaks off, comes again or dies: each replica is the real tree,
    each got every event once, and one client alone makes nothing that is told as lost."""
    dice = random.Random(seed)
    Slow.dice = random.Random(seed)
    provider = Slow(limits, clock)
    clients = 1 if seed < 8 else dice.randrange(2, 6)
    session = await owner(provider=provider)
    replicas = [Replica(session, set()) for _ in range(4)]
    for replica in replicas:
        await replica.catch_up()  # so that it knows where it began
    for _ in range(40):
        await asyncio.gather(
            *(change_something(session, dice) for _ in range(dice.randrange(1, clients + 1)))
        )
        for replica in replicas:
            if dice.random() < 0.5:
                await replica.catch_up()
            if dice.random() < 0.2:
                replica.reconnect(session)
        if dice.random() < 0.1:  # another owner, after an end in order or none at all
            if dice.random() < 0.5:
                session.namespace.watch.close()
            session = await owner(provider=provider)
            for replica in replicas:
                replica.reconnect(session)
        if dice.random() < 0.1:
            for replica in replicas:
                await replica.catch_up()
                await replica.look(session)
                assert replica.paths == await tree_of(session)
    for replica in replicas:
        await replica.catch_up()
        if clients == 1:
            assert not replica.lost
        await replica.look(session)
        assert replica.paths == await tree_of(session)
        assert replica.seen.lost == 0
        numbers = replica.numbers
        assert numbers == list(range(1, len(numbers) + 1))
