"""Random operations agree with the reference model, on each provider and through a session."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import Phase, settings

from fs9.clock import ManualClock
from fs9.limits import Limits
from fs9.providers import localfs
from fs9.providers.memfs import MemFs
from fs9.providers.registry import ProviderContext
from fs9.threads import BlockingPool
from tests.conformance.driver import ProviderDriver, SessionDriver, session_driver
from tests.conformance.machine import Machine


class MemFsMachine(Machine):
    counts_bytes = True

    async def make_driver(self) -> ProviderDriver:
        return ProviderDriver(MemFs(Limits(), ManualClock()))


class TwoMountsMachine(Machine):
    """A session whose namespace has a second memfs at /m."""

    mounts = ("/", "/m")

    async def make_driver(self) -> SessionDriver:
        # Etags are unique within one memfs; begun at different times, also among the two.
        clock, later = ManualClock(), ManualClock(1_800_000_000)
        return session_driver({"/": MemFs(Limits(), clock), "/m": MemFs(Limits(), later)}, clock)


class LocalFsMachine(Machine):
    attributes_make_versions = True

    async def make_driver(self) -> ProviderDriver:
        self.directory = tempfile.TemporaryDirectory()
        self.pool = BlockingPool(1)
        context = ProviderContext(
            "acme", Path(self.directory.name), Limits(), ManualClock(), self.pool
        )
        return ProviderDriver(await localfs.create({"root": "{data_dir}/files"}, context))

    async def aclose(self) -> None:
        await super().aclose()
        self.pool.shutdown()
        self.directory.cleanup()


def some(examples: int) -> settings:
    """Without shrinking, which takes minutes here: a failing program has 60 steps at most."""
    return settings(
        max_examples=examples,
        stateful_step_count=60,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
    )


TestMemFs = MemFsMachine.TestCase
TestMemFs.settings = some(100)
TestTwoMounts = TwoMountsMachine.TestCase
TestTwoMounts.settings = some(80)
TestLocalFs = LocalFsMachine.TestCase
TestLocalFs.settings = some(40)
