"""Verifies the hash chains of events in the database itself, for `fs9 meta verify`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fs9.meta.maintenance import opened
from fs9.observe.audit import EventQuery
from fs9.observe.audit_chain import ChainCheck

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.config import Settings
    from fs9.meta.sql.store import SqlStore
    from fs9.observe.audit_chain import Tip

_PAGE = 1000


def verify(
    settings: Settings,
    name: str | None,
    noted: Tip | None,
    report: Callable[[str, ChainCheck], None],
) -> None:
    """Check the chain of one namespace, or of each that there is, and report each.

    Servers may go on meanwhile. Raises NotFound, and the errors of the store.
    """

    async def run() -> None:
        async with opened(settings, make=False) as (store, _):
            names = [name] if name is not None else await _names(store)
            for each in names:
                report(each, await _check(store, each, noted))

    asyncio.run(run())


async def _names(store: SqlStore) -> list[str]:
    return [record.name for record in await store.namespaces()]


async def _check(store: SqlStore, name: str, noted: Tip | None) -> ChainCheck:
    check = ChainCheck(noted)
    after = 0
    while check.broken is None:
        records = await store.events(name, EventQuery(limit=_PAGE, after=after))
        if not records:
            break
        check.feed(records)
        after = records[-1].sequence
    check.end()
    return check
