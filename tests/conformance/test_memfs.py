"""memfs, bare and through a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.providers.memfs import MemFs
from tests.conformance.driver import ProviderDriver, SessionDriver
from tests.conformance.suite import TreeSuite

if TYPE_CHECKING:
    from fs9.clock import ManualClock
    from fs9.vfs.session import Session


class TestMemFs(TreeSuite):
    @pytest.fixture
    def driver(self, memfs: MemFs) -> ProviderDriver:
        return ProviderDriver(memfs)


class TestMemFsThroughASession(TreeSuite):
    @pytest.fixture
    def driver(self, session: Session) -> SessionDriver:
        return SessionDriver(session)


class TestMemFsBelowAMountPoint(TreeSuite):
    """The same at `/` with another mount beside: merging must not disturb."""

    @pytest.fixture
    def driver(self, memfs: MemFs, clock: ManualClock, make_namespace) -> SessionDriver:
        from fs9.limits import Limits
        from fs9.principal import Principal

        namespace = make_namespace({"/": memfs, "/zzz/deep": MemFs(Limits(), clock)})
        return SessionDriver(namespace.attach(Principal("alice", "acme")))
