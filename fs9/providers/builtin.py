"""The one list of built-in providers; what else is installed follows it."""

from __future__ import annotations

from fs9.providers import hellofs, kvfs, localfs, memfs, proxyfs, pubsubfs, streamfs
from fs9.providers.installed import register_installed
from fs9.providers.pagefs import backends as pagefs
from fs9.providers.registry import Registry


def registry() -> Registry:
    """A new registry with every built-in provider, and those of installed distributions."""
    registry = Registry()
    registry.register("hellofs", hellofs.create)
    registry.register("kvfs", kvfs.create)
    registry.register("kv", kvfs.create)  # its name in the mounts of older servers
    registry.register("localfs", localfs.create)
    registry.register("memfs", memfs.create)
    registry.register("proxyfs", proxyfs.ProxyFactory().create)
    registry.register("pubsubfs", pubsubfs.create)
    registry.register("streamfs", streamfs.create)
    registry.register("pagefs", pagefs.create)
    register_installed(registry)
    return registry
