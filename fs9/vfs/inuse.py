"""What a namespace is doing now: operations in progress, open files, listeners for changes.

`Operations` counts those that began on one mount table, `InUse` those of all of them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fs9.errors import OwnerUnavailable
from fs9.vfs.watchchange import Change

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.observe.audit_trail import AuditTrail
    from fs9.vfs.watch import WatchLog

UNLOADING = "the namespace is being unloaded"


class InUse:
    """What keeps a namespace loaded: operations in progress and open files.

    As a context manager it is one operation; once `closed` it refuses new ones.
    `total` counts all operations there ever were, so an unchanged one means idleness. `audit` is
    told what was written, `watch` what changes.
    """

    __slots__ = ("_ended", "audit", "closed", "files", "running", "total", "watch")

    def __init__(self) -> None:
        self.audit: AuditTrail | None = None
        self.watch: WatchLog | None = None
        self.running = 0
        self.total = 0
        self.files = 0
        self.closed = False
        self._ended: asyncio.Event | None = None

    def __enter__(self) -> None:
        if self.closed:
            raise OwnerUnavailable(UNLOADING)
        self.running += 1
        self.total += 1

    def __exit__(self, *exc_info: object) -> None:
        self.running -= 1
        if self._ended is not None:
            self._ended.set()

    def changing(
        self, type_: str | None, path: str, target: str = "", directory: bool = False
    ) -> Change:
        """Context manager around a provider's change, so that watchers are told of it."""
        watch = self.watch
        if watch is None:
            return Change(None, type_, path)
        return watch.change(type_, path, target, directory)

    def file_closed(self) -> None:
        self.files -= 1
        if self._ended is not None:
            self._ended.set()

    async def wait_none(self) -> None:
        """Wait until no operation is in progress."""
        await self.wait_until(lambda: not self.running)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is checked whenever an operation or an open file ends.

        For one caller at a time.
        """
        while not condition():
            self._ended = asyncio.Event()
            await self._ended.wait()


class Operations:
    """The operations that began on one mount table; as a context manager it is one of them."""

    __slots__ = ("_ended", "_in_use", "running")

    def __init__(self, in_use: InUse) -> None:
        self._in_use = in_use
        self.running = 0
        self._ended: asyncio.Event | None = None

    def __enter__(self) -> None:
        in_use = self._in_use
        if in_use.closed:
            raise OwnerUnavailable(UNLOADING)
        in_use.running += 1
        in_use.total += 1
        self.running += 1

    def __exit__(self, *exc_info: object) -> None:
        self.running -= 1
        if self._ended is not None and not self.running:
            self._ended.set()
        self._in_use.__exit__()

    async def wait_none(self) -> None:
        """Wait until none of them is in progress; for a table that has been replaced."""
        while self.running:
            if self._ended is None:
                self._ended = asyncio.Event()
            await self._ended.wait()


class MountUse:
    """The open files of one mount."""

    __slots__ = ("_closed", "files")

    def __init__(self) -> None:
        self.files = 0
        self._closed: asyncio.Event | None = None

    def file_closed(self) -> None:
        self.files -= 1
        if self._closed is not None and not self.files:
            self._closed.set()

    async def wait_none(self) -> None:
        """Wait until no file is open; for a mount that is no longer in the table."""
        while self.files:
            self._closed = asyncio.Event()
            await self._closed.wait()
