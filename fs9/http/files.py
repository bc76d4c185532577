"""Operations on paths: stat, wstat, statfs, readdir, remove, capabilities, mounts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from fs9.http.decode import attached, condition_of, json_body
from fs9.http.exchange import Reply
from fs9.path import split
from fs9.wire.codec import (
    capability_names,
    changes_from_wire,
    encode,
    encode_info,
    encode_infos,
    encode_statfs,
)
from fs9.wire.cursor import decode_cursor, encode_cursor
from fs9.wire.messages import CapabilitiesReply, MountReply, WstatRequest
from fs9.wire.query import number, required
from fs9.wire.route import NEXT_CURSOR, PAGE_ENTRIES_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fs9.http.exchange import Exchange
    from fs9.types import FileInfo

#: Entries encoded without a pause: about a millisecond.
_ENTRIES_AT_ONCE = 1000

NO_CONTENT = Reply(204, content_type=None)

_wstat_body = msgspec.json.Decoder(WstatRequest)


async def stat(x: Exchange) -> Reply:
    path = required(x.query, "path")
    session = x.session or await attached(x)
    return Reply(200, encode_info(await session.stat(path)))


async def wstat(x: Exchange) -> Reply:
    request = await json_body(x, _wstat_body)
    changes = changes_from_wire(request.changes)
    session = x.session or await attached(x)
    condition = await condition_of(x, session, request.path)
    await session.wstat(request.path, changes, condition)
    return NO_CONTENT


async def statfs(x: Exchange) -> Reply:
    path = required(x.query, "path")
    session = x.session or await attached(x)
    return Reply(200, encode_statfs(await session.statfs(path)))


async def readdir(x: Exchange) -> Reply:
    path = required(x.query, "path")
    if "limit" in x.query or "cursor" in x.query:
        return await _page(x, path)
    session = x.session or await attached(x)
    return Reply(200, await _listing(await session.readdir(path)))


async def _listing(infos: list[FileInfo]) -> bytes:
    """The JSON array of `infos`. Between the parts of a long one other requests are answered."""
    if len(infos) <= _ENTRIES_AT_ONCE:
        return encode_infos(infos)
    parts = []
    for start in range(0, len(infos), _ENTRIES_AT_ONCE):
        parts.append(encode_infos(infos[start : start + _ENTRIES_AT_ONCE])[1:-1])
        await asyncio.sleep(0)
    return b"[" + b",".join(parts) + b"]"


async def _page(x: Exchange, path: str) -> Reply:
    after, limit = _page_bounds(x.query)
    session = x.session or await attached(x)
    # One more than asked for tells whether there is a next page.
    entries = await session.readdir(path, after=after, limit=limit + 1)
    if len(entries) <= limit:
        return Reply(200, await _listing(entries))
    del entries[limit:]
    cursor = encode_cursor(split(entries[-1].path)[1])
    query = urlencode({"path": path, "limit": limit, "cursor": cursor})
    headers = ((NEXT_CURSOR, cursor), ("link", f'<readdir?{query}>; rel="next"'))
    return Reply(200, await _listing(entries), headers=headers)


def _page_bounds(query: Mapping[str, str]) -> tuple[str, int]:
    limit = query.get("limit")
    cursor = query.get("cursor")
    return (
        "" if cursor is None else decode_cursor(cursor),
        PAGE_ENTRIES_MAX
        if limit is None
        else number(limit, "limit", at_least=1, at_most=PAGE_ENTRIES_MAX),
    )


async def remove(x: Exchange) -> Reply:
    path = required(x.query, "path")
    session = x.session or await attached(x)
    await session.remove(path, await condition_of(x, session, path))
    return NO_CONTENT


async def capabilities(x: Exchange) -> Reply:
    path = required(x.query, "path")
    session = x.session or await attached(x)
    found, provider = session.capabilities(path)
    return Reply(200, encode(CapabilitiesReply(capability_names(found), provider)))


async def mounts(x: Exchange) -> Reply:
    session = x.session or await attached(x)
    return Reply(200, encode([MountReply(path, name) for path, name in session.mounts()]))
