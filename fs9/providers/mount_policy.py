"""What a tenant's own operators may mount over HTTP, as the settings `server.mounts_policy` say.

There are two lines of defence. `MountPolicy.checked` refuses what is not allowed before anything is
made, and pins down what is allowed, so that it cannot come to mean something else later. And each
mount that does not come from the settings has an `AddressPolicy`, which is asked at each
connection.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from fs9.errors import Forbidden, InvalidArgument
from fs9.providers.localfs import configured_root
from fs9.providers.policy import AddressPolicy, networks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Self

    from fs9.config import Settings
    from fs9.types import MountSpec

#: Backends of pagefs, and of its blocks, that keep to this host.
_OWN_BACKENDS = ("lmdb", "memory")
_OWN_BLOCKS = ("files", "inline", "memory")


class MountPolicy:
    def __init__(
        self,
        *,
        providers: Iterable[str],
        localfs_roots: Iterable[str],
        proxy_targets: Iterable[str],
        networks: Iterable[str],
        own: Iterable[MountSpec],
        data_dir: Path,
    ) -> None:
        """`own` are the mounts of the settings. Raises InvalidArgument naming a wrong network."""
        self._providers = frozenset(providers)
        self._localfs_roots = tuple(localfs_roots)
        self._proxy_targets = frozenset(target.lower() for target in proxy_targets)
        self._addresses = AddressPolicy(networks_of(networks))
        self._own = tuple(own)
        self._data_dir = data_dir
        self._rules: dict[str, Callable[[MountSpec, str], MountSpec]] = {
            "localfs": self._localfs,
            "pagefs": self._pagefs,
            "proxyfs": self._proxyfs,
        }

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            providers=settings.mount_providers,
            localfs_roots=settings.mount_localfs_roots,
            proxy_targets=settings.mount_proxy_targets,
            networks=settings.mount_networks,
            own=(*settings.mounts, *settings.namespace_template),
            data_dir=settings.data_dir,
        )

    def addresses_of(self, spec: MountSpec) -> AddressPolicy | None:
        """Where a mount may connect to; None for mounts of the settings: anywhere."""
        return None if spec in self._own else self._addresses

    def checked(self, spec: MountSpec, storage: str) -> MountSpec:
        """What is mounted when a tenant asks for `spec`; raises Forbidden, InvalidArgument.

        Looks at the file system, so it blocks.
        """
        if spec.provider not in self._providers:
            raise Forbidden(
                f"only an administrator of the server may mount {spec.provider} here"
                " (server.mounts_policy.providers)"
            )
        rule = self._rules.get(spec.provider)
        return spec if rule is None else rule(spec, storage)

    def _localfs(self, spec: MountSpec, storage: str) -> MountSpec:
        root = spec.config.get("root")
        if not isinstance(root, str):
            raise InvalidArgument("localfs: 'root' must be an absolute path")
        real = os.path.realpath(configured_root(root, self._data_dir, storage))
        for allowed in self._localfs_roots:
            whole = os.path.realpath(configured_root(allowed, self._data_dir, storage))
            if os.path.commonpath((whole, real)) == whole:
                # What is a directory now could be a link to another one tomorrow.
                config = spec.config | {"root": real, "confined": True}
                return msgspec.structs.replace(spec, config=config)
        raise Forbidden(
            "localfs may not be mounted from this directory (server.mounts_policy.localfs_roots)"
        )

    def _pagefs(self, spec: MountSpec, _: str) -> MountSpec:
        backend = _table(spec.config.get("backend"))
        blocks = _table(backend.get("blocks"))
        own = backend.get("type", "lmdb") in _OWN_BACKENDS
        if not own or blocks.get("type", "files") not in _OWN_BLOCKS:
            raise Forbidden("only an administrator of the server may mount a pagefs of other hosts")
        return spec

    def _proxyfs(self, spec: MountSpec, _: str) -> MountSpec:
        upstream = spec.config.get("upstream")
        try:
            parts = urlsplit(upstream if isinstance(upstream, str) else "")
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host:
            raise InvalidArgument("proxyfs: 'upstream' must be the URL of a server")
        target = f"[{host}]" if ":" in host else host
        port = port or (443 if parts.scheme == "https" else 80)
        if self._proxy_targets.isdisjoint({target, f"{target}:{port}"}):
            raise Forbidden(
                f"proxyfs may not be mounted from {target}:{port}"
                " (server.mounts_policy.proxy_targets)"
            )
        return spec


def _table(value: Any) -> Mapping[str, Any]:  # noqa: ANN401  of a user's JSON
    """The object, or an empty one for another value, which the provider refuses."""
    return value if isinstance(value, dict) else {}
