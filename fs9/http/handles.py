"""Operations on handles: open, read, write, close."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fs9.errors import PayloadTooLarge, QuotaExceeded
from fs9.http.decode import (
    attached,
    check_complete,
    check_length,
    condition_of,
    json_body,
    whole_body,
)
from fs9.http.exchange import BYTES, Reply
from fs9.http.files import NO_CONTENT
from fs9.http.stream import Pieces
from fs9.wire.codec import encode_open, flags_from_wire
from fs9.wire.messages import OFFSET_MAX, CloseRequest, OpenRequest, ReadRequest
from fs9.wire.query import number, required

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange
    from fs9.types import Buffer
    from fs9.vfs.handles import File
    from fs9.vfs.session import Session

_open_body = msgspec.json.Decoder(OpenRequest)
_read_body = msgspec.json.Decoder(ReadRequest)
_close_body = msgspec.json.Decoder(CloseRequest)


async def open_(x: Exchange) -> Reply:
    request = await json_body(x, _open_body)
    flags = flags_from_wire(request.flags)
    session = x.session or await attached(x)
    condition = await condition_of(x, session, request.path)
    handle_id, info = await session.open(request.path, flags, condition)
    return Reply(200, encode_open(handle_id, info))


async def read(x: Exchange) -> Reply:
    request = await json_body(x, _read_body)
    offset, size = min(request.offset, OFFSET_MAX), request.size  # no file is longer
    session = x.session or await attached(x)
    if size <= x.context.limits.read_whole_bytes_max:
        return Reply(200, await session.read(request.handle_id, offset, size), BYTES)
    file = await session.wake_file(request.handle_id)
    return await _read_streamed(x, session, file, offset, min(size, OFFSET_MAX - offset))


async def _read_streamed(x: Exchange, session: Session, file: File, start: int, size: int) -> Reply:
    file.hold()  # until the stream is closed: the namespace is not given up in between

    async def piece(offset: int, size: int) -> Buffer:
        return await session.read_file(file, offset, size)

    async def let_go() -> None:
        file.let_go()

    pieces = Pieces(piece, start, size, x.context.limits.read_piece_bytes, close=let_go)
    # Read before the status is sent, so that an error still has a status of its own.
    try:
        first = await pieces.prefetch()
    except BaseException:
        await pieces.aclose()
        raise
    if pieces.at_end:
        await pieces.aclose()
        return Reply(200, first, BYTES)
    return Reply(200, content_type=BYTES, stream=pieces)


async def close(x: Exchange) -> Reply:
    request = await json_body(x, _close_body)
    session = x.session or await attached(x)
    await session.close(request.handle_id, sync=request.sync)
    return NO_CONTENT


async def write(x: Exchange) -> Reply:
    handle_id = required(x.query, "handle_id")
    offset = number(required(x.query, "offset"), "offset")
    session = x.session or await attached(x)
    file = await session.wake_file(handle_id)
    if file.flags.append or file.message_like:
        offset = 0  # they go to the end, whatever it says
    elif offset > OFFSET_MAX:
        raise QuotaExceeded(f"a file has at most {OFFSET_MAX} bytes")
    # From the first piece to the last, so that it is not closed between two.
    file.hold()
    try:
        return _written(await _write_body(x, session, file, offset))
    finally:
        file.let_go()


async def _write_body(x: Exchange, session: Session, file: File, offset: int) -> int:
    bytes_max = x.context.limits.write_body_bytes_max
    if file.message_like:
        bytes_max = min(bytes_max, x.context.limits.message_bytes_max)
        return await session.write_whole(file, offset, await whole_body(x.body, bytes_max))
    check_length(x.body, bytes_max)
    piece = await x.body.read()
    if len(piece) == (x.body.length or 0):
        return await session.write_whole(file, offset, piece)
    if not file.flags.append:
        return await _write_pieces(x, session, file, offset, piece)
    async with session.append_lock(file):
        return await _write_pieces(x, session, file, offset, piece)


async def _write_pieces(
    x: Exchange, session: Session, file: File, start: int, piece: Buffer
) -> int:
    """Write the body as it arrives, each piece at the running offset; `piece` is the first."""
    bytes_max = x.context.limits.write_body_bytes_max
    written = 0
    while piece:
        if written + len(piece) > bytes_max:
            raise PayloadTooLarge(f"at most {bytes_max} bytes; {written} bytes were written")
        written += await session.write_file(file, start + written, piece)
        piece = await x.body.read()
    check_complete(x.body, written)
    return written


def _written(count: int) -> Reply:
    return Reply(200, b'{"bytes_written":%d}' % count)
