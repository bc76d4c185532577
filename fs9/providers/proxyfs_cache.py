"""A cache of parts of an upstream's files, keyed by version, so that versions are never mixed."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from fs9.client.downloads import Wanted
from fs9.client.ops import request_of
from fs9.errors import NotSupported
from fs9.limits import KIB

if TYPE_CHECKING:
    from fs9.client.ops import Operation

BLOCK_BYTES = 64 * KIB
#: What an entry costs besides its bytes: key, dictionary, object.
_ENTRY_BYTES = 512
#: A file may take so much of the cache; larger ones are not cached.
_FILE_SHARE = 4

_PARTIAL = 206


class Version(msgspec.Struct, frozen=True):
    """A version of a file, as its upstream told it: its etag stands for these bytes."""

    path: str
    etag: str
    size: int


_Key: TypeAlias = tuple[str, str, int]


class BlockCache:
    """Least recently used blocks go when there are more than `bytes_max`."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._blocks: OrderedDict[_Key, bytes] = OrderedDict()
        self.used_bytes = 0

    def takes(self, size: int) -> bool:
        """May a file of this size be cached?"""
        return 0 < size <= self._bytes_max // _FILE_SHARE

    def get(self, version: Version, number: int) -> bytes | None:
        key = (version.path, version.etag, number)
        block = self._blocks.get(key)
        if block is not None:
            self._blocks.move_to_end(key)
        return block

    def put(self, version: Version, offset: int, data: bytes) -> None:
        """Whole blocks from `offset`, which is the first of a block; the last may be the file's."""
        for start in range(0, len(data), BLOCK_BYTES):
            key = (version.path, version.etag, (offset + start) // BLOCK_BYTES)
            self._drop(key)
            block = self._blocks[key] = data[start : start + BLOCK_BYTES]
            self.used_bytes += len(block) + _ENTRY_BYTES
        while self.used_bytes > self._bytes_max:
            self._drop(next(iter(self._blocks)))

    def _drop(self, key: _Key) -> None:
        block = self._blocks.pop(key, None)
        if block is not None:
            self.used_bytes -= len(block) + _ENTRY_BYTES


def missing(cache: BlockCache, version: Version, first: int, last: int) -> tuple[int, int] | None:
    """The blocks from `first` to `last` that must be asked for, as one range; None: none."""
    absent = [number for number in range(first, last + 1) if cache.get(version, number) is None]
    return (absent[0], absent[-1]) if absent else None


def fetch(version: Version, offset: int, length: int) -> Operation[bytes | None]:
    """Bytes of exactly this version; None when the upstream does not confirm the version.

    Raises PreconditionFailed when the file has another version, NotSupported when the upstream does
    not say of what it sends which version it is.
    """
    wanted = Wanted(version.path, offset, length, if_match=version.etag)
    answer = yield request_of("download", query={"path": version.path}, headers=wanted.headers())
    etag = answer.headers.get("etag")
    if etag is None:
        raise NotSupported("versions")
    if etag.strip('"') != version.etag:
        return None
    body = answer.body
    if answer.status == _PARTIAL:
        begins = answer.headers.get("content-range", "").startswith(f"bytes {offset}-")
        return body if begins and len(body) == length else None
    return body[offset : offset + length] if len(body) == version.size else None
