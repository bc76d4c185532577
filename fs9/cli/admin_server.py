"""Calls to the file server for `fs9 admin`: one request, one JSON answer, errors for people."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from fs9 import errors
from fs9.cli.admin_access import AdminError
from fs9.client.failures import ConnectionLost
from fs9.client.ops import Request
from fs9.client.policy import Repeat
from fs9.client.server_events import server_events
from fs9.client.sync import Client
from fs9.wire.route import JSON

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fs9.cli.admin_access import Access
    from fs9.client.ops import Operation
    from fs9.errors import Fs9Error

#: Seconds between the end of a stream of events and the next one.
_AGAIN_S = 0.5


class NamespaceInfo(TypedDict):
    """What every server tells of a namespace; ours tells more."""

    name: str
    created_at: str
    created_by: str
    status: str


class MountInfo(TypedDict):
    path: str
    provider_name: str


class EventInfo(TypedDict):
    timestamp: int
    event_type: str
    path: str
    user: str
    count: int


class Server:
    """The file server, with the rights that each call needs."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def administer(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, str] | None = None,
        shape: Any = None,  # noqa: ANN401  a type
    ) -> Any:  # noqa: ANN401  JSON values, or a `shape`
        """As an admin of the server. Raises Fs9Error, AdminError for another answer's shape."""
        token = self._access.token_for(self._access.admin_namespace, "admin")
        return self._call(token, None, method, path, body, query, shape)

    def within(
        self,
        namespace: str,
        role: str,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, str] | None = None,
        shape: Any = None,  # noqa: ANN401  a type
    ) -> Any:  # noqa: ANN401  JSON values, or a `shape`
        """In a namespace, with a role there. Raises as `administer`."""
        token = self._access.token_for(namespace, role)
        # A token that was signed for the namespace says which it is meant for.
        tenant = None if self._access.means == "secret" else namespace
        return self._call(token, tenant, method, path, body, query, shape)

    def follow(
        self, namespace: str, path: str, query: Mapping[str, str], cursor: str | None
    ) -> Iterator[str]:
        """The data of server-sent events after `cursor`, over every loss of the connection.

        Without an end; raises Fs9Error when the server cannot be reached any more, or refuses.
        """
        while True:
            # A new token each time: the old one may have expired.
            token = self._access.token_for(namespace, "read-only")
            tenant = None if self._access.means == "secret" else namespace
            request = Request(
                "GET",
                path,
                Repeat.REPEATABLE,
                query=query,
                headers={"accept": "text/event-stream"},
                streams=True,
            )
            if cursor is not None:
                request.headers = {**request.headers, "last-event-id": cursor}
            with Client(self._access.server, token, namespace=tenant) as client:
                _, response = client.link.open(_once(request))
                with contextlib.closing(response), contextlib.suppress(ConnectionLost):
                    for event in server_events(response):
                        cursor = event.id or cursor
                        if event.name == "":
                            yield event.data
            time.sleep(_AGAIN_S)

    def healthy(self) -> None:
        """Raises Fs9Error."""
        with Client(self._access.server) as client:
            client.health()

    def _call(
        self,
        token: str | None,
        namespace: str | None,
        method: str,
        path: str,
        body: object,
        query: Mapping[str, str] | None,
        shape: Any,  # noqa: ANN401  a type
    ) -> Any:  # noqa: ANN401  JSON values, or a `shape`
        request = Request(
            method,
            path,
            Repeat.ONCE if method == "POST" else Repeat.REPEATABLE,
            query=query or {},
        )
        if body is not None:
            request.body = json.dumps(body).encode()
            request.headers = {"content-type": JSON}
        with Client(self._access.server, token, namespace=namespace) as client:
            answer = client.link.run(_once(request))
        if shape is None:
            return None
        try:
            value = json.loads(answer)
            msgspec.convert(value, shape)
        except (ValueError, RecursionError):  # also msgspec's
            raise AdminError(
                f"{self._access.server} gave an unexpected answer: is it an fs9 server?"
            ) from None
        return value


def _once(request: Request) -> Operation[bytes]:
    answer = yield request
    return answer.body


def _is_path(detail: str) -> bool:
    return not detail or detail.startswith("/")


def text_of(error: Fs9Error, *, missing: str | None = None, taken: str | None = None) -> str:
    """The error as this program says it; `missing`: what was not found, `taken`: what is there."""
    if isinstance(error, errors.Unauthenticated):
        return f"Authentication failed: {error.detail or error}. Check the secret (or the token)"
    if isinstance(error, errors.Forbidden):
        return f"Permission denied: {error.detail or error}"
    if isinstance(error, errors.RouteNotFound | errors.MethodNotAllowed):
        return f"Request failed ({error.status}): the server does not offer this"
    if isinstance(error, errors.NotFound) and missing is not None:
        return missing
    if isinstance(error, errors.AlreadyExists) and taken is not None:
        return taken
    if isinstance(error, errors.NotFound | errors.AlreadyExists) and not _is_path(error.detail):
        return error.detail  # a sentence
    if isinstance(error, errors.BackendUnavailable) and error.detail:
        return error.detail
    if error.status == 501:
        return f"Not implemented by the server: {error.detail or error}"
    return str(error)
