"""A lease on a namespace's storage in a bucket: one small object, changed by conditional puts.

The object says who has the storage. A holder that lives writes it anew again and again; whoever
wants the storage of another one waits until it has not changed for as long as its holder said.
Both times are the object storage's own: that of the last change, and "now", which is the time of
an object that was put just then. Puts are conditional (`If-Match`, `If-None-Match`), so of two
that want it one gets it.

It keeps hosts from taking the storage from one another; what keeps a writer out that slept
through its lease is SlateDB's fencing, which each commit meets.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import obstore

from fs9.errors import BackendUnavailable, Fs9Error, OwnerUnavailable
from fs9.providers.pagefs.lease import TAKEN_OVER, Lease
from fs9.providers.pagefs.s3client import Changed

if TYPE_CHECKING:
    from obstore import PutMode

    from fs9.clock import Clock
    from fs9.providers.pagefs.s3client import S3Client

#: Times of objects are whole seconds.
_RESOLUTION_S = 1.0
_WAIT_POLL_S = 0.5
_TICK_S = 1.0
#: Conflicts that end by themselves: with another writer, or with what we sent before.
_ATTEMPTS_MAX = 10


class Holding(msgspec.Struct, frozen=True):
    """What the object says. `opening` and `number`: no two puts are the same."""

    holder: str
    opening: str
    number: int
    ttl_secs: float


class _Found(NamedTuple):
    holding: Holding
    etag: str
    changed_s: float


class S3Lease(Lease):
    """Ours after `take`, and renewed by a task, until `aclose`."""

    def __init__(
        self, client: S3Client, path: str, holder: str, clock: Clock, ttl_s: float
    ) -> None:
        """`path` of the object. Who has the same `holder` does not wait for one another."""
        super().__init__(clock, ttl_s)
        self._client = client
        self._path = path
        self._holder = holder
        self._opening = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._etag: str | None = None
        self._putting = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None

    async def take(self, wait_s: float) -> None:
        """Wait so long for it. Raises OwnerUnavailable, BackendUnavailable, Timeout."""
        deadline_s = self.now_s() + wait_s
        ahead_s: float | None = None  # of the storage's clock before ours
        while True:
            asked_s = self.now_s()
            found = await self._read()
            free = found is None or found.holding.holder in {"", self._holder}
            if found is not None and not free:
                if ahead_s is None:
                    ahead_s = await self._storage_now_s() - self.now_s()
                over_s = found.changed_s + found.holding.ttl_secs + _RESOLUTION_S
                free = self.now_s() + ahead_s >= over_s
            if free:
                # Another one was faster, or has just erased it.
                with contextlib.suppress(Changed, FileNotFoundError):
                    self._etag = await self._put(
                        self._holder, None if found is None else found.etag
                    )
                    self.renewed(asked_s)
                    self._renewing = asyncio.get_running_loop().create_task(self._keep())
                    return
            if self.now_s() >= deadline_s:
                raise OwnerUnavailable("another host serves the namespace")
            await asyncio.sleep(min(_WAIT_POLL_S, self.ttl_s / 10))

    async def renew(self) -> None:
        """When another one has it, it is lost afterwards. Raises BackendUnavailable, Timeout."""
        async with self._putting:
            if not self.lost:
                asked_s = self.now_s()
                await self._write(self._holder)
                if not self.lost:
                    self.renewed(asked_s)

    async def aclose(self) -> None:
        """Let it go, so that another host need not wait for its end."""
        await self._stop_renewing()
        async with self._putting:
            if self._etag is not None and not self.lost:
                await self._write("")

    async def erase(self) -> None:
        """Let it go, and leave no object behind: what it is about is gone."""
        await self._stop_renewing()
        store, path = self._client.store, self._path
        async with self._putting:
            if not self.lost:
                with contextlib.suppress(FileNotFoundError):
                    await self._client.call("delete", lambda: obstore.delete_async(store, path))

    async def _stop_renewing(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])

    async def _keep(self) -> None:
        while not self.lost:
            await asyncio.sleep(min(_TICK_S, self.ttl_s / 4))
            if self.due:
                with contextlib.suppress(Fs9Error):  # tried again; a lease that is over says so
                    await self.renew()

    async def _write(self, holder: str) -> None:
        """Change what we have put before, or lose."""
        for _ in range(_ATTEMPTS_MAX):
            try:
                self._etag = await self._put(holder, self._etag)
            except (Changed, FileNotFoundError):
                found = await self._read()
                if found is None or found.holding.opening != self._opening:
                    self.lose(TAKEN_OVER)
                    return
                self._etag = found.etag  # of a request that we did not hear of
            else:
                return
        raise BackendUnavailable("the object storage of pagefs: a conditional put never ends")

    async def _put(self, holder: str, etag: str | None) -> str | None:
        """Over the version with this etag, or (None) where there is none."""
        holding = Holding(holder, self._opening, next(self._numbers), self.ttl_s)
        data = msgspec.json.encode(holding)
        store, path = self._client.store, self._path

        async def put() -> str | None:
            mode: PutMode = "create" if etag is None else {"e_tag": etag}
            done = await obstore.put_async(store, path, data, use_multipart=False, mode=mode)
            return done["e_tag"]

        return await self._client.call("put", put)

    async def _read(self) -> _Found | None:
        store, path = self._client.store, self._path

        async def get() -> _Found:
            result = await obstore.get_async(store, path)
            data, meta = bytes(await result.buffer_async()), result.meta
            try:
                holding = msgspec.json.decode(data, type=Holding)
            except msgspec.DecodeError as error:
                raise BackendUnavailable(f"the lease {path} cannot be read: {error}") from error
            return _Found(holding, meta["e_tag"] or "", meta["last_modified"].timestamp())

        try:
            return await self._client.call("get", get)
        except FileNotFoundError:
            return None

    async def _storage_now_s(self) -> float:
        """Not earlier than that, by the clock of the object storage."""
        store, path = self._client.store, f"{self._path}-now-{self._opening}"
        await self._client.call("put", lambda: obstore.put_async(store, path, b"."))
        try:
            meta = await self._client.call("head", lambda: obstore.head_async(store, path))
        finally:
            await self._client.call("delete", lambda: obstore.delete_async(store, path))
        return meta["last_modified"].timestamp()
