"""hellofs, bare and through a session; it has no directories to make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.principal import Principal
from fs9.providers.hellofs import HelloFs
from tests.conformance.driver import ProviderDriver, SessionDriver
from tests.conformance.suite import FileSuite

if TYPE_CHECKING:
    from fs9.clock import ManualClock


class TestHelloFs(FileSuite):
    @pytest.fixture
    def driver(self, clock: ManualClock) -> ProviderDriver:
        return ProviderDriver(HelloFs("Hi", clock))


class TestHelloFsThroughASession(FileSuite):
    @pytest.fixture
    def driver(self, clock: ManualClock, make_namespace) -> SessionDriver:
        namespace = make_namespace({"/": HelloFs("Hi", clock)})
        return SessionDriver(namespace.attach(Principal("alice", "acme")))
