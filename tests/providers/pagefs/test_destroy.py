"""fs9.providers.pagefs.destroy: nothing of a mount is left."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fs9.clock import ManualClock
from fs9.limits import Limits
from fs9.providers.pagefs import backends
from fs9.providers.registry import ProviderContext
from tests.providers.pagefs.scenario import is_there, write

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.threads import BlockingPool


@pytest.mark.parametrize("blocks", ["files", "inline"])
async def test_all_blocks_and_keys_go(blocks: str, tmp_path: Path, pool: BlockingPool) -> None:
    """Of this mount alone; what is mounted there next is empty."""
    config = {"backend": {"type": "lmdb", "blocks": {"type": blocks}}}
    contexts = [
        ProviderContext("acme", tmp_path, Limits(), ManualClock(), pool, mount=mount)
        for mount in ("/", "/other")
    ]
    for context in contexts:
        fs = await backends.create(config, context)
        for name in ("/a", "/b"):
            await write(fs, name, os.urandom(100_000))
        if context is contexts[0]:
            await fs.destroy()
        await fs.aclose()
    if blocks == "files":
        objects = backends.directory_of(contexts[0]) / "objects"
        assert [path for path in objects.rglob("*") if path.is_file()] == []
    for context, kept in zip(contexts, (False, True), strict=True):
        fs = await backends.create(config, context)
        assert await is_there(fs, "/a") is kept
        await fs.aclose()
