"""Revives dormant handles: when one is first used, its file is opened again at its current path.

That happens without create, truncate and exclusive, and only if it is the same file
(`FileInfo.file_id`); a handle never reaches another file. Simultaneous uses share one reopen.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from fs9.errors import (
    Fs9Error,
    InvalidArgument,
    InvalidHandle,
    IsDirectory,
    NotDirectory,
    NotFound,
    OwnerUnavailable,
    Transient,
)
from fs9.observe.metrics import REVIVED
from fs9.types import OpenFlags
from fs9.vfs.handles import File, HandleTable, background
from fs9.vfs.inuse import UNLOADING
from fs9.vfs.journal import flags_of

if TYPE_CHECKING:
    from fs9.observe.metrics import Metrics
    from fs9.vfs.journal import NamespaceJournal
    from fs9.vfs.vfs import Vfs

log = logging.getLogger(__name__)

#: Errors of an open that mean: the handle's file is no longer at the path.
_NOT_THERE = (NotFound, NotDirectory, IsDirectory, InvalidArgument)
#: How often, and after how long, an open that met a rename or removal is repeated.
_TRIES_MAX = 200
_RETRY_S = 0.005


class Revival:
    """For one namespace; `journal` None: no handle is ever dormant."""

    __slots__ = ("_handles", "_journal", "_metrics", "_reopening", "_vfs")

    def __init__(
        self,
        vfs: Vfs,
        handles: HandleTable,
        journal: NamespaceJournal | None,
        metrics: Metrics | None = None,
    ) -> None:
        self._vfs = vfs
        self._handles = handles
        self._journal = journal
        self._metrics = metrics
        self._reopening: dict[str, asyncio.Task[File]] = {}

    async def file(self, handle_id: str, user: str) -> File:
        """The open file of the user's handle that is not live.

        Raises InvalidHandle, OwnerUnavailable when the namespace goes to another owner, and
        what the provider raises for now; the handle stays dormant then.
        """
        self._check(handle_id, user)
        task = self._reopening.get(handle_id)
        if task is None:
            task = self._reopening[handle_id] = background(self._reopen(handle_id))
            task.add_done_callback(lambda task: self._reopened(handle_id, task))
        return await asyncio.shield(task)

    def drop(self, handle_id: str, user: str) -> None:
        """Close a dormant handle; raises InvalidHandle, OwnerUnavailable."""
        self._check(handle_id, user)
        assert self._journal is not None
        self._journal.closed([handle_id])

    def _check(self, handle_id: str, user: str) -> None:
        if self._vfs.in_use.closed:
            raise OwnerUnavailable(UNLOADING)
        opener = None if self._journal is None else self._journal.dormant.opener(handle_id)
        if opener is None or opener.user != user:
            raise InvalidHandle(handle_id)

    def _reopened(self, handle_id: str, task: asyncio.Task[File]) -> None:
        del self._reopening[handle_id]
        if not task.cancelled():
            task.exception()  # seen, even if every caller went away

    async def _reopen(self, handle_id: str) -> File:
        journal = self._journal
        assert journal is not None
        with self._vfs.in_use:
            for _ in range(_TRIES_MAX):
                known = journal.dormant.get(handle_id)
                if known is None:  # closed meanwhile
                    raise InvalidHandle(handle_id)
                path, bits, file_id, _ = known
                with journal.watch(path) as watch:
                    file = await self._open(path, flags_of(bits)) if path else None
                if file is not None:
                    if file.info.file_id == file_id and handle_id in journal.dormant:
                        self._handles.adopt(handle_id, file)
                        if self._metrics is not None:
                            self._metrics.count(REVIVED)
                        return file
                    await file.close()
                now = journal.dormant.get(handle_id)
                if now == known and not watch.moved:
                    break
                # It may have been on its way to another path, or there and back again.
                await asyncio.sleep(_RETRY_S)
            else:
                raise Transient("the path of the handle keeps changing")
            if handle_id in journal.dormant:
                journal.closed([handle_id])
            raise InvalidHandle(handle_id)

    async def _open(self, path: str, flags: OpenFlags) -> File | None:
        """None: nothing there that could be the file."""
        again = OpenFlags(read=flags.read, write=flags.write, append=flags.append)
        try:
            file = await self._vfs.open(path, again)
        except _NOT_THERE:
            return None
        file.flags = flags
        return file

    async def settle(self) -> None:
        """Find out what became of changes that a crash cut off: is the path still there?

        For the new owner, before it serves.
        """
        journal = self._journal
        if journal is None:
            return
        unsettled, journal.unsettled = journal.unsettled, []
        for path, target in unsettled:
            try:
                await self._vfs.stat(path)
            except (NotFound, NotDirectory):
                journal.settle(path, target, done=True)
            except Fs9Error as error:  # the file ids still keep handles from other files
                log.warning("what became of %s is not known: %s", path, error)
            else:
                journal.settle(path, target, done=False)
