"""The cursor of a paged listing: opaque to clients, the last name of the page to us.

It is bound to no server and no time: names added or removed between two pages are seen or
not, the others are listed exactly once.
"""

from __future__ import annotations

import base64
import binascii

from fs9.errors import InvalidArgument


def encode_cursor(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """The name in the cursor. Raises InvalidArgument for what is not a cursor."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        name = base64.b64decode(padded, b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise InvalidArgument("the cursor is not one that readdir returned") from None
    if not name or "/" in name or "\0" in name:
        raise InvalidArgument("the cursor is not one that readdir returned")
    return name
