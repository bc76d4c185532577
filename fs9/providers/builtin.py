"""The one list of built-in providers."""

from __future__ import annotations

from fs9.providers import hellofs, kvfs, localfs, memfs
from fs9.providers.registry import Registry


def registry() -> Registry:
    """A new registry with every built-in provider."""
    registry = Registry()
    registry.register("hellofs", hellofs.create)
    registry.register("kvfs", kvfs.create)
    registry.register("localfs", localfs.create)
    registry.register("memfs", memfs.create)
    return registry
