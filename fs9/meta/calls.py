"""Calls a metadata service over HTTP, with deadlines, retries, several endpoints and breakers.

A call is tried a few times, each time at the next endpoint whose breaker allows it. A try has one
deadline, body included, so that a service that hangs or sends a byte at a time counts as failing.
Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2
import msgspec

from fs9.errors import BackendUnavailable, CircuitBreakerOpen, Fs9Error
from fs9.meta import wire
from fs9.resilience.backoff import Backoff, BackoffPolicy
from fs9.resilience.breaker import Breaker, State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from fs9.clock import Clock
    from fs9.limits import Limits

log = logging.getLogger(__name__)
# One line for each call would say no more than ours do.
logging.getLogger("httpx2").setLevel(logging.WARNING)

T = TypeVar("T")

_ANSWER_BYTES_MAX = 64 * 1024 * 1024
_CONNECTIONS_MAX = 64
_REDIRECTS = range(300, 400)
SUCCESSES = range(200, 300)
_NO_ANSWER = range(500, 600)
_KEY_REFUSED = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class Hooks:
    """Callbacks of the process; `span` is entered for each try."""

    headers: Callable[[], Mapping[str, str]] = dict
    span: Callable[[str, str], AbstractContextManager[object]] = lambda name, endpoint: (
        contextlib.nullcontext()
    )


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str]
    content: bytes | None
    into: Any


class _Failed(Exception):
    """A try without an answer. `sent`: it may have been done all the same."""

    def __init__(self, error: Fs9Error, *, sent: bool) -> None:
        super().__init__(error)
        self.error = error
        self.sent = sent


class _Endpoint:
    def __init__(self, url: str, limits: Limits) -> None:
        self.url = url
        self.breaker = Breaker(limits.meta_failures_max, limits.meta_recovery_s)


class Wire:
    """Calls one metadata service that has several endpoints."""

    def __init__(
        self,
        endpoints: Sequence[str],
        key: str,
        limits: Limits,
        clock: Clock,
        hooks: Hooks | None = None,
    ) -> None:
        self._endpoints = [_Endpoint(url.rstrip("/"), limits) for url in endpoints]
        self._limits = limits
        self._clock = clock
        self._hooks = hooks or Hooks()
        self._policy = BackoffPolicy(
            attempts_max=limits.meta_attempts_max,
            delay_first_s=limits.meta_delay_first_ms / 1000,
            delay_max_s=max(limits.meta_total_timeout_s, limits.meta_delay_first_ms / 1000),
            # Whoever waits for it must still get an answer.
            budget_s=min(limits.meta_total_timeout_s, 0.9 * limits.request_timeout_s),
        )
        #: The endpoint that answered last is asked first.
        self._preferred = 0
        #: How many places further on those are that are asked to hold a call.
        self._held = 0
        # Deadlines are ours. The process's proxies are not meant for this.
        self._http = httpx2.AsyncClient(
            headers={wire.KEY_HEADER.encode(): key.encode()} if key else {},
            timeout=None,
            limits=httpx2.Limits(
                max_connections=_CONNECTIONS_MAX, max_keepalive_connections=_CONNECTIONS_MAX
            ),
            trust_env=False,
            follow_redirects=False,
        )

    @property
    def breaker_state(self) -> State:
        """The best state of the endpoints' breakers."""
        return min(endpoint.breaker.state for endpoint in self._endpoints)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        into: Any = None,  # noqa: ANN401  a type
        query: Mapping[str, object] | None = None,
        body: object = None,
        repeat: bool = True,
    ) -> tuple[int, bytes]:
        """Status and body of the answer, which is below 500 and not about the admin key.

        `into`: the type that the body of a success must decode to; any other counts as an outage.
        `repeat` False: a call that may have been executed is not repeated.
        """
        content = None if body is None else msgspec.json.encode(body)
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        request = _Request(method, path, given, content, into)
        started_s = self._clock.monotonic_s()
        backoff = Backoff(self._policy, started_s)
        error: Fs9Error | None = None
        offset = 0
        while True:
            endpoint, permit, offset = self._admitted(offset, error)
            left_s = started_s + self._policy.budget_s - self._clock.monotonic_s()
            try:
                with self._hooks.span(f"meta {method}", endpoint.url):
                    answer = await self._try(endpoint, permit, request, left_s)
            except _Failed as failed:
                error = failed.error
                delay_s = backoff.next_delay_s(self._clock.monotonic_s())
                if delay_s is None or (failed.sent and not repeat):
                    raise error from failed.__cause__
            else:
                self._preferred = self._endpoints.index(endpoint)
                return answer
            await asyncio.sleep(delay_s)

    async def hold(
        self,
        path: str,
        query: Mapping[str, object],
        wait_s: float,
        into: Any,  # noqa: ANN401  a type
    ) -> tuple[int, bytes]:
        """Ask once, for an answer that may take `wait_s` (long polling); otherwise as `call`.

        Endpoints whose breaker is open are not asked, but the outcome does not count for breakers:
        it says little about other calls, and a probe must not take so long.
        """
        count = len(self._endpoints)
        order = [self._endpoints[(self._preferred + self._held + n) % count] for n in range(count)]
        endpoint = next((each for each in order if each.breaker.state is State.CLOSED), None)
        if endpoint is None:
            raise CircuitBreakerOpen("the metadata service is not asked for a while")
        given = {name: str(value) for name, value in query.items()}
        request = _Request("GET", path, given, None, into)
        try:
            timeout_s = wait_s + self._limits.meta_try_timeout_s
            return await self._exchange(endpoint.url, request, timeout_s)
        except _Failed as failed:
            self._held += 1  # another one the next time
            raise failed.error from failed.__cause__

    def _admitted(self, offset: int, error: Fs9Error | None) -> tuple[_Endpoint, int, int]:
        """The next endpoint that may be asked, its permit, and where to go on."""
        now_s = self._clock.monotonic_s()
        count = len(self._endpoints)
        for step in range(count):
            endpoint = self._endpoints[(self._preferred + offset + step) % count]
            permit = endpoint.breaker.admit(now_s)
            if permit is not None:
                return endpoint, permit, offset + step + 1
        if error is not None:
            raise error
        wait_s = min(endpoint.breaker.wait_s(now_s) for endpoint in self._endpoints)
        raise CircuitBreakerOpen(f"the metadata service; next try in {wait_s:.1f} s")

    async def _try(
        self, endpoint: _Endpoint, permit: int, request: _Request, left_s: float
    ) -> tuple[int, bytes]:
        breaker = endpoint.breaker
        try:
            timeout_s = max(0.001, min(self._limits.meta_try_timeout_s, left_s))
            answer = await self._exchange(endpoint.url, request, timeout_s)
        except _Failed as failed:
            before = breaker.state
            breaker.failed(permit, self._clock.monotonic_s())
            if breaker.state is State.OPEN and before is not State.OPEN:
                log.error("%s is not asked for a while: %s", endpoint.url, failed.error)
            raise
        except BaseException:  # whoever asked went away: nobody knows
            breaker.abandoned(permit, self._clock.monotonic_s())
            raise
        breaker.succeeded(permit)
        return answer

    async def _exchange(self, url: str, request: _Request, timeout_s: float) -> tuple[int, bytes]:
        headers = dict(self._hooks.headers())
        if request.content is not None:
            headers["content-type"] = "application/json"
        try:
            async with asyncio.timeout(timeout_s):
                built = self._http.build_request(
                    request.method,
                    url + request.path,
                    params=request.query or None,
                    headers=headers,
                    content=request.content,
                )
                status, body = await self._answer(built)
        except TimeoutError:
            silent = f"no whole answer of {url} within {timeout_s:g} s"
            raise _Failed(BackendUnavailable(silent), sent=True) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise _Failed(BackendUnavailable(f"{url}: {error}"), sent=False) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            said = str(error) or type(error).__name__
            raise _Failed(BackendUnavailable(f"{url}: {said}"), sent=True) from error
        self._check(url, status, body, request.into)
        return status, body

    async def _answer(self, request: httpx2.Request) -> tuple[int, bytes]:
        response = await self._http.send(request, stream=True)
        try:
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > _ANSWER_BYTES_MAX:
                    raise _Failed(BackendUnavailable("an answer without end"), sent=True)
            return response.status_code, bytes(body)
        finally:
            await response.aclose()

    def _check(self, url: str, status: int, body: bytes, into: Any) -> None:  # noqa: ANN401  a type
        """Raise _Failed unless this is an answer of the service."""
        if status in _NO_ANSWER or status in _REDIRECTS:
            said = wire.words_of(body)
            text = f"{url} answered {status}{': ' if said else ''}{said}"
            raise _Failed(BackendUnavailable(text), sent=True)
        if status in _KEY_REFUSED and wire.words_of(body) in {wire.NO_KEY, wire.NO_KEY_ADMIN}:
            text = f"{url} refuses our key (server.meta_key, FS9_META_KEY)"
            raise _Failed(BackendUnavailable(text), sent=False)
        if status in SUCCESSES and into is not None:
            try:
                decoded(body, into)
            except BackendUnavailable as error:
                raise _Failed(error, sent=True) from None


def decoded(body: bytes, type_: type[T]) -> T:
    try:
        value: Any = msgspec.json.decode(body, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise garbage(error) from None
    return value  # type: ignore[no-any-return]


def garbage(error: Exception) -> BackendUnavailable:
    return BackendUnavailable(f"the metadata service's answer is not understood: {error}")
