"""The one list of built-in providers."""

from __future__ import annotations

from fs9.providers import hellofs, kvfs, localfs, memfs, pubsubfs, streamfs
from fs9.providers.pagefs import backends as pagefs
from fs9.providers.registry import Registry


def registry() -> Registry:
    """A new registry with every built-in provider."""
    registry = Registry()
    registry.register("hellofs", hellofs.create)
    registry.register("kvfs", kvfs.create)
    registry.register("localfs", localfs.create)
    registry.register("memfs", memfs.create)
    registry.register("pubsubfs", pubsubfs.create)
    registry.register("streamfs", streamfs.create)
    registry.register("pagefs", pagefs.create)
    return registry
