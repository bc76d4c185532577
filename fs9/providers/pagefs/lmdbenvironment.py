"""LMDB environments: one for each directory in a process, with a reader and a map that grows.

LMDB has no checksums, so rows are sealed (`rowseals`) and verified at each read; environments that
earlier versions made do without.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, cast

import lmdb

from fs9.errors import Internal
from fs9.providers.pagefs.rowseals import sealed, unsealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fs9.providers.pagefs.store import Item

#: LMDB's map: how much it begins with, doubled when it is full.
_MAP_BYTES_MIN = 16 * 1024 * 1024
#: In the system's table: values have checksums.
SEALED = b"sealed"
#: What there may be: nothing yet, one after a crash in the first start, both.
_TABLES: tuple[list[bytes], ...] = ([], [b"data"], [b"data", b"system"])


class Environment:
    """An open LMDB environment; one for all openings in this process, as LMDB demands.

    `reader` is a transaction on the newest state, renewed after each write. It, and the map's
    growth, belong to the event loop's thread.
    """

    #: Path -> environment: LMDB's own locks are per process, so this is, too.
    _open: ClassVar[dict[str, Environment]] = {}

    def __init__(self, path: str) -> None:
        size = max(_MAP_BYTES_MIN, 2 * _file_size(os.path.join(path, "data.mdb")))
        self._path = path
        self._users = 0
        self.env = lmdb.open(path, map_size=size, max_dbs=2, max_readers=64, meminit=False)
        self.env.reader_check()
        with self.env.begin() as transaction, transaction.cursor() as cursor:
            tables = list(cursor.iternext(values=False))
        if tables not in _TABLES:  # one that is not found would be made anew
            self.env.close()
            raise Internal("the metadata is damaged: its tables are not found")
        self.data = self.env.open_db(b"data")
        self.system = self.env.open_db(b"system")
        with self.env.begin() as transaction:
            made = transaction.get(SEALED, db=self.system) is not None
            self.sealed = made or not transaction.stat(self.data)["entries"]
        self._reader: Any = None
        self._cursor: Any = None

    @classmethod
    def acquire(cls, path: str) -> Environment:
        environment = cls._open.get(path)
        if environment is None:
            environment = cls._open[path] = cls(path)
        environment._users += 1
        return environment

    def release(self) -> None:
        self._users -= 1
        if not self._users:
            del self._open[self._path]
            self.forget()
            self.env.close()

    def forget(self) -> None:
        """Let the reader go: the state is newer, or the map is to grow."""
        if self._reader is not None:
            self._cursor.close()
            self._reader.abort()
            self._reader = self._cursor = None

    def get(self, key: bytes) -> bytes | None:
        if self._reader is None:
            self._renew()
        return self.read(self._reader, key)

    def read(self, reader: lmdb.Transaction, key: bytes) -> bytes | None:
        """The value that the transaction sees. Raises Internal: it is damaged."""
        try:
            found = cast("bytes | None", reader.get(key))
        except lmdb.Error as error:
            raise _damaged(error) from error
        return found if found is None or not self.sealed else unsealed(key, found)

    def items(self, first: bytes, end: bytes) -> Iterator[Item]:
        if self._reader is None:
            self._renew()
        return self.range(self._cursor, first, end)

    def range(self, cursor: lmdb.Cursor, first: bytes, end: bytes) -> Iterator[Item]:
        """As `items`; raises Internal: something of it is damaged."""
        try:
            for item in items(cursor, first, end):
                yield (item[0], unsealed(*item)) if self.sealed else item
        except lmdb.Error as error:
            raise _damaged(error) from error

    def faults(self) -> list[str]:
        """What is wrong with LMDB's tree, which has no checksums; reads all of it, and blocks.

        A bit that flips in a branch, or in the head of a page, may hide rows, or lead to others.
        So each row that is met on the way from the first to the last one must come in order, and
        be found by its key; and there must be as many as LMDB has counted.
        """
        found, count, last = [], 0, b""
        try:
            with self.env.begin(db=self.data) as reader, reader.cursor() as cursor:
                for key, value in cursor.iternext():
                    count += 1
                    if key <= last:
                        found.append(f"the row {key.hex()} is in the wrong place")
                    elif reader.get(key) != value:
                        found.append(f"the row {key.hex()} is not found by its key")
                    last = key
                counted = reader.stat(self.data)["entries"]
        except lmdb.Error as error:
            return [*found, str(_damaged(error))]
        if count != counted:
            found.append(f"{count} rows are found of {counted}")
        return found

    def closed(self, rows: Iterable[Item]) -> list[Item]:
        """The rows as LMDB is to have them."""
        if not self.sealed:
            return list(rows)
        return [(key, sealed(key, value)) for key, value in rows]

    def _renew(self) -> None:
        self._reader = self.env.begin(db=self.data)
        self._cursor = self._reader.cursor()

    def grow(self) -> None:
        """Double the map; no transaction may be open."""
        self.forget()
        self.env.set_mapsize(2 * self.env.info()["map_size"])


def items(cursor: lmdb.Cursor, first: bytes, end: bytes) -> Iterator[Item]:
    """What the cursor finds from `first` on, before `end`."""
    if not cursor.set_range(first):
        return
    for item in cast("Iterator[Item]", cursor.iternext()):
        if item[0] >= end:
            return
        yield item


def _file_size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _damaged(error: lmdb.Error) -> Internal:
    return Internal(f"the metadata is damaged: {error}")
