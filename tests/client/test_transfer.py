"""Whole files: broken bodies are continued, uploads repeated, nothing short looks complete."""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from fs9.client import AsyncClient, Client, ConnectionLost, TruncatedBody
from fs9.client.localfiles import PART_BYTES_MIN, PART_PREFIX
from fs9.errors import (
    Conflict,
    IsDirectory,
    PayloadTooLarge,
    PreconditionFailed,
    RangeNotSatisfiable,
)
from fs9.resilience.backoff import NEVER
from tests.client.fake_server import CUT, QUICK, FakeServer, Reply, answer, info, problem, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

DATA = bytes(range(256)) * 10


def cut_at(count: int, etag: str = "v1") -> Reply:
    return answer(body=DATA[:count], length=len(DATA), etag=f'"{etag}"', cut=True)


def rest_from(offset: int, etag: str = "v1", data: bytes = DATA) -> Reply:
    where = f"bytes {offset}-{len(data) - 1}/{len(data)}"
    return answer(206, data[offset:], etag=f'"{etag}"', content_range=where)


def parts_in(path: Path) -> list[str]:
    return [name for name in os.listdir(path) if name.startswith(PART_PREFIX)]


def test_a_broken_download_is_continued() -> None:
    """The rest is asked for by Range and If-Range, and the bytes join."""
    with FakeServer([cut_at(1000), rest_from(1000)]) as server:
        with Client(server.url, retries=QUICK) as client:
            assert client.read_file("/f") == DATA
        again = server.seen[1].headers
    assert (again["range"], again["if-range"]) == (f"bytes=1000-{len(DATA) - 1}", '"v1"')


async def test_a_broken_download_is_continued_asynchronously() -> None:
    with FakeServer([cut_at(1000), rest_from(1000)]) as server:
        async with AsyncClient(server.url, retries=QUICK) as client:
            assert await client.read_file("/f") == DATA


def test_a_broken_download_of_a_changed_file_is_an_error() -> None:
    """Bytes of two versions are never joined."""
    changed = answer(body=DATA, etag='"v2"')
    with serving(cut_at(1000), changed) as (_, client), pytest.raises(Conflict):
        client.read_file("/f")


def test_a_broken_download_without_etag_is_an_error() -> None:
    short = answer(body=DATA[:9], length=len(DATA), cut=True)
    with FakeServer([short]) as server, Client(server.url, retries=QUICK) as client:
        with pytest.raises(TruncatedBody):
            client.read_file("/f")
        assert len(server.seen) == 1


def test_a_chunked_body_without_its_end_is_an_error() -> None:
    raw = b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
    with serving(Reply(raw, cut=True)) as (_, client), pytest.raises(TruncatedBody):
        client.read_file("/f")


def test_an_upload_of_bytes_is_repeated() -> None:
    done = answer(body=b'{"path":"/f","bytes_written":%d}' % len(DATA))
    with FakeServer([CUT, done]) as server, Client(server.url, retries=QUICK) as client:
        client.upload("/f", DATA)
        assert [seen.body for seen in server.seen] == [DATA, DATA]


def test_an_upload_of_a_file_is_repeated_from_where_it_stood() -> None:
    file = io.BytesIO(b"skip" + DATA)
    file.seek(4)
    done = answer(body=b'{"path":"/f","bytes_written":%d}' % len(DATA))
    with FakeServer([CUT, done]) as server, Client(server.url, retries=QUICK) as client:
        client.upload("/f", file)
        assert [seen.body for seen in server.seen] == [DATA, DATA]


def test_an_upload_of_an_iterator_is_not_repeated() -> None:
    """Its bytes are gone."""
    with FakeServer([CUT]) as server, Client(server.url, retries=QUICK) as client:
        with pytest.raises(ConnectionLost):
            client.upload("/f", iter([b"a", b"b"]))
        assert len(server.seen) == 1


def test_an_upload_with_a_precondition_is_not_repeated() -> None:
    """After a first success the second would be refused."""
    with FakeServer([CUT]) as server, Client(server.url, retries=QUICK) as client:
        with pytest.raises(ConnectionLost):
            client.upload("/f", b"a", create_only=True)
        assert len(server.seen) == 1


def test_a_source_that_ends_early_leaves_the_old_file(client: Client) -> None:
    """An error in the source, or too few bytes, breaks the upload off."""
    client.write_file("/f", b"old")

    def broken() -> Iterator[bytes]:
        yield b"new"
        raise LookupError

    with pytest.raises(LookupError):
        client.upload("/f", broken())
    with pytest.raises(Conflict, match="shorter"):
        client.upload("/f", iter([b"new"]), length=10)
    assert client.read_file("/f") == b"old"


def test_upload_and_download_report_progress(client: Client) -> None:
    seen: list[tuple[int, int | None]] = []
    data = os.urandom(3_000_000)
    client.upload("/f", data, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(data), len(data))
    assert len(seen) == 3
    seen.clear()
    stream = client.download_stream("/f", progress=lambda done, total: seen.append((done, total)))
    assert b"".join(stream) == data
    assert seen[-1] == (len(data), len(data))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


async def test_async_sources(aclient: AsyncClient) -> None:
    """Asynchronous iterators, iterators, files and bytes all arrive."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"c"

    for content in (pieces(), iter([b"ab", b"c"]), io.BytesIO(b"abc"), bytearray(b"abc")):
        uploaded = await aclient.upload("/f", content)
        assert uploaded.bytes_written == 3
        assert await aclient.read_file("/f") == b"abc"
        assert uploaded.etag == (await aclient.stat("/f")).etag


def test_ranges(client: Client) -> None:
    client.write_file("/f", DATA)
    assert client.download("/f", 10, 5) == DATA[10:15]
    assert client.download("/f", 2000) == DATA[2000:]
    assert client.download("/f", -7) == DATA[-7:]
    assert client.download("/f", 2550, 100) == DATA[2550:]
    with pytest.raises(RangeNotSatisfiable):
        client.download("/f", len(DATA))


def test_conditions(client: Client) -> None:
    """Reads and writes for one version only."""
    etag = client.upload("/f", b"one").etag
    assert client.read_if_changed("/f", etag) is None
    assert client.read_if_changed("/f", "other") == b"one"
    assert client.read_file("/f", if_match=etag) == b"one"
    client.write_file("/f", b"two", if_match=etag)
    with pytest.raises(PreconditionFailed):
        client.write_file("/f", b"three", if_match=etag)
    with pytest.raises(PreconditionFailed):
        client.write_file("/f", b"three", create_only=True)
    with pytest.raises(PreconditionFailed):
        client.read_file("/f", if_match=etag)
    assert client.read_file("/f") == b"two"


# -- Files that are too large for one request. ----------------------------------------------


def test_a_file_that_is_too_large_for_one_request_is_staged(client: Client) -> None:
    """Written in pieces beside the old file, then renamed over it; nothing else is left."""
    data = os.urandom(20_000_000)
    client.write_file("/f", b"old")
    client.chmod("/f", 0o640)
    etag = client.stat("/f").etag
    uploaded = client.upload_staged("/f", data)
    info = client.stat("/f")
    assert (uploaded.bytes_written, uploaded.etag) == (len(data), info.etag)
    assert info.etag != etag
    assert info.mode == 0o640
    assert client.read_file("/f") == data
    assert client.listdir("/") == ["f", "hello", "local"]


def test_a_staged_upload_that_fails_leaves_the_old_file(client: Client) -> None:
    client.write_file("/f", b"old")

    def broken() -> Iterator[bytes]:
        yield bytes(9_000_000)
        raise LookupError

    with pytest.raises(LookupError):
        client.upload_staged("/f", broken())
    assert client.read_file("/f") == b"old"
    assert client.listdir("/") == ["f", "hello", "local"]
    with pytest.raises(IsDirectory):
        client.upload_staged("/local", b"x")


def test_upload_turns_to_staging_when_refused_for_size() -> None:
    """The server's limit is not ours to know: it says 413, and we go the other way."""
    refused = problem(413, "PayloadTooLarge")
    opened = answer(body=b'{"handle_id":"7","metadata":%s}' % info("/p"))
    written = answer(body=b'{"bytes_written":3}')
    missing = problem(404, "NotFound")
    found = answer(body=info("/f", 3, etag="new"))
    done = answer(204)
    replies = (refused, missing, opened, written, done, done, found)
    with serving(*replies) as (server, client):
        assert client.upload("/f", b"abc").etag == "new"
        paths = [seen.target.partition("?")[0].rpartition("/")[2] for seen in server.seen]
    assert paths == ["upload", "stat", "open", "write", "close", "wstat", "stat"]


@pytest.mark.parametrize("condition", [{"create_only": True}, {"if_match": "e"}])
def test_a_conditional_upload_is_not_staged(condition: dict[str, Any]) -> None:
    """The rename at its end could not keep the condition."""
    with serving(problem(413, "PayloadTooLarge")) as (server, client):
        with pytest.raises(PayloadTooLarge):
            client.upload("/f", b"abc", **condition)
        assert len(server.seen) == 1


# -- To files of this host. -----------------------------------------------------------------


def test_download_to_a_file(client: Client, tmp_path: Path) -> None:
    """Content, time and mode arrive; nothing else is left in the directory."""
    client.write_file("/f", DATA)
    client.utime("/f", mtime_s=1_600_000_000)
    target = tmp_path / "f"
    assert client.download_to("/f", target, mode=0o640) == len(DATA)
    assert target.read_bytes() == DATA
    assert (target.stat().st_mtime, stat.S_IMODE(target.stat().st_mode)) == (1_600_000_000, 0o640)
    assert os.listdir(tmp_path) == ["f"]


def test_download_to_a_file_object(client: Client) -> None:
    client.write_file("/f", DATA)
    file = io.BytesIO()
    assert client.download_to("/f", file) == len(DATA)
    assert file.getvalue() == DATA


def test_an_interrupted_download_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "f"
    target.write_bytes(b"old")
    with serving(cut_at(1000), retries=NEVER) as (_, client), pytest.raises(TruncatedBody):
        client.download_to("/f", target)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]  # a small part is not worth keeping


def test_a_large_part_is_continued_by_the_next_run(tmp_path: Path) -> None:
    """The second run asks for the rest only."""
    data = os.urandom(2 * PART_BYTES_MIN)
    half = PART_BYTES_MIN + 7
    broken = answer(body=data[:half], length=len(data), etag='"v1"', cut=True)
    target = tmp_path / "f"
    with serving(broken, retries=NEVER) as (_, client), pytest.raises(TruncatedBody):
        client.download_to("/f", target)
    (part,) = parts_in(tmp_path)
    have = (tmp_path / part).stat().st_size
    assert PART_BYTES_MIN <= have <= half
    with FakeServer([rest_from(have, data=data)]) as server, Client(server.url) as client:
        assert client.download_to("/f", target) == len(data)
        assert server.seen[0].headers["range"] == f"bytes={have}-"
        assert server.seen[0].headers["if-range"] == '"v1"'
    assert target.read_bytes() == data
    assert os.listdir(tmp_path) == ["f"]


def test_a_part_of_another_version_is_thrown_away(tmp_path: Path) -> None:
    data = os.urandom(2 * PART_BYTES_MIN)
    broken = answer(body=data[:-1], length=len(data), etag='"v1"', cut=True)
    target = tmp_path / "f"
    with serving(broken, retries=NEVER) as (_, client), pytest.raises(TruncatedBody):
        client.download_to("/f", target)
    assert parts_in(tmp_path)
    with FakeServer([answer(body=DATA, etag='"v2"')]) as server, Client(server.url) as client:
        client.download_to("/f", target)
    assert target.read_bytes() == DATA
    assert os.listdir(tmp_path) == ["f"]


def test_a_complete_part_is_fetched_again(tmp_path: Path) -> None:
    """A run that ended between the last byte and the rename: 416 means start again."""
    data = os.urandom(PART_BYTES_MIN)
    broken = answer(body=data, length=len(data) + 1, etag='"v1"', cut=True)
    target = tmp_path / "f"
    with serving(broken, retries=NEVER) as (_, client), pytest.raises(TruncatedBody):
        client.download_to("/f", target)
    refused = problem(416, "RangeNotSatisfiable", str(len(data)))
    whole = answer(body=data, etag='"v1"')
    with FakeServer([refused, whole]) as server, Client(server.url) as client:
        client.download_to("/f", target)
    assert target.read_bytes() == data
    assert os.listdir(tmp_path) == ["f"]


def test_a_device_is_written_to_not_replaced(client: Client, tmp_path: Path) -> None:
    """`get /f /dev/null` must not replace /dev/null."""
    client.write_file("/f", DATA)
    link = tmp_path / "null"
    link.symlink_to(os.devnull)
    client.download_to("/f", link)
    assert link.is_symlink()
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_copy(client: Client) -> None:
    """Content, mode and time are kept; a link is copied as a link."""
    client.write_file("/f", DATA)
    client.chmod("/f", 0o755)
    client.utime("/f", mtime_s=1_600_000_000)
    client.symlink("/l", "f")
    client.copy("/f", "/g")
    client.copy("/l", "/m")
    info = client.stat("/g")
    assert client.read_file("/g") == DATA
    assert (info.mode & 0o777, info.mtime_ns) == (0o755, 1_600_000_000 * 10**9)
    assert client.stat("/m").symlink_target == "f"
