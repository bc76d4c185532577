"""The stores in memory keep both store contracts."""

from __future__ import annotations

from typing import ClassVar

import pytest

from fs9.providers.pagefs.memory import Memory, MemoryBlocks, MemoryStore
from tests.providers.pagefs.block_suite import BlockStoreSuite, OpenBlocks
from tests.providers.pagefs.store_suite import MetaStoreSuite, OpenStore


class TestMemoryStore(MetaStoreSuite):
    persistent: ClassVar[bool] = False

    @pytest.fixture
    def open_store(self) -> OpenStore:
        memory = Memory()

        async def open_store() -> MemoryStore:
            return MemoryStore(memory)

        return open_store


class TestMemoryBlocks(BlockStoreSuite):
    persistent: ClassVar[bool] = False

    @pytest.fixture
    def open_blocks(self) -> OpenBlocks:
        objects: dict[str, bytearray] = {}

        async def open_blocks() -> MemoryBlocks:
            return MemoryBlocks(objects, 2**30)

        return open_blocks
