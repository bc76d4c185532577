"""The block store in an S3-compatible object storage: one object for each put, never changed.

Object storage answers late, or with an error, or not at all; each request has a time, each call
is tried again with growing delays until its deadline. Trying again is safe: the name of an
object is used for one content only, and what was deleted is not there the second time either.
A put that was answered is durable. Checksums are verified above, so a wrong byte is an error
wherever it came from; those of the transfer are S3's own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import obstore
from obstore import exceptions
from obstore.store import S3Store

from fs9.errors import BackendUnavailable, InvalidArgument, Timeout
from fs9.resilience.backoff import Backoff, BackoffPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from obstore.store import ClientConfig

    from fs9.clock import Clock
    from fs9.types import Buffer

T = TypeVar("T")
Objects: TypeAlias = list[tuple[str, int]]

#: Pieces of an object that is uploaded in parts; S3 takes no smaller ones.
_PART_BYTES = 5 * 1024 * 1024
_PARTS_AT_ONCE = 4
_SPACE_BYTES = 1 << 50
_DELETE_MAX = 1000
#: Errors that no later attempt mends.
_FINAL = (
    exceptions.NotFoundError,
    exceptions.PermissionDeniedError,
    exceptions.UnauthenticatedError,
    exceptions.InvalidPathError,
    exceptions.NotSupportedError,
)


#: An address that cannot be asked at all, such as http: where only https is allowed, is one.
_REFUSED = re.compile(r"status code: 4(?!08|29)|kind: Builder")
_DENIED = re.compile(r"status code: 40[13]")


@dataclasses.dataclass(frozen=True, slots=True)
class Bucket:
    """Where the objects are. Empty strings: what the environment (`AWS_…`) of the server says."""

    name: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    virtual_hosted: bool = False
    #: Of one call, all its attempts together; and of one request.
    deadline_s: float = 30.0
    request_s: float = 10.0


class S3Blocks:
    """A `BlockStore`; made by `open_blocks`."""

    appends = False
    volatile = False
    put_bytes_max = 8 * 1024 * 1024

    def __init__(self, store: S3Store, bucket: Bucket, clock: Clock) -> None:
        self._store = store
        self._bucket = bucket
        self._clock = clock
        self._directory = f"{bucket.prefix}/" if bucket.prefix else ""
        self._policy = BackoffPolicy(
            attempts_max=1000, delay_first_s=0.05, delay_max_s=2.0, budget_s=bucket.deadline_s
        )

    async def put(self, name: str, offset: int, data: Buffer) -> None:
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

        await self._call("put", upload)

    async def get(self, name: str, offset: int, size: int) -> Buffer:
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
        return await self._call("get", download)

    async def sync(self, names: Collection[str]) -> None:
        """Every put that was answered is durable."""

    async def delete(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), _DELETE_MAX):
            paths = [self._directory + name for name in names[start : start + _DELETE_MAX]]
            try:
                await self._call("delete", lambda: obstore.delete_async(self._store, paths))  # noqa: B023
            except FileNotFoundError:
                continue  # some servers say so of a missing object

    async def list(self, prefix: str, after: str, limit: int) -> Objects:
        """Names are longer than `prefix`."""
        return await self._call("list", lambda: self._list(prefix, after, limit))

    async def _list(self, prefix: str, after: str, limit: int) -> Objects:
        found: Objects = []
        stream = obstore.list(
            self._store,
            prefix=self._bucket.prefix or None,
            offset=self._directory + max(after, prefix) if after or prefix else None,
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

    async def _call(self, what: str, work: Callable[[], Awaitable[T]]) -> T:
        """Raises FileNotFoundError, BackendUnavailable, Timeout (the deadline is over)."""
        backoff = Backoff(self._policy, self._clock.monotonic_s())
        while True:
            try:
                async with asyncio.timeout(self._bucket.deadline_s):
                    return await work()
            except exceptions.BaseError as error:
                failure = self._failure(what, error)
                failed: BaseException = error
                final = isinstance(error, _FINAL) or _REFUSED.search(str(error)) is not None
            except TimeoutError as error:
                failure, failed, final = self._late(what), error, False
            delay_s = None if final else backoff.next_delay_s(self._clock.monotonic_s())
            if delay_s is None:
                raise failure from failed
            await asyncio.sleep(delay_s)

    def _failure(self, what: str, error: exceptions.BaseError) -> Exception:
        text = str(error).partition("\n\nDebug source")[0]
        bucket = self._bucket.name
        if "NoSuchBucket" in text:
            return BackendUnavailable(f"the bucket {bucket!r} does not exist")
        if isinstance(error, exceptions.NotFoundError):
            return FileNotFoundError(what)
        denied = isinstance(
            error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError
        )
        if denied or _DENIED.search(text):
            return BackendUnavailable(
                f"the bucket {bucket!r} refuses a {what}: the credentials do not allow it"
            )
        if "kind: Timeout" in str(error):
            return self._late(what)
        first = text.partition("\n")[0]
        return BackendUnavailable(f"the bucket {bucket!r} failed at a {what}: {first}")

    def _late(self, what: str) -> Timeout:
        return Timeout(f"{self._bucket.deadline_s:g} s: a {what} of bucket {self._bucket.name!r}")


async def open_blocks(bucket: Bucket, clock: Clock) -> S3Blocks:
    """Raises InvalidArgument (settings, no such bucket), BackendUnavailable, Timeout."""
    given = {
        "endpoint": bucket.endpoint,
        "region": bucket.region,
        "access_key_id": bucket.access_key_id,
        "secret_access_key": bucket.secret_access_key,
        "session_token": bucket.session_token,
    }
    config: dict[str, Any] = {name: value for name, value in given.items() if value}
    options: ClientConfig = {
        "timeout": timedelta(seconds=bucket.request_s),
        "connect_timeout": timedelta(seconds=min(5.0, bucket.request_s)),
        # Who gives an address with http: means it, also in the environment.
        "allow_http": not bucket.endpoint.startswith("https:"),
    }
    try:
        store = S3Store(
            bucket.name,
            config=config,  # type: ignore[arg-type]
            virtual_hosted_style_request=bucket.virtual_hosted,
            client_options=options,
            # Ours are the attempts, because theirs stop at a timeout of a put.
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=bucket.deadline_s)},
        )
    except exceptions.BaseError as error:
        raise InvalidArgument(f"pagefs: the settings of the blocks: {error}") from None
    blocks = S3Blocks(store, bucket, clock)
    await blocks.check()
    return blocks
