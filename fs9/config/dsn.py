"""Parses the DSN of the metadata: a SQLite file or a PostgreSQL database.

sqlite:PATH                         sqlite://PATH
postgres://USER@HOST:PORT/DATABASE  postgresql://USER@HOST:PORT/DATABASE
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fs9.config.kinds import Mismatch, Text

if TYPE_CHECKING:
    from fs9.config.yaml_file import Node

_POSTGRES = ("postgres://", "postgresql://")
_SQLITE = "sqlite:"


def sqlite_path(dsn: str) -> Path | None:
    """The file of a SQLite DSN, None for one of PostgreSQL. Raises ValueError for any other.

    Parameters (`?mode=rwc`) are passed over: a missing file is always made.
    """
    if dsn.startswith(_POSTGRES) and "\0" not in dsn:
        return None
    path = dsn.removeprefix(_SQLITE).removeprefix("//").partition("?")[0]
    # SQLite's own name for a database that no other process would see.
    if not dsn.startswith(_SQLITE) or not path or "\0" in path or path == ":memory:":
        raise ValueError("expected sqlite:PATH or postgresql://USER@HOST/DATABASE")
    return Path(path)


@dataclass(frozen=True, slots=True)
class Dsn:
    """Text that is a DSN. What is wrong is said without it: it may hold a password."""

    title: str = "sqlite:PATH or postgresql://USER@HOST/DATABASE"

    def read(self, node: Node) -> str:
        dsn = Text().read(node)
        try:
            sqlite_path(dsn)
        except ValueError as error:
            raise Mismatch(str(error)) from None
        return dsn
