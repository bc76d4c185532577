"""Announcements of changed metadata to the workers, and how they are made.

The store makes sure that every change arrives: each worker also asks `Metadata.changes_since` on a
timer. An announcement only makes it fast.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec

from fs9.meta.models import Revocation


class NamespaceChanged(msgspec.Struct, frozen=True):
    """Status, quota or mounts of the namespace have changed."""

    name: str


class Revoked(msgspec.Struct, frozen=True):
    revocations: tuple[Revocation, ...]


Change: TypeAlias = NamespaceChanged | Revoked

#: Returns when every worker has applied the change (True), or when the time for that is over.
Announce: TypeAlias = Callable[[Change], Awaitable[bool]]
