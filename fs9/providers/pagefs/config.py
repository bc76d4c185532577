"""A mount's configuration: which stores, and whose files. Unusable ones are errors here.

    {"backend": {"type": "lmdb", "blocks": {"type": "files"}}, "uid": 0, "gid": 0}

is what an empty configuration means: LMDB and plain files below the data directory. Each
backend type has a class with its own keys here, and a function that opens it in `BACKENDS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from fs9.errors import InvalidArgument
from fs9.providers.registry import nearest, read_config
from fs9.providers.values import ID_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping


class Config(msgspec.Struct, frozen=True):
    """`trash_retention_secs`: removed files are kept in `/.trash` so long (0: they are gone).

    `inline_bytes`: files up to this size are kept in the metadata store.
    `control_file`: is there `/.snapshots/.ctl`, which restores and forks?
    """

    uid: int = 0
    gid: int = 0
    backend: dict[str, Any] = {}
    trash_retention_secs: float = 0.0
    inline_bytes: int = 4096
    control_file: bool = True
    ns: str = ""


class Lmdb(msgspec.Struct, frozen=True):
    """Metadata in LMDB below the data directory. `blocks`: `files` (default) or `inline`."""

    type: str = "lmdb"
    blocks: dict[str, Any] = {}


class Memory(msgspec.Struct, frozen=True):
    """All in memory. `blocks`: `memory` (default) or `inline`."""

    type: str = "memory"
    blocks: dict[str, Any] = {}


class NoSettings(msgspec.Struct, frozen=True):
    """Blocks of a kind that needs no settings."""

    type: str


def read(config: Mapping[str, Any]) -> Config:
    """The configuration; raises InvalidArgument naming the wrong key."""
    found = read_config("pagefs", Config, config)
    for name, value in (("uid", found.uid), ("gid", found.gid)):
        if not 0 <= value <= ID_MAX:
            raise InvalidArgument(f"pagefs: {name} must be from 0 to {ID_MAX}")
    if found.trash_retention_secs < 0:
        raise InvalidArgument("pagefs: trash_retention_secs cannot be negative")
    if not 0 <= found.inline_bytes <= 16 * 1024:
        raise InvalidArgument("pagefs: inline_bytes must be from 0 to 16384")
    return found


def type_of(what: str, config: Mapping[str, Any], default: str, known: list[str]) -> str:
    """The `type` in a part of the configuration; raises InvalidArgument for an unknown one."""
    kind = config.get("type", default)
    if not isinstance(kind, str):
        raise InvalidArgument(f"pagefs: the type of {what} must be a text")
    if kind not in known:
        raise InvalidArgument(f"pagefs: {what} cannot be {kind!r}{nearest(kind, known)}")
    return kind
