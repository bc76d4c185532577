"""One namespace and its owners, one after the other, which leave or crash."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.limits import Limits
from fs9.observe.audit_trails import AuditTrails, MemoryEvents
from fs9.principal import Principal
from fs9.providers import builtin
from fs9.resources import Resources
from fs9.types import REPLACE, MountSpec, OpenFlags
from fs9.vfs.journal import HandleJournal
from fs9.vfs.locks import FileLocks
from fs9.vfs.namespaces import Namespaces
from fs9.vfs.ownership import Ownership
from fs9.vfs.watchfile import WatchFiles
from tests.vfs.fix_namespaces import Record, Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.threads import BlockingPool
    from fs9.vfs.session import Session

CREATE = OpenFlags(read=True, write=True, create=True, exclusive=True)
APPEND = OpenFlags(write=True, append=True, create=True)
ALICE = Principal("alice", "acme")


class Owners:
    """Makes owners of the namespace `acme`: localfs at "/" and "/m", memfs at "/mem"."""

    def __init__(self, clock: ManualClock, pool: BlockingPool, path: Path) -> None:
        self.clock, self.pool, self.path = clock, pool, path
        self.limits = Limits(owner_wait_s=5.0)
        self.volatile = (MountSpec("/mem", "memfs"),)
        self.made: list[Namespaces] = []
        self.events = MemoryEvents(1000)
        #: Of the record that the next owner reads.
        self.storage = ""

    async def next(self, revoked: Callable[[Principal], bool] = lambda by: False) -> Session:
        store = Store()
        root = MountSpec("/", "localfs", {"root": str(self.path / "files")})
        mounted = MountSpec("/m", "localfs", {"root": str(self.path / "mounted")})
        store.records["acme"] = Record(storage=self.storage, mounts=(root, mounted, *self.volatile))
        namespaces = Namespaces(
            store=store,
            registry=builtin.registry(),
            template=(),
            resources=Resources(self.path, self.limits, self.clock, self.pool),
            ownership=Ownership(
                FileLocks(self.path / "locks", self.limits.owner_wait_s),
                HandleJournal(self.path / "handles", self.pool),
                WatchFiles(self.path / "watch", self.pool),
            ),
            trails=AuditTrails(
                self.events, self.limits, self.clock, self.pool, self.path / "audit"
            ),
        )
        namespaces.revoked = revoked
        self.made.append(namespaces)
        return (await namespaces.find("acme", create=False)).attach(ALICE)

    def crash(self) -> None:
        """The last owner is no more: no record of it follows, and its lock is free."""
        namespaces = self.made[-1]
        session = namespaces._loaded.pop("acme")
        session.handles.journal._broken = True
        if session.audit._task is not None:
            session.audit._task.cancel()
        namespaces.locks.release("acme")

    async def give_up(self) -> None:
        assert await self.made[-1].give_up("acme")


@pytest.fixture
async def owners(clock: ManualClock, pool: BlockingPool, tmp_path: Path) -> AsyncIterator[Owners]:
    for name in ("files", "mounted"):
        (tmp_path / name).mkdir()
    owners = Owners(clock, pool, tmp_path)
    yield owners
    for namespaces in owners.made:
        await namespaces.aclose()


async def put(session: Session, path: str, content: bytes) -> None:
    file = await session.open_file(path, REPLACE)
    await session.write_file(file, 0, content)
    await session.commit_file(file)
