"""Calls to one bucket of an S3-compatible object storage, tried again until their deadline.

Object storage may answer late, or with an error, or not at all; each request has a timeout, and
each call is tried again with growing delays. Callers make sure that a request may be repeated.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from obstore import exceptions
from obstore.store import S3Store

from fs9.errors import BackendUnavailable, InvalidArgument, Timeout
from fs9.resilience.backoff import Backoff, BackoffPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from obstore.store import ClientConfig

    from fs9.clock import Clock

T = TypeVar("T")

#: Errors that no later attempt mends.
_FINAL = (
    exceptions.PermissionDeniedError,
    exceptions.UnauthenticatedError,
    exceptions.InvalidPathError,
    exceptions.NotSupportedError,
)
#: An address that cannot be asked at all, such as http: where only https is allowed, is one.
_REFUSED = re.compile(r"status code: 4(?!08|29)|kind: Builder")
_NO_BUCKET = "NoSuchBucket"
_DENIED = re.compile(r"status code: 40[13]")


class Changed(Exception):
    """A conditional put met another version of the object; perhaps our own earlier attempt's."""


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


class S3Client:
    """`store` is what obstore's functions are given; `call` is how they are called."""

    def __init__(self, bucket: Bucket, clock: Clock) -> None:
        """Asks nothing yet. Raises InvalidArgument: settings that cannot be used."""
        self.bucket = bucket
        self.store = _store(bucket)
        self._clock = clock
        self._policy = BackoffPolicy(
            attempts_max=1000, delay_first_s=0.05, delay_max_s=2.0, budget_s=bucket.deadline_s
        )

    async def call(self, what: str, work: Callable[[], Awaitable[T]]) -> T:
        """Raises FileNotFoundError, Changed, BackendUnavailable, Timeout (the deadline is over)."""
        backoff = Backoff(self._policy, self._clock.monotonic_s())
        while True:
            try:
                async with asyncio.timeout(self.bucket.deadline_s):
                    return await work()
            except (exceptions.PreconditionError, exceptions.AlreadyExistsError) as error:
                raise Changed from error
            except FileNotFoundError as error:  # obstore's, of an object or of the whole bucket
                if _NO_BUCKET in str(error):
                    raise self._no_bucket() from error
                raise
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
        bucket = self.bucket.name
        if _NO_BUCKET in str(error):
            return self._no_bucket()
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

    def _no_bucket(self) -> BackendUnavailable:
        return BackendUnavailable(f"the bucket {self.bucket.name!r} does not exist")

    def _late(self, what: str) -> Timeout:
        return Timeout(f"{self.bucket.deadline_s:g} s: a {what} of bucket {self.bucket.name!r}")


def _store(bucket: Bucket) -> S3Store:
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
        return S3Store(
            bucket.name,
            config=config,  # type: ignore[arg-type]
            virtual_hosted_style_request=bucket.virtual_hosted,
            client_options=options,
            # Ours are the attempts, because theirs stop at a timeout of a put.
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=bucket.deadline_s)},
        )
    except exceptions.BaseError as error:
        raise InvalidArgument(f"pagefs: the settings of the blocks: {error}") from None
