"""The access log: one structured line for each request, on the logger `fs9.access`."""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote_to_bytes

log = logging.getLogger("fs9.access")

_SECRET = re.compile(rb"token|secret|password|passwd|signature|authorization|api_?key|jwt", re.I)


def write(
    *,
    method: str,
    route: str,
    path: bytes,
    query: bytes,
    status: int,
    seconds: float,
    received_bytes: int,
    sent_bytes: int,
    request_id: bytes,
    namespace: str | None,
    user: str | None,
    client: str = "",
    trace_id: str = "",
) -> None:
    """`route` is the template, `path` and `query` as they came, not decoded.

    `client` is an address, or `unix`.
    """
    fields: dict[str, object] = {
        "method": method,
        "route": route,
        "path": path.decode("latin-1"),
        "status": status,
        "duration_ms": round(seconds * 1000, 3),
        "received_bytes": received_bytes,
        "sent_bytes": sent_bytes,
        "request_id": request_id.decode("latin-1"),
    }
    if query:
        fields["query"] = redacted(query).decode("latin-1")
    known = {"namespace": namespace, "user": user, "client": client, "trace_id": trace_id}
    fields |= {name: value for name, value in known.items() if value}
    log.info("request", extra=fields)


def redacted(query: bytes) -> bytes:
    """The query without the values of fields that are named like a secret."""
    if _SECRET.search(unquote_to_bytes(query)) is None:
        return query
    return b"&".join(_redacted_field(field) for field in query.split(b"&"))


def _redacted_field(field: bytes) -> bytes:
    name, equals, _ = field.partition(b"=")
    return name + equals + b"***" if equals and _SECRET.search(unquote_to_bytes(name)) else field
