"""Wraps providers when traces are on: a span for each call.

`fs9.services` puts it in place; without tracing no provider is wrapped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from fs9.types import ALWAYS

if TYPE_CHECKING:
    from fs9.observe.tracing import Tracing
    from fs9.provider import Departures, Followable, Follower, OpenFile, Provider
    from fs9.providers.registry import Registry
    from fs9.quota import Quota
    from fs9.resources import Resources
    from fs9.types import (
        Buffer,
        Capability,
        Condition,
        FileInfo,
        FsStats,
        MountSpec,
        OpenFlags,
        StatChanges,
    )


class TracedRegistry:
    """A registry whose providers are traced."""

    def __init__(self, registry: Registry, tracing: Tracing) -> None:
        self._registry = registry
        self._tracing = tracing

    async def create(
        self,
        spec: MountSpec,
        resources: Resources,
        *,
        namespace: str,
        storage: str = "",
        quota: Quota | None = None,
        trial: bool = False,
    ) -> Provider:
        """As `Registry.create`."""
        provider = await self._registry.create(
            spec, resources, namespace=namespace, storage=storage, quota=quota, trial=trial
        )
        return TracedProvider(provider, self._tracing)


class TracedProvider:
    """Passes all calls to `provider`; its errors pass through, and mark the span."""

    def __init__(self, provider: Provider, tracing: Tracing) -> None:
        self._provider = provider
        self._step = tracing.step
        self.name = provider.name
        self.volatile = provider.volatile

    async def stat(self, path: str) -> FileInfo:
        with self._step(f"{self.name} stat", path=path):
            return await self._provider.stat(path)

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        with self._step(f"{self.name} wstat", path=path):
            await self._provider.wstat(path, changes, condition)

    async def statfs(self, path: str) -> FsStats:
        with self._step(f"{self.name} statfs", path=path):
            return await self._provider.statfs(path)

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[OpenFile, FileInfo]:
        with self._step(f"{self.name} open", path=path):
            return await self._provider.open(path, flags, condition)

    async def read(self, file: OpenFile, offset: int, size: int) -> Buffer:
        with self._step(f"{self.name} read", offset=offset, size=size):
            return await self._provider.read(file, offset, size)

    async def write(self, file: OpenFile, offset: int, data: Buffer) -> int:
        with self._step(f"{self.name} write", offset=offset, size=len(data)):
            return await self._provider.write(file, offset, data)

    async def close(
        self, file: OpenFile, *, sync: bool = False, discard: bool = False
    ) -> FileInfo | None:
        with self._step(f"{self.name} close"):
            return await self._provider.close(file, sync=sync, discard=discard)

    async def readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        with self._step(f"{self.name} readdir", path=path):
            return await self._provider.readdir(path, after, limit)

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        with self._step(f"{self.name} remove", path=path):
            await self._provider.remove(path, condition)

    async def follow(self, path: str, cursor: str | None) -> Follower:
        """The span covers only the start; a follower may stay for days."""
        with self._step(f"{self.name} follow", path=path):
            return await cast("Followable", self._provider).follow(path, cursor)

    def tell_departures(self, to: Departures) -> None:
        tell = getattr(self._provider, "tell_departures", None)
        if tell is not None:
            tell(to)

    def capabilities(self) -> Capability:
        return self._provider.capabilities()

    async def destroy(self) -> None:
        with self._step(f"{self.name} destroy"):
            await self._provider.destroy()

    async def aclose(self) -> None:
        await self._provider.aclose()
