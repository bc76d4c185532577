"""Every setting, declared once: key, type, default, help, variable, flag.

From these declarations come the loader (`fs9.config.loader`), `fs9 config`, the example file
and the reference page (`fs9.config.reference`). `Settings` is a plain frozen value: it can be
pickled into workers, and nothing acts on it but `fs9.services` and the programs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from fs9.config.declaring import declare as _declare
from fs9.config.dsn import Dsn
from fs9.config.kinds import (
    BusAddress,
    Directories,
    Directory,
    Endpoints,
    InternalPrefix,
    Mounts,
    NamespaceNames,
    Peers,
    Plugins,
    Seconds,
    Switch,
    Text,
    Texts,
    Whole,
)
from fs9.config.limit_settings import LIMIT_SETTINGS
from fs9.config.tenant_settings import TenantSettings
from fs9.limits import Limits
from fs9.types import MountSpec, PluginSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fs9.config.setting import Setting

_NAMESPACE_QPS, _USER_QPS = 1000, 100

LOG_LEVELS = ("trace", "debug", "info", "warn", "error")
LOG_FORMATS = ("pretty", "json", "compact")

#: What a namespace is made of when nothing else is said: storage of its own on this host.
EMBEDDED_MOUNTS = (MountSpec("/", "pagefs"),)


def _processors() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Settings(TenantSettings):
    """The effective settings of one server; every worker of it has the same.

    `origins` says for each key where its value came from; `warnings` are sentences for the
    log at start.
    """

    host: str = _declare(
        "server.host",
        Text(),
        "Address to listen on. One that other hosts can reach needs authentication"
        " (or the flag `--insecure`).",
        default="127.0.0.1",
        env="FS9_HOST",
        flag="--host",
    )
    port: int = _declare(
        "server.port",
        Whole(least=0, most=65_535),
        "TCP port; 0 takes a free one.",
        default=9999,
        env="FS9_PORT",
        flag="--port",
    )
    workers: int = _declare(
        "server.workers",
        Whole(least=1, most=1024),
        "Worker processes. Each namespace is served by one of them.",
        factory=_processors,
        default_text="the number of processors",
        example=4,
        env="FS9_WORKERS",
        flag="--workers",
    )
    data_dir: Path = _declare(  # noqa: RUF009  a frozen default
        "data_dir",
        Directory(),
        "Directory of everything that is kept: the metadata and, unless mounted elsewhere, the"
        " files. Created when missing, accessible to this user alone; relative to the working"
        " directory.",
        default=Path("fs9-data"),
        env="FS9_DATA_DIR",
        flag="--data-dir",
    )
    meta_dsn: str | None = _declare(
        "meta.dsn",
        Dsn(),
        "Where the metadata is kept: `sqlite:PATH`, or `postgresql://USER@HOST/DATABASE` for more"
        " than one host. PostgreSQL's own variables and files (`PGPASSWORD`, `~/.pgpass`) supply"
        " what the DSN leaves out.",
        optional=True,
        default_text="`meta.db` in the data directory",
        env="FS9_META_DSN",
        example="postgresql://fs9@db.example.org/fs9",
    )
    meta_endpoints: tuple[str, ...] = _declare(
        "server.meta_url",
        Endpoints(),
        "When set, the metadata is not kept here but in a metadata service (`fs9 meta serve`) at"
        " this address, or at several, separated by commas: when one does not answer, the next one"
        " is asked. Turns authentication on: the service decides about every token.",
        default=(),
        default_text="none: the metadata is kept where `meta.dsn` says",
        env="FS9_META_ENDPOINTS",
        example="http://127.0.0.1:9998",
    )
    meta_key: str = _declare(
        "server.meta_key",
        Text(),
        "The admin key of the metadata service.",
        default="",
        env="FS9_META_KEY",
        secret=True,
        example="${FS9_META_KEY:-the-admin-key-of-the-service}",
    )
    auth_enabled: bool = _declare(
        "server.auth.enabled",
        Switch(),
        "Whether every request needs a token. A secret, a key set or a metadata service turns it on"
        " by itself.",
        default=False,
    )
    jwt_secret: str = _declare(
        "server.auth.jwt_secret",
        Text(),
        "The secret that signs the tokens (HS256), the same on every server; at least 32 bytes."
        " Setting it turns authentication on.",
        default="",
        env="FS9_JWT_SECRET",
        secret=True,
        example="${FS9_SECRET}",
    )
    previous_secrets: tuple[str, ...] = _declare(
        "server.auth.previous_secrets",
        Texts(),
        "Earlier secrets whose tokens are still accepted. They sign no new tokens.",
        default=(),
        default_text="none",
        secret=True,
        example=("the-secret-before-this-one-of-32-bytes",),
    )
    jwks: str | None = _declare(
        "server.auth.jwks",
        Text(),
        "A file or an `https://` address with the public keys (JSON Web Key Set) of an issuer"
        " of RS256 and EdDSA tokens; plain `http://` only to this host. Setting it turns"
        " authentication on.",
        optional=True,
        example="https://issuer.example.com/.well-known/jwks.json",
    )
    jwks_refresh_s: float = _declare(
        "server.auth.jwks_refresh_secs",
        Seconds(),
        "How often the key set is read again. A token with an unknown key causes a read at once,"
        " but at most one in ten seconds.",
        default=300.0,
    )
    token_ttl_s: int = _declare(
        "server.auth.token_ttl_secs",
        Whole(),
        "Lifetime, in seconds, of the tokens that `/auth/refresh` makes.",
        default=86_400,
    )
    token_lifetime_max_s: int | None = _declare(
        "server.auth.max_token_lifetime_secs",
        Whole(),
        "When set, tokens with a longer lifetime (`exp` - `iat`) are refused, so revocations by"
        " user, namespace and `jti` need not be kept for ever. `fs9 admin` uses tokens of an hour,"
        " and makes tokens of a day by default. Before raising it, wait until the tokens that were"
        " too long have expired, because their revocations may have been forgotten.",
        optional=True,
        example=604_800,
    )
    refresh_grace_hours: int = _declare(
        "server.auth.refresh_grace_hours",
        Whole(least=0, most=24 * 365),
        "For how long after its expiry a token can still be refreshed.",
        default=4,
    )
    refresh_grace_period_hours: int | None = _declare(
        "server.refresh_grace_period_hours",
        Whole(least=0, most=24 * 365),
        "An older name of `server.auth.refresh_grace_hours`; it wins when both are given.",
        optional=True,
        example=4,
    )
    token_issuer: str | None = _declare(
        "server.auth.issuer",
        Text(),
        "When set, tokens must carry this `iss` claim.",
        optional=True,
        example="fs9",
    )
    token_audience: str | None = _declare(
        "server.auth.audience",
        Text(),
        "When set, tokens must carry this `aud` claim; otherwise tokens with any are refused.",
        optional=True,
        example="fs9-clients",
    )
    admin_namespaces: tuple[str, ...] = _declare(
        "server.auth.admin_namespaces",
        NamespaceNames(),
        "Namespaces whose administrators administer the whole server: all namespaces, and metrics."
        " Administrators of other namespaces administer only their own.",
        default=("admin", "default"),
        default_text="`admin` and `default`",
        example=("admin",),
    )
    mounts: tuple[MountSpec, ...] = _declare(
        "mounts",
        Mounts(),
        "The mounts of the namespace `default`: providers at paths. Changes take effect at the"
        " next start or reload. In a localfs `root`, `{data_dir}` and `{namespace}` are replaced."
        " When it is not given, `default` keeps the mounts that it has.",
        default=EMBEDDED_MOUNTS,
    )
    namespace_template: tuple[MountSpec, ...] = _declare(
        "namespace_template",
        Mounts(),
        "The mounts of a new namespace; existing namespaces keep theirs.",
        default=EMBEDDED_MOUNTS,
    )
    log_level: str = _declare(
        "logging.level",
        Text(LOG_LEVELS),
        "The least severe messages that are logged.",
        default="info",
        env="FS9_LOG_LEVEL",
    )
    log_format: str = _declare(
        "logging.format",
        Text(LOG_FORMATS),
        "`pretty` for people, `compact` for little space, `json` for programs: one object a line.",
        default="pretty",
        env="FS9_LOG_FORMAT",
    )
    log_filter: str = _declare(
        "logging.filter",
        Text(),
        "Replaces the level: comma-separated `logger=level`, and a bare level for the rest.",
        default="",
        env="FS9_LOG_FILTER",
        example="info,fs9.http=debug",
    )
    log_access: bool = _declare(
        "logging.access",
        Switch(),
        "Whether each request is logged when it is answered, in one line of the logger"
        " `fs9.access` at level info. Tokens are never in it.",
        default=False,
    )
    otlp_endpoint: str | None = _declare(
        "tracing.otlp_endpoint",
        Text(),
        "Where traces are sent by OTLP over gRPC; when unset, there are none. Needs the extra"
        " `fs9[otel]`. The other `OTEL_...` variables work as OpenTelemetry defines them.",
        optional=True,
        env="OTEL_EXPORTER_OTLP_ENDPOINT",
        example="http://127.0.0.1:4317",
    )
    accel_redirect: str | None = _declare(
        "server.accel_redirect",
        InternalPrefix(),
        "When set, nginx (its file made with the same setting) sends large downloads from local"
        " directories itself: under this path, which clients cannot ask for, it finds the open"
        " files that workers lend it.",
        optional=True,
        example="/.fs9/files/",
    )
    bus_bind: str = _declare(
        "server.bus.bind",
        BusAddress(),
        "Where the workers' control bus is: `ipc`, in sockets of the run directory, or"
        " `tcp://ADDRESS:PORT`, at this port and the next one, encrypted and for those alone"
        " who have the keys.",
        default="ipc",
        example="tcp://127.0.0.1:9997",
    )
    bus_keys_dir: Path | None = _declare(  # noqa: RUF009  a frozen default
        "server.bus.keys_dir",
        Directory(),
        "Directory of the keys of a bus over TCP. Missing keys are made at start; only the"
        " server's user may read them.",
        optional=True,
        default_text="`bus-keys` in the data directory",
        example="/etc/fs9/bus-keys",
    )
    trusted_proxies: tuple[str, ...] = _declare(
        "server.trusted_proxies",
        Peers(),
        "Who may say for whom it asks: addresses and networks of proxies, and `unix` for those"
        " at the workers' front sockets. Then the client in the access log is the last address"
        " of `X-Forwarded-For` that is not one of these; what others send of it is ignored.",
        default=(),
        default_text="none",
        example=("unix", "10.0.0.0/8"),
    )
    rate_limit_enabled: bool = _declare(
        "server.rate_limit.enabled",
        Switch(),
        "Whether the rate of requests of each user and of each namespace is limited; requests"
        " beyond it are answered 429 with `Retry-After`. Health and metrics are never limited.",
        default=False,
    )
    rate_limit_namespace_qps: int = _declare(
        "server.rate_limit.namespace_qps",
        Whole("whole number", least=0),
        "Requests of a namespace per second, and as many in a burst; 0 means the default.",
        default=_NAMESPACE_QPS,
    )
    rate_limit_user_qps: int = _declare(
        "server.rate_limit.user_qps",
        Whole("whole number", least=0),
        "The same for each user of a namespace, checked first; 0 means the default.",
        default=_USER_QPS,
    )
    plugin_directories: tuple[Path, ...] = _declare(
        "server.plugins.directories",
        Directories(),
        "Directories of native plugins: every library in them becomes a provider with its own"
        " name. Whoever can write there can run code as the server; by default there are none.",
        default=(),
        default_text="none",
        env="FS9_PLUGIN_DIR",
        example=("/usr/lib/fs9/plugins",),
    )
    plugin_preload: tuple[PluginSpec, ...] = _declare(
        "server.plugins.preload",
        Plugins(),
        "Native plugins with a name of their own, which mounts use, and the path of the library.",
        default=(),
        default_text="none",
        example=({"name": "memory", "path": "/usr/lib/fs9/libfs9_plugin_memory.so"},),
    )
    plugins_api: bool = _declare(
        "server.plugins.api",
        Switch(),
        "Whether administrators of the server may load and unload plugins over HTTP, only from the"
        " directories above.",
        default=False,
    )
    metrics_enabled: bool = _declare(
        "server.metrics.enabled",
        Switch(),
        "Whether `/metrics` answers, with the counts of the whole fleet for Prometheus. With"
        " authentication on it needs a token of an administrator or operator of the server.",
        default=True,
    )
    event_loop: str = _declare(
        "server.event_loop",
        Text(("uvloop", "asyncio")),
        "The event loop of the workers. `asyncio` is slower; it is for finding out whether"
        " uvloop is to blame.",
        default="uvloop",
        env="FS9_EVENT_LOOP",
    )
    fast_lane: bool = _declare(
        "server.fast_lane",
        Switch(),
        "Whether small hot requests and large bodies are answered in the protocol class"
        " (several times faster) or, like all others, by the web framework. The answers are"
        " the same.",
        default=True,
        env="FS9_FAST_LANE",
    )
    forwarding: bool = _declare(
        "server.forwarding",
        Switch(),
        "Whether a connection that changes namespace at nearly every request has its requests"
        " forwarded to their owners instead of being handed over each time.",
        default=True,
        env="FS9_FORWARDING",
    )
    limits: Limits = field(default_factory=Limits)
    #: The flag `--insecure`: serve other hosts without authentication. No file can say this.
    insecure: bool = False
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        # However the value was made, a secret, a key set or a service means authentication.
        if self.jwt_secret or self.jwks or self.meta_endpoints:
            object.__setattr__(self, "auth_enabled", True)
        if not self.rate_limit_namespace_qps:
            object.__setattr__(self, "rate_limit_namespace_qps", _NAMESPACE_QPS)
        if not self.rate_limit_user_qps:
            object.__setattr__(self, "rate_limit_user_qps", _USER_QPS)

    @property
    def refresh_grace_s(self) -> int:
        """For so long after its expiry a token can be refreshed."""
        hours = self.refresh_grace_period_hours
        return 3600 * (self.refresh_grace_hours if hours is None else hours)

    def mounts_of_default(self, held: tuple[MountSpec, ...]) -> tuple[MountSpec, ...]:
        """What `default` is made of, when it has `held` so far (nothing: there is none yet).

        What the settings say holds. Where they say nothing it keeps what it has: what was
        mounted over HTTP, and what an earlier version's default was.
        """
        if held and self.mounts == EMBEDDED_MOUNTS and "mounts" not in self.origins:
            return held
        return self.mounts

    def value(self, setting: Setting) -> object:
        """The effective value of one setting."""
        return getattr(self.limits if setting.is_limit else self, setting.field)

    def origin(self, setting: Setting) -> str:
        """Where that value came from: `default`, `FILE:LINE`, a variable or a flag."""
        return self.origins.get(setting.key, "default")


def _declared() -> tuple[Setting, ...]:
    of_tenants = {item.name for item in fields(TenantSettings)}
    own = [
        item.metadata["setting"].of_field(item.name)
        for item in sorted(fields(Settings), key=lambda item: item.name in of_tenants)
        if "setting" in item.metadata
    ]
    return (*own, *LIMIT_SETTINGS)


#: All settings, by topic.
SETTINGS: tuple[Setting, ...] = _declared()

_LATER = "not available in this version"
_FOREIGN = "not part of this system"

#: Keys of the configuration file that are refused, with all below them, and why.
RESERVED_KEYS: dict[str, str] = {
    "server.default_pagefs": f"{_LATER}: use namespace_template",
    "server.metrics.path": f"{_LATER}: metrics are served at /metrics",
    "server.db9_api_url": _FOREIGN,
    "fuse": f"{_LATER}: there is no FUSE mount",
    "shell": f"{_LATER}: there is no shell",
}

#: Environment variables that are refused when they are not empty, and why.
RESERVED_VARIABLES: dict[str, str] = {
    "FS9_DB9_API_URL": _FOREIGN,
    "FS9_PAGEFS_PD_ENDPOINTS": RESERVED_KEYS["server.default_pagefs"],
    "FS9_PAGEFS_CA_PATH": RESERVED_KEYS["server.default_pagefs"],
    "FS9_PAGEFS_CERT_PATH": RESERVED_KEYS["server.default_pagefs"],
    "FS9_PAGEFS_KEY_PATH": RESERVED_KEYS["server.default_pagefs"],
    "FS9_PAGEFS_KEYSPACE_PREFIX": RESERVED_KEYS["server.default_pagefs"],
}
