"""Whether settings can be used here: found out before a fleet starts with them, or takes them over.

Everything that the settings name is looked up, and what is cheap to make is made once and closed;
each error is a ConfigError that names the setting.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from fs9.auth.identity import check_keys
from fs9.clock import SystemClock
from fs9.config import ConfigError, nearest
from fs9.errors import Fs9Error
from fs9.meta.client import MetaClient
from fs9.names import DEFAULT_NAMESPACE, SYSTEM_USER
from fs9.observe import tracing
from fs9.providers import builtin
from fs9.resources import Resources
from fs9.services import Services, plugin_manager
from fs9.threads import BlockingPool

if TYPE_CHECKING:
    from fs9.config import Settings
    from fs9.providers.registry import Registry

log = logging.getLogger(__name__)


async def preflight(settings: Settings) -> None:
    """Find out, before any worker starts, whether the settings can be used here.

    Makes the data directory, makes or migrates the metadata, and makes each provider of
    `mounts` once. Raises ConfigError with the key.
    """
    _check_names(settings, await _plugin_names(settings))
    # Without traces: what they need must not be made before the workers are forked.
    services = await Services.open(replace(settings, otlp_endpoint=None))
    try:
        if isinstance(services.store, MetaClient):
            try:
                if services.changes.caught_up:  # it answers; else it may come up later
                    await services.store.mount_default(settings.mounts, SYSTEM_USER)
            except Fs9Error as error:  # a service may know no mounts at all
                log.warning("`mounts` were not given to the metadata service: %s", error)
            return
        await services.namespaces.find(DEFAULT_NAMESPACE, create=False)
    except (Fs9Error, OSError) as error:
        raise ConfigError(f"mounts: {error}") from error
    finally:
        await services.aclose()


async def check_providers(settings: Settings, running: Settings) -> None:
    """Find out whether a fleet that serves with `running` could go on with `settings`.

    Nothing of the metadata is made or migrated; mounts that are new are made once. Raises
    ConfigError with the key.
    """
    registry = _check_names(settings, await _plugin_names(settings))
    if settings.auth_enabled:
        check_keys(settings)
    resources = _resources(settings)
    plugin_manager(settings, registry, resources)
    try:
        for spec in settings.mounts:
            if spec not in running.mounts:
                provider = await registry.create(
                    spec, resources, namespace=DEFAULT_NAMESPACE, trial=True
                )
                await provider.aclose()
    except (Fs9Error, OSError) as error:
        raise ConfigError(f"mounts: {error}") from error
    finally:
        await resources.pool.aclose()


async def _plugin_names(settings: Settings) -> list[str]:
    """The names of the native plugins; raises ConfigError when one that is named is none."""
    resources = _resources(settings)
    plugins = plugin_manager(settings, builtin.registry(), resources)
    try:
        await plugins.check()
        return await plugins.names()
    except Fs9Error as error:
        raise ConfigError(f"server.plugins: {error}") from None
    finally:
        await resources.pool.aclose()


def _check_names(settings: Settings, plugins: list[str]) -> Registry:
    """The registry, if it has all that the settings name, or a plugin has."""
    registry = builtin.registry()
    known = [*registry.names(), *plugins]
    for key in ("mounts", "namespace_template"):
        for spec in getattr(settings, key):
            if spec.provider not in known:
                hint = nearest(spec.provider, known)
                raise ConfigError(f"{key}: {spec.path}: no provider {spec.provider}{hint}")
    builtin.check_mounts(registry, settings)
    tracing.check(settings.otlp_endpoint)
    return registry


def _resources(settings: Settings) -> Resources:
    """For a check alone; the caller closes the pool."""
    return Resources(settings.data_dir, settings.limits, SystemClock(), BlockingPool(1))
