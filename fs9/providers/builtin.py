"""The list of built-in providers, followed by the installed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.config import ConfigError
from fs9.errors import InvalidArgument
from fs9.providers import hellofs, kvfs, localfs, memfs, proxyfs, pubsubfs, streamfs
from fs9.providers.installed import register_installed
from fs9.providers.pagefs import backends as pagefs
from fs9.providers.registry import Registry

if TYPE_CHECKING:
    from fs9.config import Settings


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
    registry.register("pagefs", pagefs.create, pagefs.check)
    register_installed(registry)
    return registry


def check_mounts(registry: Registry, settings: Settings) -> None:
    """Raises ConfigError where it can be seen that a mount of the settings cannot be made."""
    for key in ("mounts", "namespace_template"):
        for spec in getattr(settings, key):
            try:
                registry.check(spec)
            except InvalidArgument as error:
                raise ConfigError(f"{key}: {spec.path}: {error}") from None
