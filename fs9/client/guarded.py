"""HTTP connections that are allowed or refused by the address that they go to.

A name is resolved here, its addresses are checked, and the connection is made to the checked
address, not to the name, so it does not matter what the name resolves to a moment later. TLS
certificates are still checked against the name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import httpx2

from fs9.errors import Fs9Error

if TYPE_CHECKING:
    from fs9.client.settings import Settings

#: What links share; the name under which providers know it.
HttpClient: TypeAlias = httpx2.AsyncClient
#: The addresses of a name, with a port; raises OSError.
Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
#: Raises an Fs9Error for an address that is not to be connected to.
Check: TypeAlias = Callable[[str], None]


def http_client(
    settings: Settings, resolve: Resolve | None = None, check: Check | None = None
) -> httpx2.AsyncClient:
    """Connections for several links to one server; with `check`, guarded.

    The process's proxies (`HTTP_PROXY` and the like) are not used.
    """
    arguments = settings.http_arguments()
    if check is None or resolve is None:
        return httpx2.AsyncClient(**arguments, trust_env=False)
    inner = httpx2.AsyncHTTPTransport(
        verify=arguments["verify"], limits=arguments["limits"], trust_env=False
    )
    transport = GuardedTransport(inner, resolve, check)
    return httpx2.AsyncClient(transport=transport, timeout=arguments["timeout"], trust_env=False)


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Sends by `inner`, to checked addresses alone."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, resolve: Resolve, check: Check) -> None:
        self._inner = inner
        self._resolve = resolve
        self._check = check

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises what the check raises when it refuses every address of the host."""
        addresses = await self._addresses(request)
        for last, address in enumerate(addresses, 1 - len(addresses)):
            try:
                return await self._inner.handle_async_request(_pinned(request, address))
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                if not last:
                    raise
        raise httpx2.ConnectError(f"{request.url.host} has no address", request=request)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _addresses(self, request: httpx2.Request) -> list[str]:
        host = request.url.host
        if _is_address(host):
            found = [host]
        else:
            port = request.url.port or (443 if request.url.scheme == "https" else 80)
            try:
                found = await self._resolve(host, port)
            except (OSError, UnicodeError) as error:
                raise httpx2.ConnectError(f"{host}: {error}", request=request) from error
        allowed = []
        refusal: Fs9Error | None = None
        for address in found:
            try:
                self._check(address)
            except Fs9Error as error:
                refusal = error
            else:
                allowed.append(address)
        if refusal is not None and not allowed:
            raise refusal
        return allowed


def _pinned(request: httpx2.Request, address: str) -> httpx2.Request:
    """The same request, for that address; the Host header and the certificate stay the name's."""
    extensions = dict(request.extensions)
    extensions.setdefault("sni_hostname", request.url.host)
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions=extensions,
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
