"""From an exchange to the arguments of a call: query fields, JSON bodies, conditions, session.

Order within an operation, as the contract has it: query, body, then `attached`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from fs9.errors import MalformedRequest, NotFound, PayloadTooLarge
from fs9.types import Condition
from fs9.wire.codec import check_json_type, decode_body
from fs9.wire.conditions import condition_from_headers, parse_http_date
from fs9.wire.route import JSON

if TYPE_CHECKING:
    import msgspec

    from fs9.http.exchange import Body, Exchange
    from fs9.types import Buffer
    from fs9.vfs.session import Session

T = TypeVar("T")


async def attached(x: Exchange) -> Session:
    """Attach to the namespace that was not in memory when the request came."""
    assert x.principal is not None
    x.session = await x.context.gate.enter(x.principal)
    return x.session


async def json_body(x: Exchange, decoder: msgspec.json.Decoder[T]) -> T:
    """The JSON body. Raises UnsupportedMediaType, PayloadTooLarge and what decoding raises."""
    media_type = x.headers.get("content-type")
    if media_type != JSON:
        check_json_type(media_type)
    body = await whole_body(x.body, x.context.limits.json_body_bytes_max)
    request = decode_body(decoder, body)
    x.request = request
    return request


async def whole_body(body: Body, bytes_max: int) -> Buffer:
    """All of a body. Raises PayloadTooLarge before reading more than `bytes_max`."""
    check_length(body, bytes_max)
    piece = await body.read()
    if len(piece) == body.length:
        return piece
    whole = bytearray()
    while piece:
        whole += piece
        if len(whole) > bytes_max:
            raise PayloadTooLarge(f"at most {bytes_max} bytes")
        piece = await body.read()
    check_complete(body, len(whole))
    return whole


def check_length(body: Body, bytes_max: int) -> None:
    """Refuse a body that announces more than is allowed, before a byte of it is read."""
    if body.length is not None and body.length > bytes_max:
        raise PayloadTooLarge(f"at most {bytes_max} bytes")


def check_complete(body: Body, received: int) -> None:
    """Refuse a body that is shorter than announced, which no driver should deliver."""
    if body.length is not None and received != body.length:
        raise MalformedRequest("the body ended early")


async def condition_of(x: Exchange, session: Session, path: str) -> Condition:
    """The precondition of a change to `path`. Raises InvalidArgument and what stat raises.

    A date (`If-Unmodified-Since`) is turned into the version that is current and old enough,
    so that the check and the change are still one step.
    """
    condition = condition_from_headers(x.headers)
    if condition.if_match is None and "if-unmodified-since" in x.headers:
        since_s = parse_http_date(x.headers["if-unmodified-since"])
        if since_s is not None:
            return await _unmodified(since_s, session, path, condition)
    return condition


async def _unmodified(since_s: int, session: Session, path: str, condition: Condition) -> Condition:
    try:
        info = await session.stat(path)
    except NotFound:
        return condition  # what does not exist has no date to compare with
    if info.mtime_ns // 1_000_000_000 > since_s:
        # A version that is never current: the change is refused as any other stale one.
        return Condition(if_match=(), if_none_match=condition.if_none_match)
    return Condition(if_match=(info.etag,), if_none_match=condition.if_none_match)
