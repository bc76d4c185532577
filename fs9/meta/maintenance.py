"""The work of `fs9 meta migrate`, `backup` and `restore`, and the namespaces for `fs9 fsck`.

Each command runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from fs9.clock import SystemClock
from fs9.config.dsn import sqlite_path
from fs9.config.masking import plain_value
from fs9.durable import sync_directory
from fs9.errors import InvalidArgument
from fs9.meta import backup as copies
from fs9.meta.calls import Hooks, Wire
from fs9.meta.client import MetaClient
from fs9.meta.open import dsn_of, open_store
from fs9.threads import BlockingPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path
    from typing import BinaryIO

    from fs9.config import Settings
    from fs9.meta.models import NamespaceRecord
    from fs9.meta.sql.store import SqlStore
    from fs9.meta.store import Metadata

_LINES_BYTES = 1 << 20
_PAGE = 500


def migrate(settings: Settings) -> str:
    """Create the database, or migrate it to this version; returns a sentence about it.

    Raises the errors of the store, as all of these do, and OSError.
    """

    async def run() -> None:
        async with opened(settings, make=True):
            pass

    asyncio.run(run())
    return f"the metadata has version {copies.VERSION}: {_shown(settings)}"


def backup(settings: Settings, file: Path) -> str:
    """Write all metadata to `file`, for this user alone; servers may go on meanwhile.

    The file appears under its name when it is whole. Raises InvalidArgument for a name under
    which something else than a file is.
    """
    target_path = _replaceable(file)
    partial = target_path.with_name(f"{target_path.name}.partial")

    async def run() -> int:
        count = 0
        async with opened(settings, make=False) as (store, pool):
            with _new_private_file(partial) as target:
                async for lines in copies.backup(store, int(SystemClock().now_s())):
                    await pool.run(target.write, lines)
                    count += lines.count(b"\n")
                await pool.run(_sync, target)
        return count - 2  # head and end

    try:
        count = asyncio.run(run())
        partial.replace(target_path)
        sync_directory(target_path.parent)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
    return f"{count} rows of {_shown(settings)} are in {file}"


def restore(settings: Settings, file: Path, *, force: bool) -> str:
    """Restore a backup; no server should run meanwhile."""

    async def run() -> int:
        async with opened(settings, make=True) as (store, pool):
            with file.open("rb") as source:
                return await copies.restore(store, _lines(source, pool), force=force)

    count = asyncio.run(run())
    return f"{count} rows of {file} are in {_shown(settings)}"


def namespaces(
    settings: Settings, wanted: Callable[[NamespaceRecord], bool]
) -> list[NamespaceRecord]:
    """The named namespaces, also deleted ones whose data is kept; none without metadata."""

    async def run() -> list[NamespaceRecord]:
        if settings.meta_endpoints:
            calls = Wire(
                settings.meta_endpoints, settings.meta_key, settings.limits, SystemClock(), Hooks()
            )
            async with aclosing(MetaClient(calls)) as client:
                return await _namespaces(client, wanted)
        path = sqlite_path(dsn_of(settings))
        if path is not None and not path.exists():
            return []
        async with opened(settings, make=False) as (store, _):
            return await _namespaces(store, wanted)

    return asyncio.run(run())


async def _namespaces(
    metadata: Metadata, wanted: Callable[[NamespaceRecord], bool]
) -> list[NamespaceRecord]:
    found: list[NamespaceRecord] = []
    after = ""
    while page := await metadata.namespaces(after=after, limit=_PAGE):
        found += filter(wanted, page)
        after = page[-1].name
    deleted = await metadata.deleted_namespaces(int(SystemClock().now_s()) + 2)
    return [*found, *filter(wanted, deleted)]


@asynccontextmanager
async def opened(settings: Settings, *, make: bool) -> AsyncIterator[tuple[SqlStore, BlockingPool]]:
    """The store of the settings; with `make` its database is made. Raises InvalidArgument."""
    path = sqlite_path(dsn_of(settings))
    if path is not None:
        if not make and not path.exists():
            raise InvalidArgument(f"there is no metadata: {path} does not exist")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pool = BlockingPool(2)
    try:
        store = await open_store(settings, SystemClock(), pool)
        try:
            yield store, pool
        finally:
            await store.aclose()
    finally:
        pool.shutdown()


async def _lines(source: BinaryIO, pool: BlockingPool) -> AsyncIterator[bytes]:
    while lines := await pool.run(source.readlines, _LINES_BYTES):
        for line in lines:
            yield line


def _replaceable(file: Path) -> Path:
    """The path itself, behind all links: a rename would put the copy in the place of a device."""
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return file.resolve()
    if not stat.S_ISREG(mode):
        raise InvalidArgument(f"{file} is not a file: name one, or a new one, for the copy")
    return file.resolve()


def _new_private_file(path: Path) -> BinaryIO:
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _sync(target: BinaryIO) -> None:
    target.flush()
    os.fsync(target.fileno())


def _shown(settings: Settings) -> str:
    return str(plain_value(dsn_of(settings)))
