"""`fs9 fsck` and `fs9 scrub`: every pagefs of a server, while no server has it open.

The embedded ones are the directories below the data directory; those in databases and buckets
are the mounts that the metadata knows. Opening a storage finishes what a crash interrupted, as
the next start of a server would; so a check after a crash says what a user will see.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

import lmdb
import msgspec

from fs9.clock import SystemClock
from fs9.directories import locks_directory
from fs9.errors import Fs9Error, InvalidArgument
from fs9.limits import Limits
from fs9.meta import maintenance
from fs9.meta.models import DELETED
from fs9.path import clean
from fs9.providers.pagefs import apart, backends, damagedrows, fileblocks, lmdbstore
from fs9.providers.pagefs.apart import Seen
from fs9.providers.pagefs.core import Core, Policy
from fs9.providers.pagefs.fsck import Checker
from fs9.providers.pagefs.provider import PageFs
from fs9.providers.pagefs.rowseals import DamagedRow
from fs9.providers.registry import ProviderContext
from fs9.threads import BlockingPool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fs9.config import Settings
    from fs9.meta.models import NamespaceRecord
    from fs9.providers.pagefs.apart import Look
    from fs9.providers.pagefs.fsck import Report
    from fs9.providers.pagefs.remote import Stored
    from fs9.types import MountSpec

#: What stands in the way of a look; the last ones come of rows that cannot be read.
_FAILURES = (
    *(OSError, lmdb.Error, Fs9Error),
    *(msgspec.MsgspecError, struct.error, UnicodeDecodeError, AssertionError),
)
_NO_METADATA = (
    "there are objects and no metadata: restore that from a backup; as it is the files are lost"
)
_IN_USE = "a server has it open; stop the server first"
_THREADS = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found at one mount; `error` says why there is no report.

    `unused`: nobody has come to the mount yet, so there is nothing to report on.
    """

    namespace: str
    mount: str
    report: Report | None = None
    error: str = ""
    unused: bool = False

    @property
    def ok(self) -> bool:
        return self.unused or (self.report is not None and self.report.ok)


def check_all(settings: Settings, *, repair: bool = False) -> Iterator[Finding]:
    """Check the structure of every storage. Raises InvalidArgument: no such data directory."""
    return _each(settings, repair=repair, scrub=False)


def scrub_all(settings: Settings) -> Iterator[Finding]:
    """Verify every block of every storage. Raises InvalidArgument: no such data directory."""
    return _each(settings, repair=False, scrub=True)


def _each(settings: Settings, *, repair: bool, scrub: bool) -> Iterator[Finding]:
    if not settings.data_dir.is_dir():
        raise InvalidArgument(f"{settings.data_dir} is not a directory")
    directories = sorted((settings.data_dir / "pagefs").glob("*/*"))
    found = apart.look(embedded, directories, repair=repair, scrub=scrub)
    for directory, seen in zip(directories, found, strict=True):
        namespace, mount = unquote(directory.parent.name), unquote(directory.name)
        yield Finding(namespace, mount, seen.report, seen.error)
    try:
        records = maintenance.namespaces(settings, lambda record: bool(_remote_mounts(record)))
    except Fs9Error as failure:
        yield Finding("metadata", "", error=f"mounts of other hosts are not known: {failure}")
        return
    for record in records:
        for spec in _remote_mounts(record):
            yield _remote(settings, record, spec, repair=repair, scrub=scrub)


def embedded(directory: Path, order: Look) -> Seen:
    """Look at one storage of this host; in a process apart."""
    try:
        if lmdbstore.in_use(directory):
            return Seen(error=_IN_USE)
        return Seen(asyncio.run(_look(directory, repair=order.repair, scrub=order.scrub)))
    except _FAILURES as failure:
        return Seen(error=_said(failure))


def _said(failure: BaseException) -> str:
    if isinstance(failure, DamagedRow):  # one without which it cannot be opened
        return damagedrows.fault(failure.key)
    if isinstance(failure, OSError | lmdb.Error | Fs9Error):
        return str(failure)
    return f"the metadata is damaged: {failure}"


def _remote_mounts(record: NamespaceRecord) -> list[MountSpec]:
    return [
        spec
        for spec in record.mounts
        if spec.provider == "pagefs" and backends.is_remote(spec.config)
    ]


def _remote(
    settings: Settings, record: NamespaceRecord, spec: MountSpec, *, repair: bool, scrub: bool
) -> Finding:
    name = record.name
    try:
        stored = asyncio.run(_stored(settings, record, spec))
        if not stored.metadata:  # to open it would make it
            if stored.objects:
                return Finding(name, spec.path, error=_NO_METADATA)
            return Finding(name, spec.path, unused=True)
        with contextlib.ExitStack() as held:
            # Workers of this host would take the storage at once from one another, and from us.
            # What is deleted is nobody's; its name may be another namespace's by now.
            if record.status != DELETED and not held.enter_context(
                _locked(locks_directory(settings.data_dir) / name)
            ):
                return Finding(name, spec.path, error=_IN_USE)
            report = asyncio.run(_look_at(settings, record, spec, repair=repair, scrub=scrub))
    except _FAILURES as failure:
        return Finding(name, spec.path, error=_said(failure))
    return Finding(name, spec.path, report)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold the lock of a namespace as a worker would; False: a worker has it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(fd)


async def _look_at(
    settings: Settings, record: NamespaceRecord, spec: MountSpec, *, repair: bool, scrub: bool
) -> Report:
    with _context(settings, record, spec) as context:
        provider = await backends.create(spec.config, context)
        return await _check(provider, repair=repair, scrub=scrub)


async def _stored(settings: Settings, record: NamespaceRecord, spec: MountSpec) -> Stored:
    with _context(settings, record, spec) as context:
        return await backends.stored(spec.config, context)


@contextlib.contextmanager
def _context(
    settings: Settings, record: NamespaceRecord, spec: MountSpec
) -> Iterator[ProviderContext]:
    pool = BlockingPool(_THREADS)
    try:
        yield ProviderContext(
            *(record.name, settings.data_dir, settings.limits, SystemClock(), pool),
            mount=clean(spec.path),
            storage=record.storage,
        )
    finally:
        pool.shutdown()


async def _look(directory: Path, *, repair: bool, scrub: bool) -> Report:
    pool = BlockingPool(_THREADS)
    try:
        store = await lmdbstore.open_store(directory, pool)
        blocks = await fileblocks.open_blocks(directory / "objects", pool)
        provider = PageFs(Core(store, blocks, Policy(), Limits(), SystemClock()))
        try:
            await provider.start()
        except BaseException:
            await provider.core.aclose()
            raise
        return await _check(provider, repair=repair, scrub=scrub)
    finally:
        pool.shutdown()


async def _check(provider: PageFs, *, repair: bool, scrub: bool) -> Report:
    try:
        await provider.core.settle()
        checker = Checker(provider, repair=repair)
        return await (checker.scrub() if scrub else checker.check())
    finally:
        await provider.core.aclose()
