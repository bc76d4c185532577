"""Whole files: download and upload. Each uses an open file of its own, without a handle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.errors import (
    InvalidArgument,
    IsDirectory,
    PayloadTooLarge,
    PreconditionFailed,
    RangeNotSatisfiable,
)
from fs9.http.decode import attached, check_complete, check_length, condition_of, whole_body
from fs9.http.exchange import Reply
from fs9.http.failures import reply_to_error
from fs9.http.media import content_type
from fs9.http.stream import Pieces
from fs9.path import split
from fs9.types import READ, REPLACE, Capability, OpenFlags
from fs9.wire.codec import encode
from fs9.wire.conditions import Outcome, evaluate, http_date, quote, range_still_valid
from fs9.wire.messages import OFFSET_MAX, UploadReply
from fs9.wire.query import required
from fs9.wire.ranges import ByteRange, parse_range

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange, Lend
    from fs9.types import Buffer, FileInfo
    from fs9.vfs.handles import File
    from fs9.vfs.session import Session

Headers = tuple[tuple[str, str], ...]

_SETTLED_NS = 3 * 10**9
_CONDITIONS = frozenset(
    ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range")
)

#: For a provider without versions to swap: the old content goes first.
_OVERWRITE = OpenFlags(write=True, create=True, truncate=True)

# A stored page opened in a browser must not act as a page of this server.
_INERT: Headers = (
    ("content-security-policy", "sandbox"),
    ("x-content-type-options", "nosniff"),
)


async def download(x: Exchange) -> Reply:
    path = required(x.query, "path")
    session = x.session or await attached(x)
    file = await session.open_file(path, READ)
    try:
        reply = await _download(x, session, file)
    except BaseException:
        await session.discard_file(file)
        raise
    if reply.stream is None:
        await session.discard_file(file)
    return reply


async def _download(x: Exchange, session: Session, file: File) -> Reply:
    info = file.info
    if info.is_dir:
        raise IsDirectory(info.path)
    outcome = evaluate(x.headers, info.etag, info.mtime_ns)
    version = _version_headers(info)
    if outcome is Outcome.NOT_MODIFIED:
        return Reply(304, content_type=None, headers=version)
    if outcome is Outcome.FAILED:
        return reply_to_error(PreconditionFailed(info.path), headers=version)
    if file.message_like or info.size == 0:
        return await _send_until_end(x, session, file, version)
    headers = (*version, ("accept-ranges", "bytes"), *_INERT)
    # RFC 9110, section 14.2: Range is defined for GET alone.
    wanted = x.headers.get("range") if x.method == "GET" else None
    if wanted is not None and not range_still_valid(x.headers, info.etag, info.mtime_ns):
        wanted = None
    try:
        part = parse_range(wanted, info.size)
    except RangeNotSatisfiable as error:
        return reply_to_error(error, headers=(*version, ("accept-ranges", "bytes")))
    if x.lend is not None and _may_lend(x, info, part):
        reply = await _lent(x.lend, file, (*version, *_INERT))
        if reply is not None:
            return reply
    if part is None:
        return await _send(x, session, file, ByteRange(0, info.size), 200, headers)
    headers = (("content-range", part.content_range(info.size)), *headers)
    return await _send(x, session, file, part, 206, headers)


def _may_lend(x: Exchange, info: FileInfo, part: ByteRange | None) -> bool:
    """May the proxy send the file itself? Never for a conditional request, which is decided here.

    Nor a file that has just changed: if it changed again before the proxy opens it, the time of its
    modification, which proxies know in whole seconds, would be the same.
    """
    length = info.size if part is None else part.length
    settled_ns = x.context.services.clock.now_ns() - _SETTLED_NS
    return (
        x.method == "GET"
        and length >= x.context.limits.lent_bytes_min
        and 0 < info.mtime_ns < settled_ns
        and (part is not None) == ("range" in x.headers)
        and x.headers.keys().isdisjoint(_CONDITIONS)
    )


async def _lent(lend: Lend, file: File, headers: Headers) -> Reply | None:
    """The answer without a body, which the proxy adds; it also handles `Range`."""
    plain = file.open_file.plain
    if plain is None:
        return None
    with plain as fd:
        place = await lend(fd)
    if place is None:
        return None
    size = ("x-fs9-size", str(file.info.size))
    headers = (*headers, size, ("x-accel-redirect", place))
    return Reply(200, b"", content_type(split(file.info.path)[1]), headers)


def _version_headers(info: FileInfo) -> Headers:
    etag = quote(info.etag)
    modified = ("last-modified", http_date(info.mtime_ns))
    return (modified,) if etag is None else (("etag", etag), modified)


async def _send(
    x: Exchange, session: Session, file: File, part: ByteRange, status: int, headers: Headers
) -> Reply:
    """An answer with exactly the bytes of `part`."""
    media_type = content_type(split(file.info.path)[1])
    pieces = _pieces(x, session, file, part, exact=True)
    if x.method == "HEAD":  # nothing is read: the driver closes the stream
        return Reply(status, b"", media_type, headers, stream=pieces, length=part.length)
    first = await pieces.prefetch()
    if pieces.at_end:
        return Reply(status, first, media_type, headers)
    return Reply(status, b"", media_type, headers, stream=pieces, length=part.length)


async def _send_until_end(x: Exchange, session: Session, file: File, headers: Headers) -> Reply:
    """An answer that reads to the end: the file has no size, or its content is made when read."""
    media_type = content_type(split(file.info.path)[1])
    pieces = _pieces(x, session, file, ByteRange(0, OFFSET_MAX), exact=False)
    first = await pieces.prefetch()
    if pieces.at_end:
        headers = (*headers, ("accept-ranges", "bytes"), *_INERT)
        return Reply(200, first, media_type, headers)
    return Reply(200, b"", media_type, (*headers, *_INERT), stream=pieces)


def _pieces(x: Exchange, session: Session, file: File, part: ByteRange, *, exact: bool) -> Pieces:
    async def read(offset: int, size: int) -> Buffer:
        return await session.read_file(file, offset, size)

    async def close() -> None:
        await session.discard_file(file)

    return Pieces(
        read,
        part.start,
        part.length,
        x.context.limits.read_piece_bytes,
        exact=exact,
        close=close,
    )


async def upload(x: Exchange) -> Reply:
    path = required(x.query, "path")
    session = x.session or await attached(x)
    if "content-range" in x.headers:
        # The rest of a file, to be added to what came before (RFC 9110, section 14.5).
        raise InvalidArgument("Content-Range: an upload is a whole file; parts go to write")
    check_length(x.body, x.context.limits.write_body_bytes_max)
    condition = await condition_of(x, session, path)
    supported, _ = session.capabilities(path)
    flags = REPLACE if Capability.ATOMIC_RENAME in supported else _OVERWRITE
    # Of a message all must be here before its topic is made, as opening does.
    message = await _message(x) if Capability.STREAMING in supported else None
    file = await session.open_file(path, flags, condition)
    try:
        if message is None:
            written = await _write_pieces(x, session, file)
        else:
            written = await session.write_file(file, 0, message) if message else 0
    except BaseException:
        # Also when the client left or the request was cancelled: the old file stays.
        await session.discard_file(file)
        raise
    info = await session.commit_file(file)
    etag = None if info is None else quote(info.etag)
    headers: Headers = () if etag is None else (("etag", etag),)
    return Reply(200, encode(UploadReply(path, written)), headers=headers)


async def _message(x: Exchange) -> Buffer:
    limits = x.context.limits
    return await whole_body(x.body, min(limits.write_body_bytes_max, limits.message_bytes_max))


async def _write_pieces(x: Exchange, session: Session, file: File) -> int:
    bytes_max = x.context.limits.write_body_bytes_max
    written = 0
    while piece := await x.body.read():
        if written + len(piece) > bytes_max:
            raise PayloadTooLarge(f"at most {bytes_max} bytes")
        written += await session.write_file(file, written, piece)
    check_complete(x.body, written)
    return written
