"""Rows that do not match their checksums: which there are, and reading around them.

A check reports such rows first, each with the file it belongs to, and then looks at the others
as if the damaged ones were not there. Only checks read so: for everybody else a damaged row is an
error, because to leave it out could show another tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.providers.pagefs import records
from fs9.providers.pagefs.rowseals import DamagedRow
from fs9.providers.pagefs.view import SUFFIX_BYTES, generation_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fs9.providers.pagefs.store import Item, Reader
    from fs9.providers.pagefs.view import View

_END = b"\xff"
_WHOLES = {
    records.SUPERBLOCK: "the superblock",
    records.CLEAN: "the note of the last orderly end",
}


class SoundRows:
    """A `Reader` that leaves out the rows that are damaged; `damaged` has their keys."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.damaged: set[bytes] = set()

    async def get(self, key: bytes) -> bytes | None:
        try:
            return await self._reader.get(key)
        except DamagedRow as error:
            self.damaged.add(error.key)
            return None

    async def scan(self, first: bytes, end: bytes, limit: int) -> list[Item]:
        found: list[Item] = []
        while True:
            try:
                return found + await self._reader.scan(first, end, limit - len(found))
            except DamagedRow as error:
                key = error.key
                if not first <= key < end:  # the order is damaged, too
                    raise
            self.damaged.add(key)
            found += await self._reader.scan(first, key, limit - len(found))
            first = key + b"\0"

    async def find_all(self, page_rows: int) -> None:
        """Read every row."""
        first = b""
        while page := await self.scan(first, _END, page_rows):
            first = page[-1][0] + b"\0"


def owner(key: bytes, views: Iterable[View]) -> tuple[View | None, int]:
    """The first of the trees that sees the row (None: none does), and the inode it is about, or 0.

    Of a directory entry it is the directory.
    """
    if key[:1] not in b"CDIEOXTR" or len(key) <= SUFFIX_BYTES:
        return None, 0
    generation = generation_of(key)
    view = next((view for view in views if generation in view.lineage), None)
    if view is None or key[:1] == b"C":
        return view, 0
    return view, int.from_bytes(key[1:9], "big")


def fault(key: bytes) -> str:
    """What a damaged row is for, in words, and its key, as one needs it to restore the row."""
    kind, inode = key[:1], f"{int.from_bytes(key[1:9], 'big'):x}"
    match kind:
        case b"I":
            what = f"inode {inode}"
        case b"D":
            what = f"the entry {_name(key)!r} of inode {inode}"
        case b"X":
            what = f"the attribute {_name(key)!r} of inode {inode}"
        case b"E":
            what = f"inode {inode}, before byte {int.from_bytes(key[17:25], 'big')}"
        case b"O" | b"T" | b"R":
            what = f"inode {inode}, a note for cleaning up"
        case b"C":
            what = "the counters"
        case _:
            what = _whole(key)
    return f"{what}: the row {key.hex()} is damaged: a checksum does not match"


def _whole(key: bytes) -> str:
    for prefix, kind in ((records.SNAPSHOTS, "snapshot"), (records.FORKS, "fork")):
        if key.startswith(prefix):
            return f"the {kind} {key[len(prefix) :].decode(errors='replace')}"
    return _WHOLES.get(key, "a note for cleaning up")


def _name(key: bytes) -> str:
    return key[9:].partition(b"\0")[0].decode(errors="replace")
