"""The block store in an S3-compatible object storage: one object for each put, never changed.

Trying again is safe: the name of an object is used for one content only, and what was deleted
is not there the second time either. A put that was answered is durable. Checksums are verified
above, so a wrong byte is an error wherever it came from; those of the transfer are S3's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import obstore
from obstore import exceptions

from fs9.errors import BackendUnavailable, InvalidArgument
from fs9.providers.pagefs.s3client import Bucket, S3Client
from fs9.providers.pagefs.store import put_into

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from fs9.clock import Clock
    from fs9.types import Buffer

Objects: TypeAlias = list[tuple[str, int]]

#: Pieces of an object that is uploaded in parts; S3 takes no smaller ones.
_PART_BYTES = 5 * 1024 * 1024
_PARTS_AT_ONCE = 4
_SPACE_BYTES = 1 << 50
_DELETE_MAX = 1000


class S3Blocks:
    """A `BlockStore`; made by `open_blocks`."""

    appends = False
    volatile = False
    put_bytes_max = 8 * 1024 * 1024

    def __init__(self, client: S3Client) -> None:
        self._client = client
        self._store = client.store
        self._bucket = client.bucket
        self._directory = f"{client.bucket.prefix}/" if client.bucket.prefix else ""

    async def put(
        self,
        name: str,
        offset: int,
        data: Buffer,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        assert offset == 0
        # The upload may outlive a cancelled caller, who may then change its buffer.
        whole = bytes(data)

        async def upload() -> None:
            await obstore.put_async(
                self._store,
                self._directory + name,
                whole,
                use_multipart=len(whole) > _PART_BYTES,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

        await self._client.call("put", upload)

    async def get(
        self, name: str, offset: int, size: int, into: memoryview | None = None
    ) -> Buffer:
        async def download() -> Buffer:
            try:
                result = await obstore.get_async(
                    self._store, self._directory + name, options={"range": (offset, offset + size)}
                )
                return memoryview(await result.buffer_async())
            except exceptions.GenericError as error:
                if "InvalidRange" in str(error):  # the object ends before the offset
                    return b""
                raise

        if size == 0:
            return b""
        return put_into(into, await self._client.call("get", download))

    async def trim(self, name: str) -> None:
        """Nothing was taken."""

    def adopt(self, names: Collection[str]) -> None:
        """Every put that was answered is durable."""

    async def sync(self, names: Collection[str]) -> None:
        """Every put that was answered is durable."""

    async def delete(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), _DELETE_MAX):
            paths = [self._directory + name for name in names[start : start + _DELETE_MAX]]
            try:
                await self._client.call("delete", lambda: obstore.delete_async(self._store, paths))  # noqa: B023
            except FileNotFoundError:
                continue  # some servers say so of a missing object

    async def list(self, prefix: str, after: str, limit: int) -> Objects:
        return await self._client.call("list", lambda: self._list(prefix, after, limit))

    async def _list(self, prefix: str, after: str, limit: int) -> Objects:
        found: Objects = []
        start = after if after >= prefix else _before(prefix)
        stream = obstore.list(
            self._store,
            prefix=self._bucket.prefix or None,
            offset=self._directory + start if start else None,
            chunk_size=limit,
        )
        async for page in stream:
            for each in page:
                name = each["path"].removeprefix(self._directory)
                if not name.startswith(prefix) or len(found) == limit:
                    return found
                found.append((name, each["size"]))
        return found

    async def space(self) -> tuple[int, int]:
        """Nobody knows; so much that no program believes that there is too little."""
        return _SPACE_BYTES, _SPACE_BYTES

    async def aclose(self) -> None:
        return None

    async def check(self) -> None:
        """Is the bucket there, and may it be listed? Raises InvalidArgument, BackendUnavailable."""
        try:
            await self.list("", "", 1)
        except BackendUnavailable as error:
            if "NoSuchBucket" in str(error.__cause__):
                raise InvalidArgument(
                    f"pagefs: the bucket {self._bucket.name!r} does not exist; make it first"
                ) from error
            raise


def _before(name: str) -> str:
    """What no name comes after that comes before `name`: listings begin behind their offset."""
    return f"{name[:-1]}{chr(ord(name[-1]) - 1)}~"


async def open_blocks(bucket: Bucket, clock: Clock) -> S3Blocks:
    """Raises InvalidArgument (settings, no such bucket), BackendUnavailable, Timeout."""
    blocks = S3Blocks(S3Client(bucket, clock))
    await blocks.check()
    return blocks
