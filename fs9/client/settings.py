"""The settings of a client: one frozen value for the asynchronous and the synchronous one."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from fs9 import __version__
from fs9.errors import InvalidArgument
from fs9.resilience.backoff import BackoffPolicy

DEFAULT_URL = "http://127.0.0.1:9999"

#: Seconds an idle connection is kept: shorter than the server's keep-alive and than what
#: nginx and Envoy keep, so that the client, not the server, closes it.
_KEEP_ALIVE_S = 30.0
_CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """`timeout_s` is the longest silence of the server, not the length of a transfer.

    A path in the URL is the tenant: `http://host:9999/acme` is `http://host:9999` with
    namespace `acme`. `answer_bytes_max`: a longer answer that is to be read whole is an error; for
    servers that are not trusted.
    """

    url: str = DEFAULT_URL
    token: str | None = field(default=None, repr=False)
    namespace: str | None = None
    timeout_s: float = 35.0
    connections_max: int = 32
    retries: BackoffPolicy = field(default_factory=BackoffPolicy)
    answer_bytes_max: int | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
        except ValueError:  # half of an IPv6 address
            raise InvalidArgument(f"{self.url!r} is not a URL such as {DEFAULT_URL}") from None
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise InvalidArgument(f"{self.url!r} is not a URL such as {DEFAULT_URL}")
        if parts.query or parts.fragment:
            raise InvalidArgument(f"the server's URL has no query: {self.url!r}")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise InvalidArgument("the token has characters that no token has")

    @property
    def base_url(self) -> str:
        """Scheme and authority, without a slash at the end."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def tenant_path(self) -> str:
        """What comes before the API prefix: "" or "/name"."""
        if self.namespace is not None:
            return f"/{quote(self.namespace, safe='')}"
        return urlsplit(self.url).path.rstrip("/").removesuffix("/api/v1")

    def headers(self) -> dict[str, str]:
        """Of every request. No encodings: bytes of files travel as they are."""
        headers = {"user-agent": f"fs9-client/{__version__}", "accept-encoding": "identity"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        return headers

    def http_arguments(self) -> dict[str, Any]:
        """For the constructors of httpx2's two clients."""
        return {
            "timeout": httpx2.Timeout(
                self.timeout_s, connect=min(self.timeout_s, _CONNECT_TIMEOUT_S)
            ),
            "limits": httpx2.Limits(
                max_connections=self.connections_max,
                max_keepalive_connections=self.connections_max,
                keepalive_expiry=_KEEP_ALIVE_S,
            ),
            # Loading the certificates takes longer than a request; plain HTTP needs none.
            "verify": ssl.create_default_context() if self.url.startswith("https:") else False,
        }
