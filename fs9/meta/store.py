"""What a meta store does, whatever the database. Many processes use one at the same time.

Every change is one transaction: it is kept (also over a loss of power) when the call returns,
and not at all when it raises. Besides the errors named below a call raises Transient when the
database is busy for too long, and BackendUnavailable when it fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fs9.meta.models import NamespaceRecord
    from fs9.types import MountSpec


class Store(Protocol):
    async def create_namespace(
        self, name: str, created_by: str, mounts: Sequence[MountSpec]
    ) -> NamespaceRecord:
        """A new namespace.

        Raises InvalidArgument (the name), AlreadyExists; their `detail` is the contract's text.
        """

    async def ensure_namespace(
        self, name: str, created_by: str, mounts: Sequence[MountSpec]
    ) -> NamespaceRecord:
        """The namespace with exactly these mounts, created or changed as needed."""

    async def namespace(self, name: str) -> NamespaceRecord:
        """Raises NotFound; its `detail` is the contract's text."""

    async def namespaces(self) -> list[NamespaceRecord]:
        """All namespaces, sorted by name."""

    async def aclose(self) -> None:
        """Release the database; nothing runs or follows."""
