"""Providers of other distributions: what is installed under the entry-point group `fs9.providers`.

An entry point names a coroutine function `create(config, context)`, like those of built-in
providers (docs/providers.md). A broken distribution makes its own mounts fail with a clear error
and logs a warning; it never keeps the server from starting.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from fs9.errors import BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from importlib.metadata import EntryPoint

    from fs9.provider import Provider
    from fs9.providers.registry import Factory, ProviderContext, Registry

GROUP = "fs9.providers"

log = logging.getLogger(__name__)


@cache
def installed() -> tuple[EntryPoint, ...]:
    """The entry points of this interpreter, not loaded. Cached, because the search takes 7 ms."""
    return tuple(entry_points(group=GROUP))


def register_installed(registry: Registry, found: Iterable[EntryPoint] | None = None) -> None:
    """Register installed providers: `found`, by default those that this interpreter has.

    A name that is taken, by a built-in provider or by a distribution that sorts before, is
    refused: an installation must not change what existing mounts mean.
    """
    for entry in sorted(
        installed() if found is None else found,
        key=lambda entry: (entry.name, _distribution(entry)),
    ):
        if entry.name in registry.names():
            log.error(
                "%s offers a provider %r, which there is already: it is not used",
                *(_distribution(entry), entry.name),
            )
        else:
            registry.register(entry.name, _factory(entry))


def _factory(entry: EntryPoint) -> Factory:
    reason = "its entry point is not callable"
    try:
        made: Any = entry.load()
        if callable(made):
            factory: Factory = made
            return factory
    except Exception as error:  # whatever a foreign module does when it is imported
        reason = f"{type(error).__name__}: {error}"
    log.warning(
        "the provider %r of %s cannot be used: %s", entry.name, _distribution(entry), reason
    )
    return _broken(f"the provider {entry.name} of {_distribution(entry)} cannot be used: {reason}")


def _broken(text: str) -> Factory:
    async def create(config: Mapping[str, Any], context: ProviderContext) -> Provider:
        raise BackendUnavailable(text)

    return create


def _distribution(entry: EntryPoint) -> str:
    return "an unknown distribution" if entry.dist is None else entry.dist.name
