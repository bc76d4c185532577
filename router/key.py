"""The routing key of a request: the name of the namespace it is about. Pure.

Defined here and nowhere else. With authentication on, it is the token's `ns` claim, read but
not trusted: the owner verifies the token. With authentication off it is the tenant prefix of
the path, else `default`. None means that the request is about no namespace and is answered
where it arrives. It is never the Authorization header itself: two tokens of one tenant must
meet in one process.
"""

from __future__ import annotations

import base64
import binascii
import json

DEFAULT_NAMESPACE = "default"
API = b"/api/v1/"
_BEARER = b"Bearer "


def split_tenant(path: bytes) -> tuple[str | None, bytes]:
    """(tenant or None, path from `/api/v1/` on); the path unchanged when it is no API path.

    >>> split_tenant(b"/acme/api/v1/stat")
    ('acme', b'/api/v1/stat')
    """
    if path.startswith(API):
        return None, path
    cut = path.find(b"/", 1)
    if cut > 1 and path.startswith(API, cut):
        return path[1:cut].decode("ascii"), path[cut:]
    return None, path


def token_namespace(authorization: bytes | None) -> str | None:
    """The `ns` claim of a bearer JWT, not verified; None when none can be read."""
    if authorization is None or not authorization.startswith(_BEARER):
        return None
    parts = authorization[len(_BEARER) :].split(b".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    namespace = claims.get("ns") if isinstance(claims, dict) else None
    return namespace if isinstance(namespace, str) else None


def routing_key(
    path: bytes, tenant: str | None, claimed_namespace: str | None, *, auth: bool
) -> str | None:
    """The namespace of a request.

    `path` and `tenant` as `split_tenant` gives them, `claimed_namespace` as `token_namespace`.
    """
    if not path.startswith(API):
        return None
    return claimed_namespace if auth else tenant or DEFAULT_NAMESPACE
