"""Rows of the meta store as values."""

from __future__ import annotations

import msgspec

from fs9.types import MountSpec


class NamespaceRecord(msgspec.Struct, frozen=True):
    """One namespace. `status` is `active` in this version; mounts are sorted by path."""

    name: str
    status: str
    created_at_s: int
    created_by: str
    mounts: tuple[MountSpec, ...]
