"""A namespace that is watched, and what its watcher was told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from fs9.principal import Principal
from fs9.providers.memfs import MemFs
from fs9.types import REPLACE, OpenFlags, StatChanges
from fs9.vfs.watchfile import WatchFiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.limits import Limits
    from fs9.threads import BlockingPool
    from fs9.vfs.follow import Following
    from fs9.vfs.namespace import Namespace
    from fs9.vfs.session import Session
    from fs9.vfs.watchview import Happened

NEW = OpenFlags(write=True, create=True)
EXCLUSIVE = OpenFlags(write=True, create=True, exclusive=True)


def encode(told: Happened, cursor: str) -> bytes:
    return msgspec.json.encode({"cursor": cursor, **msgspec.structs.asdict(told)})


class Seen:
    """A watcher and what it was told."""

    def __init__(self, session: Session, path: str = "/", cursor: str | None = None) -> None:
        self.watching: Following = session.watch(path, cursor, encode)
        self.lost = 0
        self.events: list[dict[str, Any]] = []
        self.cursor = cursor or ""

    async def all(self) -> list[tuple[str, ...]]:
        """Everything up to now, as (type, path) or (type, path, target)."""
        for _ in range(2):  # the first delivery says where it begins
            while (delivery := await self.watching.next(0)) is not None:
                self.cursor = delivery.cursor
                self.lost += delivery.lost != 0
                self.events += [msgspec.json.decode(each.data) for each in delivery.messages]
                if not delivery.messages:
                    break
        return [
            (each["type"], each["path"], each["target"])
            if each["target"]
            else (each["type"], each["path"])
            for each in self.events
        ]

    def close(self) -> None:
        self.watching.close()


async def make(session: Session, path: str, flags: OpenFlags = NEW) -> None:
    await session.commit_file(await session.open_file(path, flags))


async def put(session: Session, path: str, content: bytes = b"x") -> None:
    file = await session.open_file(path, REPLACE)
    await session.write_file(file, 0, content)
    await session.commit_file(file)


async def rename(session: Session, path: str, target: str) -> None:
    await session.wstat(path, StatChanges(name=target))


class Kept(MemFs):
    """A tree that several owners see one after the other, as one on a disk."""

    volatile = False


@pytest.fixture
def owner(
    tmp_path: Path,
    pool: BlockingPool,
    make_namespace: Callable[..., Namespace],
    limits: Limits,
    clock: ManualClock,
) -> Callable[..., Any]:
    tree = Kept(limits, clock)

    async def take(
        mounts: str = "same", provider: MemFs = tree, limits: Limits = limits
    ) -> Session:
        namespace = make_namespace({"/": provider}, limits=limits)
        file, left = await WatchFiles(tmp_path / "watch", pool).load("acme")
        volatile = [each.path for each in namespace.vfs.mounts if each.provider.volatile]
        namespace.watch.go_on(file, left, mounts, volatile)
        return namespace.attach(Principal("alice", "acme"))

    return take
