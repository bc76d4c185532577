"""proxyfs: what was read is kept for a while, and what comes next is asked for ahead."""

from __future__ import annotations

import asyncio
from typing import Any

from fs9.clock import ManualClock
from fs9.limits import KIB, MIB
from fs9.providers.proxyfs_cache import BLOCK_BYTES, BlockCache, Version
from fs9.types import (
    READ,
    OpenFlags,
)
from tests.fix_http import Server, start_server
from tests.fix_proxy import Wire, make_proxy
from tests.providers.fix_proxyfs import put, scripted, upstream, wire

__all__ = ["start_server", "upstream", "wire"]


async def test_what_was_read_is_not_fetched_again(upstream: Server, wire: Wire):
    clock = ManualClock()
    proxy = await make_proxy(upstream, transport=wire, clock=clock)
    content = bytes(i * 7 % 251 for i in range(3 * BLOCK_BYTES + 100))
    await put(proxy, "/f", content)
    wire.requests.clear()
    for _ in range(3):
        file, _ = await proxy.open("/f", READ)
        for offset, size in (
            (0, 10),
            (BLOCK_BYTES - 5, 10),
            (5, 3 * BLOCK_BYTES),
            (len(content), 5),
        ):
            assert bytes(await proxy.read(file, offset, size)) == content[offset : offset + size]
        await proxy.close(file)
    assert wire.names().count("download") == 3  # the first block, the second, the others
    assert "read" not in wire.names()


async def test_an_upstream_that_sends_no_versions_is_asked_once():
    """Older ones have etags in infos and none in downloads: there is nothing to cache."""
    info = {"path": "/f", "size": 3, "file_type": "regular", "mode": 0o644, "uid": 0, "gid": 0}
    times = {"atime": 1, "mtime": 1, "ctime": 1}
    asked: list[str] = []

    def answer(path: str) -> tuple[int, Any]:
        asked.append(path.rpartition("/")[2])
        if path.endswith("open"):
            return 200, {"handle_id": "1", "metadata": {**info, **times, "etag": "e1"}}
        return 200, 123

    proxy = await scripted(answer)
    asked.clear()
    for _ in range(2):
        file, _ = await proxy.open("/f", READ)
        assert bytes(await proxy.read(file, 0, 3)) == b"123"
    assert asked == ["open", "download", "read", "open", "read"]


async def test_a_change_is_seen_as_late_as_documented(upstream: Server, wire: Wire):
    """One made here at once, one made elsewhere after `cache_fresh_s`."""
    clock = ManualClock()
    proxy = await make_proxy(upstream, transport=wire, clock=clock, cache_fresh_s=5)
    await put(proxy, "/f", b"one")
    reader, _ = await proxy.open("/f", READ)
    assert bytes(await proxy.read(reader, 0, 9)) == b"one"
    writer, _ = await proxy.open("/f", OpenFlags(write=True))
    await proxy.write(writer, 0, b"two")
    assert bytes(await proxy.read(reader, 0, 9)) == b"two"
    reader, _ = await proxy.open("/f", READ)
    assert bytes(await proxy.read(reader, 0, 9)) == b"two"
    elsewhere = await make_proxy(upstream, tenant=proxy.tenant)  # type: ignore[attr-defined]
    other, _ = await elsewhere.open("/f", OpenFlags(write=True))
    await elsewhere.write(other, 0, b"six")
    assert bytes(await proxy.read(reader, 0, 9)) == b"two"
    clock.advance(5)
    assert bytes(await proxy.read(reader, 0, 9)) == b"six"
    wire.requests.clear()
    assert bytes(await proxy.read(reader, 0, 9)) == b"six"
    assert wire.names() == ["read"]


async def test_the_next_piece_is_asked_for_while_one_is_used(upstream: Server, wire: Wire):
    """From the start of a file on, as far as it goes; what cannot be used is asked for again."""
    clock = ManualClock()
    proxy = await make_proxy(upstream, transport=wire, clock=clock, cache_bytes=0)
    content = bytes(range(256)) * 4 * KIB
    await put(proxy, "/f", content)

    async def read(offset: int, size: int, calls: int) -> None:
        """One read, and how many calls there have been since the last."""
        assert bytes(await proxy.read(file, offset, size)) == content[offset : offset + size]
        for _ in range(50):
            await asyncio.sleep(0)  # the next call, if there is one, has begun
        assert wire.names().count("read") == calls
        wire.requests.clear()

    piece = 300 * KIB
    file, _ = await proxy.open("/f", READ)
    await read(0, piece, 2)
    await read(piece, piece, 1)
    await read(2 * piece, piece, 1)
    await read(3 * piece, MIB - 3 * piece, 0)
    await proxy.close(file)

    file, _ = await proxy.open("/f", READ)
    await read(0, 1000, 1)  # small
    await read(1000, piece, 2)
    await read(500_000, piece, 1)  # somewhere else
    await read(500_000 + piece, 1000, 1)
    await proxy.close(file)

    file, _ = await proxy.open("/f", READ)
    await read(0, piece, 2)
    writer, _ = await proxy.open("/f", OpenFlags(write=True))
    await proxy.write(writer, piece, b"new")
    content = content[:piece] + b"new" + content[piece + 3 :]
    await read(piece, piece, 1)
    await read(2 * piece, piece, 1)  # nothing ahead any more
    await proxy.close(file)

    file, _ = await proxy.open("/f", READ)
    await read(0, piece, 2)
    clock.advance(2)
    await read(piece, piece, 1)
    await proxy.close(file)


def test_the_cache_is_bounded():
    """The least recently used blocks go, and no file takes more than its share."""
    cache = BlockCache(10 * BLOCK_BYTES)
    assert cache.takes(2 * BLOCK_BYTES)
    assert not cache.takes(3 * BLOCK_BYTES)
    versions = [Version(f"/{number}", "e", BLOCK_BYTES) for number in range(40)]
    for version in versions:
        cache.put(version, 0, b"x" * BLOCK_BYTES)
        cache.get(versions[0], 0)
        assert cache.used_bytes <= 10 * BLOCK_BYTES
    assert cache.get(versions[0], 0) is not None
    assert cache.get(versions[1], 0) is None
    assert cache.get(Version("/39", "other", BLOCK_BYTES), 0) is None
