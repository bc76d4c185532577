"""Calls of the server behind a proxyfs mount: connections, breaker, token, hops, errors.

`Upstreams` belongs to a worker: mounts of one upstream share their connections and the circuit
breaker. `Calls` belongs to a mount; what runs is an operation of `fs9.client.ops`, and the
client's link tries again what is safe to repeat.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import math
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from fs9.client import guarded
from fs9.client.aio_link import AsyncLink
from fs9.client.colour import AsyncColour
from fs9.client.failures import ConnectionLost, Redirected, ServerSilent, ServerUnreachable
from fs9.client.ops import decoded, request_of
from fs9.errors import (
    KINDS,
    AlreadyExists,
    BackendUnavailable,
    CircuitBreakerOpen,
    Conflict,
    DirectoryNotEmpty,
    Forbidden,
    Fs9Error,
    InvalidArgument,
    InvalidHandle,
    IsDirectory,
    NotDirectory,
    NotFound,
    NotSupported,
    PayloadTooLarge,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
    RangeNotSatisfiable,
    Remote,
    Timeout,
    TooManyHops,
    Transient,
    Unauthenticated,
    VersionConflict,
)
from fs9.resilience.breaker import Breaker
from fs9.wire.hops import HOP_COUNT, hops_so_far, too_many_hops
from fs9.wire.messages import RefreshReply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from fs9.client.aio_link import AsyncSource
    from fs9.client.ops import Operation
    from fs9.client.settings import Settings
    from fs9.clock import Clock
    from fs9.providers.policy import AddressPolicy
    from fs9.threads import BlockingPool

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Failures in a row after which an upstream is left alone, and for how long.
FAILURES_MAX = 5
RECOVERY_S = 10.0

#: A token is replaced when a fifth of its life, or five minutes, are left.
_REFRESH_SHARE = 0.2
_REFRESH_AHEAD_S = 300.0
#: After a refresh that failed, or one that did not help, the next one.
_REFRESH_AGAIN_S = 30.0

#: What the upstream says about files is said to our caller as it is.
_ABOUT_FILES = (
    AlreadyExists,
    Conflict,
    DirectoryNotEmpty,
    InvalidArgument,
    InvalidHandle,
    IsDirectory,
    NotDirectory,
    NotFound,
    NotSupported,
    PayloadTooLarge,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
    RangeNotSatisfiable,
    TooManyHops,
    VersionConflict,
)


@dataclass(frozen=True, slots=True)
class _Key:
    """What mounts must have in common to share connections."""

    url: str
    timeout_s: float
    addresses: AddressPolicy | None


class Upstream:
    """A server: its connections and its circuit breaker. `lent` counts the mounts that use it."""

    def __init__(self, key: _Key, http: guarded.HttpClient, breaker: Breaker) -> None:
        self.key = key
        self.http = http
        self.breaker = breaker
        self.lent = 0


class Upstreams:
    """The upstreams of one worker's mounts. Belongs to the event loop."""

    def __init__(self) -> None:
        self._known: dict[_Key, Upstream] = {}

    def lend(
        self, settings: Settings, addresses: AddressPolicy | None, pool: BlockingPool
    ) -> Upstream:
        """The upstream of a config, until it is given back. `addresses` None: any address."""
        key = _Key(settings.base_url, settings.timeout_s, addresses)
        upstream = self._known.get(key)
        if upstream is None:
            check = None if addresses is None else addresses.check
            http = guarded.http_client(settings, partial(_resolve, pool), check)
            upstream = self._known[key] = Upstream(key, http, self._breaker(key.url))
        upstream.lent += 1
        return upstream

    async def give_back(self, upstream: Upstream) -> None:
        upstream.lent -= 1
        if not upstream.lent:
            del self._known[upstream.key]
            await upstream.http.aclose()

    def _breaker(self, url: str) -> Breaker:
        """One for each server, whatever else its mounts do not share."""
        for key, upstream in self._known.items():
            if key.url == url:
                return upstream.breaker
        return Breaker(FAILURES_MAX, RECOVERY_S)


async def _resolve(pool: BlockingPool, host: str, port: int) -> list[str]:
    found = await pool.run(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Calls:
    """Operations at the upstream for one mount. `settings` has no token: `token` changes."""

    def __init__(
        self, settings: Settings, token: str | None, upstream: Upstream, max_hops: int, clock: Clock
    ) -> None:
        self.url = settings.url
        self._timeout_s = settings.timeout_s
        self._link = AsyncLink(settings, upstream.http, AsyncColour(), clock)
        self._breaker = upstream.breaker
        self._token = Token(token, clock)
        self._max_hops = max_hops
        self._clock = clock
        #: The last call got no answer: the upstream is away, or silent.
        self.unanswered = False

    def hops(self) -> int:
        """Servers before the upstream that the current request has been at."""
        return hops_so_far.get()

    async def run(
        self,
        make: Callable[[], Operation[T]],
        source: AsyncSource | None = None,
        *,
        hops: int = 0,
    ) -> T:
        """Run the operation that `make` returns, and return its value.

        `hops`: those of the request that the work goes back to, if not the current one's.
        Raises TooManyHops, CircuitBreakerOpen, BackendUnavailable, Timeout, Transient, Remote
        and what the upstream says about files.
        """
        hops = max(hops, self.hops())
        if hops >= self._max_hops:
            raise too_many_hops(hops, self._max_hops)
        permit = self._breaker.admit(self._clock.monotonic_s())
        if permit is None:
            wait_s = self._breaker.wait_s(self._clock.monotonic_s())
            raise CircuitBreakerOpen(
                f"{self.url}; next try in {wait_s:.1f} s", retry_after_s=math.ceil(wait_s)
            )
        headers = {HOP_COUNT: str(hops + 1)}
        try:
            # A worker steps small operations without a task, and connections need one.
            value = await asyncio.create_task(self._authorised(make, source, headers))
        except (ServerUnreachable, ConnectionLost) as error:
            self.unanswered = True
            self._breaker.failed(permit, self._clock.monotonic_s())
            raise self._told(error) from error
        except Fs9Error as error:
            self.unanswered = False
            self._breaker.succeeded(permit)  # an answer, too
            raise self._told(error) from error
        except BaseException:
            self._breaker.abandoned(permit, self._clock.monotonic_s())
            raise
        self.unanswered = False
        self._breaker.succeeded(permit)
        return value

    async def _authorised(
        self, make: Callable[[], Operation[T]], source: AsyncSource | None, headers: dict[str, str]
    ) -> T:
        """Run it with a token; one that the upstream refuses is replaced once, if possible."""
        ask = partial(self._refresh, headers)
        await self._token.keep_fresh(ask)
        try:
            return await self._link.run(
                _with_headers(make(), headers | self._token.headers()), source
            )
        except Unauthenticated:
            # Refused before anything was done. A body that has begun cannot be sent again.
            begun = source is not None and source.taken
            if begun or not await self._token.replaced(ask):
                raise
        return await self._link.run(_with_headers(make(), headers | self._token.headers()), source)

    async def _refresh(self, headers: dict[str, str]) -> RefreshReply:
        return await self._link.run(_with_headers(_refresh(), headers | self._token.headers()))

    def _told(self, error: Fs9Error) -> Fs9Error:
        """The error for our caller: without a double prefix or a hint at our credentials."""
        if isinstance(error, ServerUnreachable):
            return BackendUnavailable(f"{self.url}: {error.__cause__ or error.detail}")
        if isinstance(error, ServerSilent):
            return Timeout(f"{self._timeout_s:g}s: {self.url}")
        if isinstance(error, ConnectionLost):
            return Transient(error.detail)
        if isinstance(error, _ABOUT_FILES) and not isinstance(error, Redirected):
            return _renamed(error)
        if isinstance(error, Forbidden):
            return PermissionDenied(f"{self.url}: {error.detail}")
        if isinstance(error, Timeout):
            return error
        if error.retryable:
            return BackendUnavailable(f"{self.url}: {error.detail}")
        return Remote(f"{self.url}: {error.detail}")


def _renamed(error: Fs9Error) -> Fs9Error:
    """An error of an older server, which sends no kind: the prefix of its text is all there is.

    Without this the text would have two prefixes: `invalid argument: not a directory: /x`. A
    handle of an earlier process of theirs they call an invalid argument.
    """
    if type(error) is InvalidArgument and error.detail == "invalid handle_id":
        return InvalidHandle(error.detail)
    prefix, colon, rest = error.detail.partition(": ")
    if colon:
        for kind in KINDS.values():
            if kind.prefix == prefix and kind in _ABOUT_FILES:
                return kind(rest)
    return error


def _with_headers(operation: Operation[T], headers: Mapping[str, str]) -> Operation[T]:
    """The same operation, each of whose requests has these headers, too."""
    try:
        request = next(operation)
        while True:
            request.headers = {**request.headers, **headers}
            try:
                answer = yield request
            except Fs9Error as error:
                request = operation.throw(error)
            else:
                request = operation.send(answer)
    except StopIteration as done:
        value: T = done.value
        return value


def _refresh() -> Operation[RefreshReply]:
    answer = yield request_of("auth_refresh")
    return decoded(_decode_refresh, answer.body)


_decode_refresh = msgspec.json.Decoder(RefreshReply).decode


class _Claims(msgspec.Struct):
    exp: float
    iat: float = 0.0


class Token:
    """The token for the upstream; a JWT is replaced before it expires, and kept in memory only.

    An opaque one (an API key) stays as it is.
    """

    def __init__(self, value: str | None, clock: Clock) -> None:
        self._clock = clock
        self._renewing = asyncio.Lock()
        self._not_before_s = 0.0
        self._set(value)

    def headers(self) -> dict[str, str]:
        return {} if self._value is None else {"authorization": f"Bearer {self._value}"}

    async def keep_fresh(self, ask: Callable[[], Awaitable[RefreshReply]]) -> None:
        """Replace the token when its end is near; while it holds, a failure is only logged."""
        if not self._due() or (self._renewing.locked() and self._clock.now_s() < self._ends_s):
            return
        async with self._renewing:
            if self._due():  # nobody else has done it meanwhile
                await self._renew(ask)

    async def replaced(self, ask: Callable[[], Awaitable[RefreshReply]]) -> bool:
        """After a refusal of the token: has it been replaced?"""
        refused = self._value
        async with self._renewing:
            if self._value != refused:
                return True
            if refused is None or not self._ends_s or self._clock.now_s() < self._not_before_s:
                return False
            return await self._renew(ask)

    def _due(self) -> bool:
        now_s = self._clock.now_s()
        return bool(self._ends_s) and now_s >= max(self._due_s, self._not_before_s)

    async def _renew(self, ask: Callable[[], Awaitable[RefreshReply]]) -> bool:
        self._not_before_s = self._clock.now_s() + _REFRESH_AGAIN_S
        try:
            reply = await ask()
        except Fs9Error as error:
            log.warning("the token of a proxyfs mount could not be refreshed: %s", error)
            return False
        self._set(reply.token)
        return True

    def _set(self, value: str | None) -> None:
        self._value = value
        claims = _claims_of(value or "")
        #: 0: never, as far as we know.
        self._ends_s = self._due_s = 0.0
        if claims is not None:
            life_s = claims.exp - claims.iat
            self._ends_s = claims.exp
            self._due_s = claims.exp - min(_REFRESH_AHEAD_S, _REFRESH_SHARE * life_s)


def _claims_of(token: str) -> _Claims | None:
    """The times in a JWT, not verified; None for another text."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(payload, type=_Claims)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None
