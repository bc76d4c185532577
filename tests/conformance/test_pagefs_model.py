"""Random operations on pagefs agree with the reference model, whatever its stores."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import Phase, settings
from hypothesis.stateful import rule

from fs9.clock import ManualClock
from fs9.limits import Limits
from fs9.providers.pagefs import backends, lmdbstore
from fs9.providers.pagefs.fsck import Checker
from fs9.providers.registry import ProviderContext
from fs9.threads import BlockingPool
from tests.conformance.driver import ProviderDriver
from tests.conformance.machine import Machine

if TYPE_CHECKING:
    from fs9.providers.pagefs.provider import PageFs


class PageFsMachine(Machine):
    """In memory, where every byte that is held can be counted."""

    counts_bytes = True
    config: ClassVar[dict[str, Any]] = {"backend": {"type": "memory"}}

    async def make_driver(self) -> ProviderDriver:
        self.directory = tempfile.TemporaryDirectory()
        self.pool = BlockingPool(1)
        context = ProviderContext(
            "acme", Path(self.directory.name), Limits(), ManualClock(), self.pool
        )
        self.provider: PageFs = await backends.create(self.config, context)
        return ProviderDriver(self.provider)

    async def aclose(self) -> None:
        await self.provider.branches.collector.collect()
        report = await Checker(self.provider).check()
        assert (report.faults, report.garbage) == ([], [])
        await super().aclose()
        self.pool.shutdown()
        self.directory.cleanup()


class BranchingMachine(PageFsMachine):
    """Snapshots are made and deleted, files compacted, between the operations."""

    config: ClassVar[dict[str, Any]] = {"backend": {"type": "memory"}, "inline_bytes": 4}
    taken = 0

    @rule()
    def snapshot(self) -> None:
        self.taken += 1
        self.run(self.provider.branches.snapshot(f"{self.taken}"))

    @rule()
    def delete_snapshot(self) -> None:
        names = sorted(self.provider.core.snapshots)
        if names:
            self.run(self.provider.branches.delete_snapshot(names[0]))

    @rule()
    def collect(self) -> None:
        self.run(self.provider.branches.collector.collect())

    @rule()
    def compact(self) -> None:
        for opened, _ in self.handles[:1]:
            if opened.opened is not None and opened.view.writable:
                self.run(self.provider._compact(opened.view, opened.number))


class LmdbMachine(BranchingMachine):
    """The same on LMDB and files, with a journal that is moved often."""

    counts_bytes = False
    config: ClassVar[dict[str, Any]] = {"backend": {"type": "lmdb"}, "inline_bytes": 4}

    async def make_driver(self) -> ProviderDriver:
        lmdbstore.JOURNAL_KEYS_MAX = 20
        return await super().make_driver()

    async def aclose(self) -> None:
        lmdbstore.JOURNAL_KEYS_MAX = 16_384
        await super().aclose()


class InlineMachine(BranchingMachine):
    config: ClassVar[dict[str, Any]] = {"backend": {"type": "memory", "blocks": {"type": "inline"}}}


def some(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=60,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
    )


TestInMemory = PageFsMachine.TestCase
TestInMemory.settings = some(30)
TestWithSnapshots = BranchingMachine.TestCase
TestWithSnapshots.settings = some(40)
TestInline = InlineMachine.TestCase
TestInline.settings = some(30)
TestLmdb = LmdbMachine.TestCase
TestLmdb.settings = some(15)
