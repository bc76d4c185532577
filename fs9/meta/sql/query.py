"""The vocabulary between the rules of the store and the databases.

An operation of this package is a generator: it yields a `Query`, is sent the rows of the answer,
and returns the value of the call. It holds every rule and no input or output. A database
(`fs9.meta.sqlite`, `fs9.meta.postgres`) drives it: to its end in one transaction, or not at all.

The SQL is what SQLite and PostgreSQL both understand, with `?` for each value. Where they differ
a query names a fragment, in braces, that the database fills in.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from fs9.errors import InvalidArgument

T = TypeVar("T")

#: U+0000 as JSON writes it, not behind another backslash.
_JSON_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

Row: TypeAlias = tuple[Any, ...]

WHOLE_MAX = 2**63 - 1
#: The end of the year 9999, the last that all who read times can write.
AT_MAX = 253_402_300_799


class Query(NamedTuple):
    """One statement.

    Fragments: {now} the database's clock, {later} that plus `?` seconds, {seconds COLUMN} a time
    as whole seconds, where many rows are read.
    """

    sql: str
    values: tuple[object, ...] = ()


Operation: TypeAlias = Generator[Query, list[Row], T]


class At(int):
    """Seconds since 1970, for a column that holds a time."""


class Json(str):
    """JSON text, for a column that holds JSON."""

    __slots__ = ()


def at(seconds: int | None) -> At | None:
    return None if seconds is None else At(seconds)


def seconds(value: float | None) -> int | None:
    """A time from the database, as whole seconds."""
    return None if value is None else int(value)


def json_of(value: object) -> Json:
    return Json(msgspec.json.encode(value).decode())


def rows_of(values: Sequence[Sequence[object]]) -> tuple[str, tuple[object, ...]]:
    """`(?, ?), (?, ?)` for rows of equal length, and all their values."""
    line = f"({', '.join('?' * len(values[0]))})"
    return ", ".join([line] * len(values)), tuple(value for row in values for value in row)


def check_values(values: Sequence[object]) -> None:
    """Raise InvalidArgument for what one of the databases cannot hold."""
    for value in values:
        if isinstance(value, str):
            if "\0" in value or (isinstance(value, Json) and _JSON_NUL.search(value)):
                raise InvalidArgument("the character U+0000 cannot be kept in the metadata")
            if not value.isascii() and not value.isprintable() and _has_surrogates(value):
                raise InvalidArgument("half of a surrogate pair cannot be kept in the metadata")
        elif isinstance(value, At):
            if not 0 <= value <= AT_MAX:
                raise InvalidArgument(f"{int(value)} is not a time from 1970 to 9999, in seconds")
        elif isinstance(value, int) and not -WHOLE_MAX <= value <= WHOLE_MAX:
            raise InvalidArgument(f"{value} is too large a number for the metadata")


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
