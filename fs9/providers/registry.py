"""The registry of providers by name, and the check of their configuration.

A mount (`fs9.types.MountSpec`) names a provider and has a config object from a user. Each
provider declares the keys it knows as a frozen `msgspec.Struct` and reads the object with
`read_config`, so that a wrong key fails the mount with the key that was meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import msgspec

from fs9.errors import AlreadyExists, InvalidArgument, NotFound
from fs9.path import clean
from fs9.provider import Provider
from fs9.providers.losses import Losses
from fs9.providers.tasked import tasked

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.clock import Clock
    from fs9.limits import Limits
    from fs9.providers.policy import AddressPolicy
    from fs9.quota import Quota
    from fs9.resources import Resources
    from fs9.threads import BlockingPool
    from fs9.types import MountSpec

ConfigT = TypeVar("ConfigT", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """What a provider may use besides its config."""

    namespace: str
    data_dir: Path
    limits: Limits
    clock: Clock
    pool: BlockingPool
    #: Counts what the namespace holds; providers that store on this host charge it.
    quota: Quota | None = None
    #: The clean mount point, which tells several mounts of one provider in a namespace apart.
    mount: str = "/"
    #: To be called, once, when another host has taken over the storage: the namespace is given up,
    #: and loaded again at its next use.
    lost: Callable[[], None] = field(default=lambda: None, compare=False)
    #: Where the mount may connect to; None: anywhere, for the mounts of the operator's settings.
    addresses: AddressPolicy | None = None
    #: The provider is made to find out whether its config can be used, and closed at once. Another
    #: process may be serving the same mount, and must not be disturbed.
    trial: bool = False
    #: The name by which the namespace's data is stored, part of all paths: the namespace's own,
    #: unless the data of a deleted namespace still has that.
    storage: str = ""
    #: Counts what slow readers miss.
    losses: Losses = field(default_factory=Losses, compare=False)

    def __post_init__(self) -> None:
        if not self.storage:
            object.__setattr__(self, "storage", self.namespace)


Factory: TypeAlias = Callable[[Mapping[str, Any], ProviderContext], Awaitable[Provider]]
#: Looks at a config and nothing else. Raises InvalidArgument.
Check: TypeAlias = Callable[[Mapping[str, Any]], None]


class Source(Protocol):
    """Finds providers that are not registered at the start (native plugins)."""

    async def names(self) -> list[str]: ...

    async def find(self, name: str) -> Factory | None:
        """The factory of this name, or None."""


class Registry:
    """Makes providers by name."""

    def __init__(self) -> None:
        self._factories: dict[str, Factory] = {}
        self._checks: dict[str, Check] = {}
        self._source: Source | None = None
        self.losses = Losses()
        #: Called with the namespace's name when a provider says that its storage is lost.
        self.on_lost: Callable[[str], None] = lambda name: None
        #: Where a mount may connect to (`ProviderContext.addresses`).
        self.addresses_of: Callable[[MountSpec], AddressPolicy | None] = lambda spec: None

    def use(self, source: Source) -> None:
        """Ask the source for names that are not registered."""
        self._source = source

    def register(self, name: str, factory: Factory, check: Check | None = None) -> None:
        """Raises AlreadyExists when the name is taken."""
        if name in self._factories:
            raise AlreadyExists(f"provider {name}")
        self._factories[name] = factory
        if check is not None:
            self._checks[name] = check

    def check(self, spec: MountSpec) -> None:
        """Raises InvalidArgument where it can be seen that no mount can be made of it."""
        check = self._checks.get(spec.provider)
        if check is not None:
            check(spec.config)

    def names(self) -> list[str]:
        """The registered names; those of the source are not among them."""
        return sorted(self._factories)

    async def all_names(self) -> list[str]:
        more = [] if self._source is None else await self._source.names()
        return sorted({*self._factories, *more})

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
        """A provider for the mount, in the namespace; the other arguments as in `ProviderContext`.

        Raises NotFound for an unknown name, InvalidArgument for a wrong config, and what the
        provider itself cannot get by (a missing directory, a backend that is down).
        """
        factory = self._factories.get(spec.provider)
        if factory is None and self._source is not None:
            factory = await self._source.find(spec.provider)
        if factory is None:
            hint = nearest(spec.provider, await self.all_names())
            raise NotFound(f"provider {spec.provider}{hint}")
        context = ProviderContext(
            namespace,
            resources.data_dir,
            resources.limits,
            resources.clock,
            resources.pool,
            quota=quota,
            mount=clean(spec.path),
            lost=lambda: self.on_lost(namespace),
            addresses=self.addresses_of(spec),
            trial=trial,
            storage=storage,
            losses=self.losses,
        )
        return tasked(await factory(spec.config, context))


def read_config(provider: str, kind: type[ConfigT], config: Mapping[str, Any]) -> ConfigT:
    """The config as a `kind`; raises InvalidArgument naming the wrong key and the likely one."""
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    for key in config:
        if key not in known:
            raise InvalidArgument(f"{provider} has no setting {key!r}{nearest(key, known)}")
    try:
        return msgspec.convert(dict(config), kind)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"{provider}: {error}") from None


def nearest(word: str, known: list[str]) -> str:
    """The end of a message about an unknown word: what was probably meant, else what there is."""
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is {', '.join(known)}" if known else "; it has none"
