"""Destroys a mount's storage: every block, every key, then the store. It can be run again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.providers.pagefs.store import Batch

if TYPE_CHECKING:
    from fs9.providers.pagefs.store import BlockStore, MetaStore

_AT_ONCE = 1000
#: Above every key.
_END = b"\xff" * 16


async def remove_all(store: MetaStore, blocks: BlockStore | None) -> None:
    """Blocks first: the keys are what leads to them. The store is closed then, where it can be."""
    if blocks is not None:
        while listed := await blocks.list("", "", _AT_ONCE):
            await blocks.delete([name for name, _ in listed])
    while items := await store.scan(b"", _END, _AT_ONCE):
        await store.commit(Batch({key: None for key, *_ in items}))
    await store.sync()
    await store.erase()
