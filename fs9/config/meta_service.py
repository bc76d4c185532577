"""Settings of the metadata service (`fs9 meta serve`, `fs9-meta`): flags > environment > file.

The file is the service's own, and the contract's: `server.host`, `server.port`, `database.dsn`,
`auth.jwt_secret`, `auth.admin_key`; nothing in it is expanded.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from fs9.config.dsn import sqlite_path
from fs9.config.errors import ConfigError, nearest
from fs9.config.kinds import Kind, Mismatch, Text, Whole
from fs9.config.loader import SECRET_BYTES_MIN, is_loopback
from fs9.config.yaml_file import Table, parse, scalar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fs9.config.yaml_file import Node

#: The values of older services' examples, which everybody knows.
KNOWN_TO_ALL = frozenset({"change-me-in-production", "admin-key-change-me"})
ADMIN_KEY_BYTES_MIN = 16


@dataclass(frozen=True)
class MetaServiceSettings:
    """What the service runs with. Secrets are not shown."""

    host: str = "127.0.0.1"
    port: int = 9998
    dsn: str = field(default="sqlite:fs9-meta.db", repr=False)
    jwt_secret: str = field(default="", repr=False)
    admin_key: str | None = field(default=None, repr=False)
    processes: int = 1


#: field -> key of the file, variable, kind.
_SOURCES: dict[str, tuple[str, str, Kind]] = {
    "host": ("server.host", "FS9_META_HOST", Text()),
    "port": ("server.port", "FS9_META_PORT", Whole(least=0, most=65_535)),
    "dsn": ("database.dsn", "FS9_META_DSN", Text()),
    "jwt_secret": ("auth.jwt_secret", "FS9_JWT_SECRET", Text()),
    "admin_key": ("auth.admin_key", "FS9_META_KEY", Text()),
    "processes": ("server.processes", "FS9_META_PROCESSES", Whole(most=64)),
}
_SECTIONS = ("server", "database", "auth")


def load_meta_service(
    flags: Mapping[str, str], config: Path | None, environ: Mapping[str, str], cwd: Path
) -> MetaServiceSettings:
    """The effective settings; `flags` by field. Raises ConfigError, without any secret in it."""
    given: dict[str, object] = {} if config is None else _from_file(cwd / config)
    for name, (_, variable, kind) in _SOURCES.items():
        text = environ.get(variable)
        if text:
            given[name] = _read(kind, scalar(text), f"environment variable {variable}")
        if name in flags:
            given[name] = _read(kind, scalar(flags[name]), f"flag --{name.replace('_', '-')}")
    settings = MetaServiceSettings(**given)  # type: ignore[arg-type]  # read by their kinds
    _check(settings)
    return settings


def _from_file(path: Path) -> dict[str, object]:
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None
    # Not expanded: `${` means itself.
    table = parse(text.replace("${", "$${"), str(path), {})
    by_key = {key: (name, kind) for name, (key, _, kind) in _SOURCES.items()}
    given: dict[str, object] = {}
    for section, node in table.items.items():
        place = f"{path}:{table.key_lines[section]}"
        if section not in _SECTIONS:
            hint = nearest(section, _SECTIONS)
            raise ConfigError(f"{place}: unknown section {section}{hint}")
        if not isinstance(node, Table):
            raise ConfigError(f"{place}: the section {section} has keys and values, as port: 9998")
        for name, value in node.items.items():
            key = f"{section}.{name}"
            place = f"{path}:{node.key_lines[name]}: {key}"
            if key not in by_key:
                raise ConfigError(f"{place}: unknown key{nearest(key, list(by_key))}")
            field_name, kind = by_key[key]
            given[field_name] = _read(kind, value, place)
    return given


def _read(kind: Kind, node: Node, place: str) -> object:
    try:
        return kind.read(node)
    except Mismatch as mismatch:
        # A text may be a secret, a number is none.
        text = str(mismatch) if isinstance(kind, Whole) else f"expected {kind.title}"
        raise ConfigError(f"{place}: {text}") from None


def _check(settings: MetaServiceSettings) -> None:
    try:
        sqlite_path(settings.dsn)
    except ValueError as error:
        raise ConfigError(f"the DSN of the database: {error}") from None
    try:
        ipaddress.ip_address(settings.host)
    except ValueError:
        raise ConfigError(f"the host must be an IP address, got {settings.host!r}") from None
    if not settings.jwt_secret:
        raise ConfigError(
            "there is no secret to sign tokens with; make one with `openssl rand -hex 32` and put"
            " it in FS9_JWT_SECRET"
        )
    _check_secret("jwt_secret", settings.jwt_secret, SECRET_BYTES_MIN)
    if settings.admin_key:
        _check_secret("admin_key", settings.admin_key, ADMIN_KEY_BYTES_MIN)
    elif not is_loopback(settings.host):
        raise ConfigError(
            f"refusing to listen on {settings.host} without an admin key: everyone who reaches it"
            " could make themselves tokens. Put one in FS9_META_KEY (`openssl rand -hex 32`)"
        )


def _check_secret(name: str, value: str, bytes_min: int) -> None:
    if value in KNOWN_TO_ALL:
        raise ConfigError(f"{name} is a published example; make one with `openssl rand -hex 32`")
    if len(value.encode()) < bytes_min:
        raise ConfigError(
            f"{name} has fewer than {bytes_min} bytes and may be guessed: `openssl rand -hex 32`"
        )


__all__ = [
    "ADMIN_KEY_BYTES_MIN",
    "KNOWN_TO_ALL",
    "MetaServiceSettings",
    "load_meta_service",
]
assert {each.name for each in fields(MetaServiceSettings)} == set(_SOURCES)
