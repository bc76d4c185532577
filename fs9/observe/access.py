"""The access log: one structured line for each request, on the logger `fs9.access`."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

log = logging.getLogger("fs9.access")

_SECRET = re.compile(rb"token|secret|password|passwd|signature|authorization|api_?key|jwt", re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One request and its answer.

    `route` is the template of the path; `path` and `query` are as they came, not decoded.
    `seconds` counts from the end of the head to the end of the answer. `client` is an
    address, or `unix`.
    """

    method: str
    route: str
    path: bytes
    query: bytes
    status: int
    seconds: float
    received_bytes: int
    sent_bytes: int
    request_id: bytes
    namespace: str | None = None
    user: str | None = None
    client: str = ""
    trace_id: str = ""


def write(access: Access) -> None:
    """Log the line; what is not known, and the values of secrets in the query, are left out."""
    fields: dict[str, object] = {
        "method": access.method,
        "route": access.route,
        "path": access.path.decode("latin-1"),
        "status": access.status,
        "duration_ms": round(access.seconds * 1000, 3),
        "received_bytes": access.received_bytes,
        "sent_bytes": access.sent_bytes,
        "request_id": access.request_id.decode("latin-1"),
    }
    if access.query:
        fields["query"] = redacted(access.query).decode("latin-1")
    known = {
        "namespace": access.namespace,
        "user": access.user,
        "client": access.client,
        "trace_id": access.trace_id,
    }
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
