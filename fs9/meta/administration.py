"""Users, roles and keys for administrators: by the metadata service, or in its database.

    call("POST", "/api/v1/users/{id}/roles", …) ──> Remote: over HTTP ──> the service
                                                └─> Local: the service's own routes, in this process

Both answer with the JSON values of the service's routes (`fs9.meta.routes`). File servers hear of
changes in either way, because they wait for changes of the database.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from fs9.clock import SystemClock
from fs9.config.dsn import sqlite_path
from fs9.config.masking import plain_value
from fs9.errors import BackendUnavailable, Forbidden, InvalidArgument, NotFound, NotSupported
from fs9.limits import Limits
from fs9.meta import wire
from fs9.meta.calls import Wire
from fs9.meta.issuing import Issuer
from fs9.meta.open import open_at
from fs9.meta.passwords import Passwords
from fs9.meta.routes import ROUTES, Call
from fs9.meta.service import MetaService
from fs9.threads import BlockingPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

T = TypeVar("T")

_OK = range(200, 300)


class Administration(Protocol):
    """Calls the routes of the metadata service, wherever they are run."""

    async def call(
        self,
        method: str,
        template: str,
        params: Mapping[str, str] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
    ) -> Any:  # noqa: ANN401  JSON values
        """The answer of a route, as JSON values. Raises Fs9Error."""


class Remote:
    """Calls the service over HTTP; a call that may have been executed is not repeated."""

    def __init__(self, calls: Wire) -> None:
        self._calls = calls

    async def call(
        self,
        method: str,
        template: str,
        params: Mapping[str, str] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
    ) -> Any:  # noqa: ANN401  JSON values
        """As `Administration.call`."""
        path = template.format(**{key: _segment(text) for key, text in (params or {}).items()})
        status, data = await self._calls.call(
            method, path, query=query, body=body, repeat=method != "POST", into=object
        )
        if status in _OK:
            return msgspec.json.decode(data)
        ours = wire.error_of(status, data)
        if ours is not None:
            raise ours
        said = wire.words_of(data) or f"the metadata service answered {status}"
        if status in {404, 405}:
            raise NotSupported(f"by this metadata service ({said})")
        raise (Forbidden if status in {401, 403} else BackendUnavailable)(said)


class Local:
    """Runs the service's routes in this process, on the database."""

    def __init__(self, service: MetaService) -> None:
        self._service = service
        self._issuer = Issuer(service, _NoTokens())
        self._routes = {(route.method, route.template): route for route in ROUTES}

    async def call(
        self,
        method: str,
        template: str,
        params: Mapping[str, str] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
    ) -> Any:  # noqa: ANN401  JSON values
        """As `Administration.call`."""
        route = self._routes[method, template]
        made = Call(self._service, self._issuer, dict(params or {}), dict(query or {}))
        if route.body is not None:
            try:
                made.body = msgspec.convert(body, route.body)
            except msgspec.ValidationError as error:
                raise InvalidArgument(str(error)) from None
        return msgspec.to_builtins(await route.run(made))


class _NoTokens:
    """Refuses to issue tokens: this process has no secret; the commands sign tokens themselves."""

    def claims(self, token: str, grace_s: float = 0) -> NoReturn:
        raise NotSupported("tokens, without the metadata service")

    def sign(self, claims: Mapping[str, Any]) -> NoReturn:
        raise NotSupported("tokens, without the metadata service")

    def origin(self, token: str, claims: object) -> NoReturn:
        raise NotSupported("tokens, without the metadata service")

    async def revoked(self, token: str, claims: object) -> NoReturn:
        raise NotSupported("tokens, without the metadata service")


def at_service(url: str, key: str, work: Callable[[Administration], Awaitable[T]]) -> T:
    """The result of `work` with the service at this URL. Raises Fs9Error, ValueError (the URL)."""

    async def run() -> T:
        calls = Wire([url], key, Limits(), SystemClock())
        try:
            return await work(Remote(calls))
        finally:
            await calls.aclose()

    return asyncio.run(run())


def at_database(dsn: str, work: Callable[[Administration], Awaitable[T]]) -> T:
    """The result of `work` with this database, which must exist.

    Raises Fs9Error, ValueError (the DSN).
    """

    async def run() -> T:
        async with _service(dsn) as service:
            return await work(Local(service))

    return asyncio.run(run())


@asynccontextmanager
async def _service(dsn: str) -> AsyncIterator[MetaService]:
    path = sqlite_path(dsn)
    if path is not None and not path.exists():
        raise NotFound(f"there is no metadata: {plain_value(dsn)}")
    clock, pool = SystemClock(), BlockingPool(2)
    try:
        store = await open_at(dsn, Limits(), clock, pool)
        try:
            yield MetaService(store, Passwords(pool), clock)
        finally:
            await store.aclose()
    finally:
        pool.shutdown()


def _segment(text: str) -> str:
    if text in {"", ".", ".."}:
        raise InvalidArgument(f"{text!r} is no name")
    return quote(text, safe="")
