"""Query strings, form-decoded (WHATWG URL, section 5.1).

`+` and `%20` are both a blank, a stray `%` is itself, invalid UTF-8 becomes U+FFFD. Unlike in
a form each key may come once only: a repeated `path` is a mistake, or an attempt to show two
readers two different requests.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from fs9.errors import InvalidArgument, InvalidHandle

if TYPE_CHECKING:
    from collections.abc import Mapping

# One key whose value is plain: nearly every query of this API.
_PLAIN = re.compile(rb"([a-z_]+)=([A-Za-z0-9._~/-]*)")
# As many digits as 2**64 - 1 has; more would be refused by any bound.
_NUMBER = re.compile(r"[0-9]{1,20}")


def parse_query(query: bytes) -> dict[str, str]:
    """The decoded query. Raises InvalidArgument for a key that comes twice."""
    plain = _PLAIN.fullmatch(query)
    if plain is not None:
        return {plain[1].decode(): plain[2].decode()}
    decode = _decode if b"%" in query or b"+" in query else _decode_plain
    found: dict[str, str] = {}
    for field in query.split(b"&"):
        if not field:
            continue
        key, _, value = field.partition(b"=")
        name = decode(key)
        if name in found:
            raise InvalidArgument(f"the query has '{name}' more than once")
        found[name] = decode(value)
    return found


def _decode(text: bytes) -> str:
    return unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8", "replace")


def _decode_plain(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def required(query: Mapping[str, str], name: str) -> str:
    """The value of a field that must be there. Raises InvalidArgument, InvalidHandle."""
    value = query.get(name)
    if value is None:
        # Older clients take any text of a 400 that contains "handle" for an invalid handle.
        if name == "handle_id":
            raise InvalidHandle("the query has no handle_id")
        raise InvalidArgument(f"the query has no '{name}'")
    return value


def number(value: str, name: str, *, at_least: int = 0, at_most: int | None = None) -> int:
    """A whole number of a query, in plain decimal. Raises InvalidArgument."""
    if _NUMBER.fullmatch(value) is None:
        raise InvalidArgument(f"'{name}' must be a whole number")
    found = int(value)
    if found < at_least or (at_most is not None and found > at_most):
        bound = f"at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        raise InvalidArgument(f"'{name}' must be {bound}")
    return found
