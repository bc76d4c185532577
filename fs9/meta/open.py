"""Opens the store that a DSN names: the only place that knows both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.config.dsn import sqlite_path
from fs9.meta.postgres import PostgresStore
from fs9.meta.sqlite import SqliteStore

if TYPE_CHECKING:
    from fs9.clock import Clock
    from fs9.config import Settings
    from fs9.limits import Limits
    from fs9.meta.sql.store import SqlStore
    from fs9.threads import BlockingPool


def dsn_of(settings: Settings) -> str:
    """The DSN of the settings, or that of the file in the data directory."""
    return settings.meta_dsn or f"sqlite:{settings.data_dir / 'meta.db'}"


async def open_store(settings: Settings, clock: Clock, pool: BlockingPool) -> SqlStore:
    """The store of the settings, made or migrated.

    Raises BackendUnavailable when the database cannot be used, without any password in the text.
    """
    return await open_at(dsn_of(settings), settings.limits, clock, pool)


async def open_at(dsn: str, limits: Limits, clock: Clock, pool: BlockingPool) -> SqlStore:
    """The store of this DSN; as `open_store`."""
    path = sqlite_path(dsn)
    if path is not None:
        return await SqliteStore.open(path.absolute(), clock, pool)
    return await PostgresStore.open(
        dsn,
        clock,
        connections_max=limits.meta_connections_max,
        timeout_s=limits.meta_timeout_s,
    )
