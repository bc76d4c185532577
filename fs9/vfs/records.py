"""The interfaces of the meta store and of the provider registry that namespaces use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fs9.provider import Provider
    from fs9.quota import NamespaceQuota, Quota
    from fs9.resources import Resources
    from fs9.types import MountSpec


class Record(Protocol):
    """What the meta store knows of a namespace (`fs9.meta`), as far as it matters here."""

    @property
    def status(self) -> str: ...
    @property
    def mounts(self) -> tuple[MountSpec, ...]: ...
    @property
    def quota(self) -> NamespaceQuota: ...
    @property
    def id(self) -> str: ...
    @property
    def storage(self) -> str: ...


class Records(Protocol):
    """The part of the meta store that is used here."""

    async def namespace(self, name: str) -> Record:
        """Raises NotFound."""

    async def create_namespace(
        self, name: str, created_by: str, mounts: tuple[MountSpec, ...]
    ) -> Record:
        """Raises AlreadyExists."""

    async def add_mount(self, name: str, spec: MountSpec, by: str) -> object:
        """Raises NotFound, AlreadyExists."""

    async def remove_mount(self, name: str, path: str, by: str) -> None:
        """Raises NotFound."""


class ProviderRegistry(Protocol):
    """The part of `fs9.providers.registry` that is used here."""

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
        """Raises NotFound for an unknown provider, InvalidArgument for a wrong config."""
