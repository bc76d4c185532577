"""A namespace in memory: one tenant's tree, handles, audit trail and watch log."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from fs9.observe.audit_trails import memory_trail
from fs9.quota import NamespaceQuota, Quota
from fs9.vfs.building import close_providers
from fs9.vfs.follow import Followers
from fs9.vfs.handles import HandleTable, close_files
from fs9.vfs.revival import Revival
from fs9.vfs.session import Session
from fs9.vfs.vfs import Vfs
from fs9.vfs.watch import WatchLog

if TYPE_CHECKING:
    from fs9.clock import Clock
    from fs9.limits import Limits
    from fs9.observe.audit_trail import AuditTrail
    from fs9.observe.metrics import Metrics
    from fs9.principal import Principal
    from fs9.vfs.handles import File
    from fs9.vfs.journal import NamespaceJournal
    from fs9.vfs.mounting import Mounting
    from fs9.vfs.mounts import MountTable

log = logging.getLogger(__name__)


class Namespace:
    """One tenant's tree, handles and audit trail."""

    __slots__ = (
        "_idle_since_s",
        "_total_seen",
        "audit",
        "clock",
        "doubtful",
        "followers",
        "handles",
        "id",
        "limits",
        "mounting",
        "name",
        "quota",
        "revival",
        "vfs",
        "watch",
    )

    def __init__(
        self,
        name: str,
        mounts: MountTable,
        limits: Limits,
        clock: Clock,
        journal: NamespaceJournal | None = None,
        metrics: Metrics | None = None,
        quota: Quota | None = None,
        audit: AuditTrail | None = None,
    ) -> None:
        self.name = name
        #: The id of its record: a later namespace may have the same name.
        self.id = ""
        #: May its record have changed, so that nobody may enter before it is read again?
        self.doubtful = False
        #: Its mounts may change while it is in memory.
        self.mounting: Mounting | None = None
        self.quota = quota or Quota()
        self.limits = limits
        self.clock = clock
        self.vfs = Vfs(mounts, clock)
        self.handles = HandleTable(limits, clock, journal)
        self.revival = Revival(self.vfs, self.handles, journal, metrics)
        self.followers = Followers(limits.followers_per_namespace_max)
        self.audit = self.vfs.in_use.audit = audit or memory_trail(name, limits, clock)
        self.watch = self.vfs.in_use.watch = WatchLog(self.handles, limits, clock)
        self._total_seen = -1
        self._idle_since_s = clock.monotonic_s()

    @property
    def closed(self) -> bool:
        return self.vfs.in_use.closed

    @property
    def enterable(self) -> bool:
        """Else whoever comes asks for the namespace again (`Namespaces.find`)."""
        return not self.doubtful and not self.vfs.in_use.closed

    def attach(self, principal: Principal) -> Session:
        return Session(principal, self)

    async def set_quota(self, quota: NamespaceQuota) -> None:
        """Apply these bounds from now on; None: no bound, and the usual number of handles.

        The first bound on bytes or files starts a count of what is stored; changes wait meanwhile.
        """
        await self.quota.limit(quota.bytes_max, quota.files_max)
        most = quota.handles_max
        usual = self.limits.handles_per_namespace_max
        self.handles.handles_max = usual if most is None else most

    def idle(self) -> bool:
        """Was nothing open and nothing asked for `handle_ttl_s`, as seen by calls of this?

        Never so when a provider would lose its files.
        """
        in_use = self.vfs.in_use
        now_s = self.clock.monotonic_s()
        opened = in_use.files or len(self.handles) or len(self.followers)
        busy = self.mounting is not None and self.mounting.busy
        if in_use.running or opened or busy or in_use.total != self._total_seen:
            self._total_seen, self._idle_since_s = in_use.total, now_s
            return False
        if now_s - self._idle_since_s < self.limits.handle_ttl_s:
            return False
        return not any(mount.provider.volatile for mount in self.vfs.mounts)

    async def aclose(self) -> None:
        """Refuse new operations, end those in progress, close handles synced, then providers.

        Call it once. Takes about `handle_close_timeout_s` for the operations and as long for
        the handles; what takes longer is left behind.
        """
        in_use = self.vfs.in_use
        in_use.closed = True
        self.followers.end()
        if in_use.running:
            try:
                await asyncio.wait_for(in_use.wait_none(), self.limits.handle_close_timeout_s)
            except TimeoutError:
                log.warning("%s: %d operations are left behind", self.name, in_use.running)
        await self.handles.close_all(sync=True)
        await self._close_rest()

    async def close_handles(self) -> None:
        """Close all that clients have open here, for good; a new owner revives none."""
        files = self.handles.take_of(lambda _: True)
        await close_files(files, timeout_s=self.limits.handle_close_timeout_s, sync=True)

    async def hand_over(self) -> None:
        """Refuse new operations, let all that is in progress end, then close everything.

        In progress are operations, files open without a handle (uploads, downloads) and handles
        held or in use; each may go on to its end, however long that takes. Handles are closed
        synced, and stay in the journal. Call it once.
        """
        in_use, handles = self.vfs.in_use, self.handles
        in_use.closed = True
        self.followers.end()
        handles.retire()
        waiting = asyncio.get_running_loop().call_later(
            self.limits.handle_close_timeout_s, self._warn_of_waiting
        )
        try:
            while self._transfers() or in_use.running or self._busy():
                await in_use.wait_until(lambda: not in_use.running and not self._transfers())
                await asyncio.gather(*(file.wait_idle() for file in self._busy()))
            await handles.close_all(sync=True)
            await in_use.wait_until(lambda: not in_use.files)
        finally:
            waiting.cancel()
        await self._close_rest()

    def _transfers(self) -> int:
        """Files that are open without a handle, or being closed."""
        return self.vfs.in_use.files - len(self.handles.retired())

    def _busy(self) -> list[File]:
        return [file for file in self.handles.retired() if file.busy]

    def _warn_of_waiting(self) -> None:
        log.warning(
            "%s: giving it up waits for %d operations, %d transfers, %d handles in use",
            *(self.name, self.vfs.in_use.running, self._transfers(), len(self._busy())),
        )

    async def wait_ended(self) -> None:
        """After `aclose`: until what it left behind is over."""
        in_use = self.vfs.in_use
        await in_use.wait_until(lambda: not in_use.running and not in_use.files)

    async def _close_rest(self) -> None:
        if self.handles.journal is not None:
            await self.handles.journal.aclose()
        await self.audit.aclose()
        self.watch.close()
        if self.mounting is None:
            await close_providers([mount.provider for mount in self.vfs.mounts])
        else:
            await self.mounting.aclose()
