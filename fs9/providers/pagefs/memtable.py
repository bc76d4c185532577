"""A sorted table in memory of changes that are newer than the ordered store below."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fs9.providers.pagefs.store import Item

_END = b"\xff" * 512


class Memtable:
    """Key -> value, None where the key was deleted. `last` is the number of the last batch."""

    __slots__ = ("changes", "ids", "keys", "last")

    def __init__(self) -> None:
        self.changes: dict[bytes, bytes | None] = {}
        self.keys: list[bytes] = []
        self.ids: list[bytes] = []
        self.last = 0

    def apply(self, changes: dict[bytes, bytes | None]) -> None:
        held, keys = self.changes, self.keys
        for key, value in changes.items():
            if key not in held:
                insort(keys, key)
            held[key] = value

    def fill(self, changes: Iterable[dict[bytes, bytes | None]]) -> None:
        """An empty table gets these, the newest last; sorted once, which is what makes it fast."""
        held = self.changes
        for each in changes:
            held.update(each)
        self.keys = sorted(held)

    def touches(self, first: bytes, end: bytes) -> bool:
        """Is there a change with `first <= key < end`?"""
        at = bisect_left(self.keys, first)
        return at < len(self.keys) and self.keys[at] < end

    def copy(self) -> Memtable:
        other = Memtable()
        other.changes, other.keys = self.changes.copy(), self.keys.copy()
        return other


def merged(
    tables: list[Memtable], first: bytes, end: bytes, limit: int, base: Iterator[Item]
) -> list[Item]:
    """The first `limit` items of `base`, ordered and within the bounds, under the changes.

    Of the tables the earlier one is the newer one; there are two at most.
    """
    found: list[Item] = []
    newest = tables[0]
    other = tables[1] if len(tables) > 1 else Memtable()
    keys, more = newest.keys, other.keys
    at, at_more = bisect_left(keys, first), bisect_left(more, first)
    item = next(base, None)
    while len(found) < limit:
        key = keys[at] if at < len(keys) else _END
        key_more = more[at_more] if at_more < len(more) else _END
        lowest = min(key, key_more)
        if item is not None and item[0] < lowest:
            found.append(item)
            item = next(base, None)
            continue
        if lowest >= end:
            break
        value = newest.changes[key] if key == lowest else other.changes[lowest]
        at += key == lowest
        at_more += key_more == lowest
        if item is not None and item[0] == lowest:
            item = next(base, None)
        if value is not None:
            found.append((lowest, value))
    return found
