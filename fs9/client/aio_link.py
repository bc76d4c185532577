"""The way to the server: sends what an operation yields, tries again as `policy` says.

Drives the generators of `ops` over HTTP: one connection pool, one retry loop, one place where
failures of the transport become errors. It knows no operation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import quote, urlencode

import httpx2

from fs9.client.failures import (
    ConnectionLost,
    Redirected,
    ServerSilent,
    ServerUnreachable,
    TruncatedBody,
    UnexpectedAnswer,
)
from fs9.client.ops import Answer, Operation, Request
from fs9.client.policy import (
    FIRST_CONTACT,
    Outcome,
    may_try_again,
    outcome_of,
    retry_after_s,
)
from fs9.errors import Fs9Error, InvalidArgument
from fs9.resilience.backoff import Backoff, BackoffPolicy
from fs9.wire.problem import error_from_reply
from fs9.wire.route import PREFIX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fs9.client.colour import AsyncColour
    from fs9.client.settings import Settings
    from fs9.clock import Clock

T = TypeVar("T")

#: Bytes of an error answer that are read.
_ERROR_BYTES_MAX = 64 * 1024


class AsyncSource(Protocol):
    """The bytes of an upload. `length` None: not known before the end."""

    length: int | None
    #: Can `pieces` be called again, from the first byte?
    replayable: bool
    #: Has a piece been taken already?
    taken: bool

    def pieces(self) -> AsyncIterator[bytes]: ...


class _Failed(Exception):
    """One attempt failed: with which error, and what may have happened on the server."""

    def __init__(self, error: Fs9Error, outcome: Outcome, wait_s: float = 0.0) -> None:
        super().__init__(error)
        self.error = error
        self.outcome = outcome
        self.wait_s = wait_s


class AsyncLink:
    """The connections of one client. `http`, when given, is used as it is and left open."""

    def __init__(
        self, settings: Settings, http: httpx2.AsyncClient | None, colour: AsyncColour, clock: Clock
    ) -> None:
        self.url = settings.base_url
        self._settings = settings
        self._colour = colour
        self._clock = clock
        self._owned = http is None
        self._http = http if http is not None else httpx2.AsyncClient(**settings.http_arguments())
        self._headers = settings.headers()
        # Has any server answered? Until then a refused connection is not waited for long.
        self._answered = False

    async def aclose(self) -> None:
        if self._owned:
            await self._http.aclose()

    def backoff(self) -> Backoff:
        """The delays for one thing that the caller tries again itself."""
        return Backoff(self._settings.retries, self._clock.monotonic_s())

    async def wait(self, backoff: Backoff) -> bool:
        """Wait as `backoff` says; False when it says to give up."""
        delay_s = backoff.next_delay_s(self._clock.monotonic_s())
        if delay_s is None:
            return False
        await self._colour.sleep(delay_s)
        return True

    async def run(self, operation: Operation[T], source: AsyncSource | None = None) -> T:
        """The value of an operation, all of whose answers are read whole."""
        value, response = await self._drive(operation, source)
        if response is not None:
            await response.aclose()
        return value

    async def open(self, operation: Operation[T]) -> tuple[T, httpx2.Response]:
        """The value of an operation, and its last answer with the body still to be read."""
        value, response = await self._drive(operation, None)
        assert response is not None, "the operation does not stream"
        return value, response

    async def _drive(
        self, operation: Operation[T], source: AsyncSource | None
    ) -> tuple[T, httpx2.Response | None]:
        response: httpx2.Response | None = None
        try:
            request = next(operation)
            while True:
                try:
                    answer, response = await self._send(request, source)
                except Fs9Error as error:
                    request = operation.throw(error)
                else:
                    request = operation.send(answer)
        except StopIteration as done:
            return done.value, response
        except BaseException:
            if response is not None:
                await response.aclose()
            raise

    async def _send(
        self, request: Request, source: AsyncSource | None
    ) -> tuple[Answer, httpx2.Response | None]:
        """One request, tried as often as the policy allows."""
        started_s = self._clock.monotonic_s()
        patient = Backoff(self._settings.retries, started_s)
        brief = Backoff(min(FIRST_CONTACT, self._settings.retries, key=_attempts), started_s)
        uncertain = False
        while True:
            try:
                return await self._attempt(request, source)
            except _Failed as failed:
                settled = request.settled_by
                if uncertain and settled and isinstance(failed.error, settled):
                    return Answer(204, {}), None
                uncertain = uncertain or failed.outcome is Outcome.UNKNOWN
                delay_s = None
                if self._may_try_again(request, source, failed.outcome):
                    first_contact = failed.outcome is Outcome.NOT_SENT and not self._answered
                    backoff = brief if first_contact else patient
                    delay_s = backoff.next_delay_s(self._clock.monotonic_s(), failed.wait_s)
                if delay_s is None:
                    raise failed.error from failed.__cause__
            await self._colour.sleep(delay_s)

    def _may_try_again(
        self, request: Request, source: AsyncSource | None, outcome: Outcome
    ) -> bool:
        if request.takes_source and source is not None and source.taken and not source.replayable:
            return False
        return may_try_again(request.repeat, outcome)

    async def _attempt(
        self, request: Request, source: AsyncSource | None
    ) -> tuple[Answer, httpx2.Response | None]:
        response = await self._response(request, source)
        self._answered = True
        try:
            if response.status_code >= 400:
                raise await self._refusal(response)
            if response.status_code in {301, 302, 303, 307, 308}:
                where = response.headers.get("location", "nowhere")
                raise _Failed(Redirected(f"the server redirects to {where}"), Outcome.ANSWERED)
            headers = {name.lower(): value for name, value in response.headers.items()}
            answer = Answer(response.status_code, headers)
            if request.streams:
                return answer, response
            answer.body = await self._body(response)
        except BaseException:
            await response.aclose()
            raise
        await response.aclose()
        return answer, None

    async def _response(self, request: Request, source: AsyncSource | None) -> httpx2.Response:
        """The head of the answer, its body unread."""
        root = self.url + (self._settings.tenant_path + PREFIX if request.prefixed else "")
        query = f"?{urlencode(_encodable(request.query))}" if request.query else ""
        try:
            built = self._http.build_request(
                request.method,
                root + quote(request.path) + query,
                headers={**self._headers, **request.headers},
                content=self._content(request, source),
            )
            return await self._http.send(built, stream=True)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            unreachable = ServerUnreachable.at(self.url, _reason(error))
            raise _Failed(unreachable, Outcome.NOT_SENT) from error
        except (httpx2.ReadTimeout, httpx2.WriteTimeout) as error:
            silent = f"{self.url} was silent for {self._settings.timeout_s:g} s"
            raise _Failed(ServerSilent(silent), Outcome.UNKNOWN) from error
        except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
            lost = ConnectionLost(f"{self.url}: {_reason(error)}")
            raise _Failed(lost, Outcome.UNKNOWN) from error
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            wrong = InvalidArgument(f"{self.url}: {_reason(error)}")
            raise _Failed(wrong, Outcome.ANSWERED) from error

    def _content(
        self, request: Request, source: AsyncSource | None
    ) -> bytes | AsyncIterator[bytes] | None:
        if request.takes_source:
            assert source is not None, "an upload needs a source"
            return source.pieces()
        if request.body is None or isinstance(request.body, bytes):
            return request.body
        return bytes(request.body)

    async def _body(self, response: httpx2.Response) -> bytes:
        try:
            body = await self._read(response)
        except httpx2.RequestError as error:
            cut = TruncatedBody(f"{self.url}: {_reason(error)}")
            raise _Failed(cut, Outcome.UNKNOWN) from error
        announced = response.headers.get("content-length")
        if announced is not None and announced.isdigit() and int(announced) != len(body):
            short = TruncatedBody(f"{len(body)} of {announced} bytes came")
            if "content-encoding" not in response.headers:
                raise _Failed(short, Outcome.UNKNOWN)
        return body

    async def _read(self, response: httpx2.Response) -> bytes:
        most = self._settings.answer_bytes_max
        if most is None:
            return await response.aread()
        pieces: list[bytes] = []
        size = 0
        async for piece in response.aiter_bytes():
            pieces.append(piece)
            size += len(piece)
            if size > most:
                large = UnexpectedAnswer(f"more than {most} bytes")
                raise _Failed(large, Outcome.ANSWERED)
        return b"".join(pieces)

    async def _refusal(self, response: httpx2.Response) -> _Failed:
        """The failure that an error answer stands for."""
        body = b""
        try:
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > _ERROR_BYTES_MAX:
                    break
        except httpx2.TransportError:
            body = b""  # the status alone has to do
        wait_s = retry_after_s(response.headers.get("retry-after"))
        error = error_from_reply(response.status_code, body)
        return _Failed(error, outcome_of(error, body, wait_s), wait_s or 0.0)


def _attempts(policy: BackoffPolicy) -> int:
    return policy.attempts_max


def _encodable(query: object) -> dict[str, str]:
    """The query, or InvalidArgument for a name of this host that no server path can be."""
    assert isinstance(query, dict)
    for value in query.values():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidArgument(f"a path must be valid Unicode: {value!r}") from None
    return query


def _reason(error: Exception) -> str:
    """The text of a transport error without its number, or its name when it has none."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
