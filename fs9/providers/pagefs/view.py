"""Versions of the tree: every key has a generation behind it, and a view sees some of them.

A view's *lineage* are the generations it sees; the last is the one it writes. What it sees at
a key is the newest version of its lineage. A snapshot keeps the lineage of that moment and gives
the live tree a new generation to write: O(1). A restored tree, or a fork, is a view with a
snapshot's lineage and a new generation. What no lineage sees any more, `collect` removes.

With one generation, as most trees have, a read is one get. Generations are inverted in the
keys: newer versions come first.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from fs9.providers.pagefs.records import Counters

if TYPE_CHECKING:
    from fs9.providers.pagefs.store import Item, Reader

_SUFFIX = struct.Struct(">I")
_NEWEST = 0xFFFFFFFF
SUFFIX_BYTES = 4
#: In the place of a value: deleted, though an older version is there.
TOMBSTONE = b""


def suffix(generation: int) -> bytes:
    return _SUFFIX.pack(_NEWEST - generation)


def generation_of(key: bytes) -> int:
    generation: int = _NEWEST - _SUFFIX.unpack(key[-SUFFIX_BYTES:])[0]
    return generation


def after(base: bytes) -> bytes:
    """The first possible key behind all versions of a key."""
    return base + b"\xff" * (SUFFIX_BYTES + 1)


class View:
    """One version of the tree. `name`: "" for the live one, else the branch's name.

    `counters` belong to whoever commits (`core`), under its lock. `replaced`: it was the live tree
    until a restore, and only files that were open then still read it.
    """

    __slots__ = (
        "_reader",
        "_seen",
        "_suffix",
        "counters",
        "lineage",
        "name",
        "replaced",
        "writable",
    )

    def __init__(
        self, reader: Reader, lineage: tuple[int, ...], name: str = "", *, writable: bool = True
    ) -> None:
        self._reader = reader
        self.name = name
        self.writable = writable
        self.replaced = False
        self.counters = Counters()
        self.move_to(lineage)

    def move_to(self, lineage: tuple[int, ...]) -> None:
        """See, and from now on write, other generations."""
        self.lineage = lineage
        self._suffix = suffix(lineage[-1])
        self._seen = frozenset(map(suffix, lineage))

    def read_through(self, reader: Reader) -> None:
        """Read rows by another reader from now on."""
        self._reader = reader

    @property
    def generation(self) -> int:
        return self.lineage[-1]

    async def get(self, base: bytes) -> bytes | None:
        if len(self.lineage) == 1:
            return await self._reader.get(base + self._suffix) or None
        first, end = base + self._suffix, base + suffix(self.lineage[0]) + b"\0"
        while True:
            rows = await self._reader.scan(first, end, len(self.lineage))
            for key, value in rows:
                if key[-SUFFIX_BYTES:] in self._seen:
                    return value or None
            if len(rows) < len(self.lineage):
                return None
            first = rows[-1][0] + b"\0"

    async def scan(self, first: bytes, end: bytes, limit: int) -> list[Item]:
        """At most `limit` (key without generation, value), in order; fewer: no more."""
        found: list[Item] = []
        seen = self._seen
        decided = None
        while True:
            rows = await self._reader.scan(first, end, limit)
            for key, value in rows:
                base = key[:-SUFFIX_BYTES]
                if base != decided and key[-SUFFIX_BYTES:] in seen:
                    decided = base
                    if value:
                        found.append((base, value))
                        if len(found) == limit:
                            return found
            if len(rows) < limit:
                return found
            first = rows[-1][0] + b"\0"

    def put(self, changes: dict[bytes, bytes | None], base: bytes, value: bytes) -> None:
        changes[base + self._suffix] = value

    def delete(self, changes: dict[bytes, bytes | None], base: bytes) -> None:
        changes[base + self._suffix] = None if len(self.lineage) == 1 else TOMBSTONE
