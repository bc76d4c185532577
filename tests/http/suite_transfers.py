"""Suite: download and upload, ranges and conditional requests."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.fix_http import StartServer, new_tenant
from tests.http.calls import get, mkdir, ok, open_, problem, put, stat, write
from tests.http.suite_handles import pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

THOUSAND = bytes(number % 251 for number in range(1000))
MIB = 1024 * 1024


async def test_upload_and_download_of_bytes_and_of_a_stream(api: httpx2.AsyncClient) -> None:
    content = bytes(range(256)) * 1000
    answer = await api.put("upload", params={"path": "/a"}, content=content)
    assert answer.content == b'{"path":"/a","bytes_written":256000}'
    assert (await get(api, "/a")).content == content
    parts = [content[at : at + 1000] for at in range(0, len(content), 1000)]
    answer = await api.put("upload", params={"path": "/b"}, content=pieces(*parts))
    assert answer.json() == {"path": "/b", "bytes_written": 256_000}
    assert (await get(api, "/b")).content == content


async def test_a_large_file_round_trips(api: httpx2.AsyncClient) -> None:
    content = bytes(range(256)) * (5 * MIB // 256) + b"tail"
    await put(api, "/a", content)
    async with api.stream("GET", "download", params={"path": "/a"}) as answer:
        assert answer.headers["content-length"] == str(len(content))
        assert b"".join([piece async for piece in answer.aiter_bytes()]) == content


async def test_the_path_in_the_answer_is_the_one_that_was_sent(api: httpx2.AsyncClient) -> None:
    answer = await api.put("upload", params={"path": "a/../b"}, content=b"x")
    assert answer.json()["path"] == "a/../b"
    assert (await stat(api, "/b"))["size"] == 1


async def test_an_empty_upload_makes_an_empty_file(api: httpx2.AsyncClient) -> None:
    for content in (b"", pieces()):
        answer = await api.put("upload", params={"path": "/a"}, content=content)
        assert answer.json()["bytes_written"] == 0
        assert (await stat(api, "/a"))["size"] == 0


async def test_download_headers(api: httpx2.AsyncClient) -> None:
    await put(api, "/page.html", b"<script>")
    answer = await get(api, "/page.html")
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["content-length"] == "8"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox"
    info = await stat(api, "/page.html")
    assert answer.headers["etag"] == f'"{info["etag"]}"'
    assert answer.headers["last-modified"].endswith(" GMT")


@pytest.mark.parametrize("wanted", ["bytes=0-499", "bytes=5-", "bytes=-5", "other=1-2", "x"])
async def test_an_empty_file_is_200_also_with_a_range(api: httpx2.AsyncClient, wanted: str) -> None:
    await put(api, "/a", b"")
    for headers in ({}, {"range": wanted}):
        answer = await get(api, "/a", **headers)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == "0"


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-499", 0, 499),
        ("bytes=500-", 500, 999),
        ("bytes=-200", 800, 999),
        ("bytes=0-0", 0, 0),
        ("bytes=0-999", 0, 999),
        ("bytes=990-5000", 990, 999),
        ("bytes=-5000", 0, 999),
        ("Bytes=10-19", 10, 19),
        ("bytes= 10-19", 10, 19),
        (f"bytes=10-{10**18}", 10, 999),
    ],
)
async def test_a_range_is_206_and_exact(
    api: httpx2.AsyncClient, wanted: str, start: int, end: int
) -> None:
    await put(api, "/a", THOUSAND)
    answer = await get(api, "/a", range=wanted)
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {start}-{end}/1000"
    assert answer.headers["content-length"] == str(end - start + 1)
    assert answer.content == THOUSAND[start : end + 1]


@pytest.mark.parametrize("wanted", ["bytes=1000-", "bytes=5000-6000", "bytes=-0"])
async def test_an_unsatisfiable_range_is_416(api: httpx2.AsyncClient, wanted: str) -> None:
    await put(api, "/a", THOUSAND)
    answer = await get(api, "/a", range=wanted)
    assert problem(answer)[:2] == (416, "RangeNotSatisfiable")
    assert answer.headers["content-range"] == "bytes */1000"


@pytest.mark.parametrize(
    "wanted",
    ["bytes=9-5", "lines=0-1", "bytes=0-1,5-6", "bytes", "bytes=", "bytes=-", "bytes=a-b", "0-1"],
)
async def test_what_is_not_one_range_is_ignored(api: httpx2.AsyncClient, wanted: str) -> None:
    await put(api, "/a", THOUSAND)
    answer = await get(api, "/a", range=wanted)
    assert (answer.status_code, answer.content) == (200, THOUSAND)


async def test_if_range_sends_the_whole_of_another_version(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", THOUSAND)
    first = await get(api, "/a")
    etag, modified = first.headers["etag"], first.headers["last-modified"]
    for current in (etag, modified):
        answer = await get(api, "/a", **{"range": "bytes=0-9", "if-range": current})
        assert answer.status_code == 206
    for stale in ('"old"', f"W/{etag}", "Sun, 06 Nov 1994 08:49:37 GMT", "nonsense"):
        answer = await get(api, "/a", **{"range": "bytes=0-9", "if-range": stale})
        assert (answer.status_code, answer.content) == (200, THOUSAND)
        answer = await get(api, "/a", **{"range": "bytes=2000-", "if-range": stale})
        assert answer.status_code == 200


async def test_a_current_copy_is_304(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", THOUSAND)
    first = await get(api, "/a")
    etag, modified = first.headers["etag"], first.headers["last-modified"]
    for headers in (
        {"if-none-match": etag},
        {"if-none-match": f"W/{etag}"},
        {"if-none-match": f'"x", {etag}'},
        {"if-none-match": "*"},
        {"if-modified-since": modified},
        {"if-none-match": etag, "range": "bytes=0-1"},
        {"if-none-match": etag, "if-modified-since": "Sun, 06 Nov 1994 08:49:37 GMT"},
    ):
        answer = await get(api, "/a", **headers)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
        assert "content-type" not in answer.headers
    for headers in (
        {"if-none-match": '"x"'},
        {"if-none-match": '"x"', "if-modified-since": modified},
        {"if-modified-since": "Sun, 06 Nov 1994 08:49:37 GMT"},
        {"if-modified-since": "nonsense"},
    ):
        assert (await get(api, "/a", **headers)).status_code == 200


async def test_another_version_than_wanted_is_412(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", THOUSAND)
    etag = (await get(api, "/a")).headers["etag"]
    for headers in (
        {"if-match": '"x"'},
        {"if-match": f"W/{etag}"},
        {"if-unmodified-since": "Sun, 06 Nov 1994 08:49:37 GMT"},
    ):
        answer = await get(api, "/a", **headers)
        assert problem(answer)[:2] == (412, "PreconditionFailed")
        assert answer.headers["etag"] == etag
    for headers in ({"if-match": f'"x", {etag}'}, {"if-match": "*"}):
        assert (await get(api, "/a", **headers)).status_code == 200


@pytest.mark.parametrize("header", ["if-match", "if-none-match"])
@pytest.mark.parametrize("value", ["", "x", '"a" "b"', '"a', "**"])
async def test_a_malformed_condition_is_400(
    api: httpx2.AsyncClient, header: str, value: str
) -> None:
    await put(api, "/a", b"x")
    assert problem(await get(api, "/a", **{header: value}))[:2] == (400, "InvalidArgument")
    answer = await api.delete("remove", params={"path": "/a"}, headers={header: value})
    assert problem(answer)[:2] == (400, "InvalidArgument")
    assert (await stat(api, "/a"))["size"] == 1


async def test_every_version_has_its_own_etag(api: httpx2.AsyncClient) -> None:
    seen = set()
    for content in (b"a", b"b", b"a"):
        answer = await api.put("upload", params={"path": "/a"}, content=content)
        assert (await get(api, "/a")).headers["etag"] == answer.headers["etag"]
        seen.add(answer.headers["etag"])
    assert len(seen) == 3


async def test_conditional_changes_happen_to_the_version_that_was_seen(
    api: httpx2.AsyncClient,
) -> None:
    await put(api, "/a", b"one")
    stale = (await get(api, "/a")).headers["etag"]
    await put(api, "/a", b"two")
    params = {"path": "/a"}
    for condition in ({"if-match": stale}, {"if-none-match": "*"}):
        answers = [
            await api.put("upload", params=params, content=b"three", headers=condition),
            await api.delete("remove", params=params, headers=condition),
            await api.post("wstat", json={"path": "/a", "changes": {"size": 0}}, headers=condition),
        ]
        for answer in answers:
            assert problem(answer)[:2] == (412, "PreconditionFailed")
    current = await get(api, "/a")
    assert current.content == b"two"
    etag = current.headers["etag"]
    ok(await api.put("upload", params=params, content=b"three", headers={"if-match": etag}))
    etag = (await get(api, "/a")).headers["etag"]
    ok(await api.delete("remove", params=params, headers={"if-match": etag}))


async def test_if_none_match_star_creates_only(api: httpx2.AsyncClient) -> None:
    headers = {"if-none-match": "*"}
    answers = [
        await api.put("upload", params={"path": "/a"}, content=content, headers=headers)
        for content in (b"first", b"second")
    ]
    assert [answer.status_code for answer in answers] == [200, 412]
    assert (await get(api, "/a")).content == b"first"


async def test_if_unmodified_since_guards_changes(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", b"one")
    old = {"if-unmodified-since": "Sun, 06 Nov 1994 08:49:37 GMT"}
    answer = await api.put("upload", params={"path": "/a"}, content=b"two", headers=old)
    assert problem(answer)[:2] == (412, "PreconditionFailed")
    ok(await api.put("upload", params={"path": "/new"}, content=b"x", headers=old))
    now = {"if-unmodified-since": (await get(api, "/a")).headers["last-modified"]}
    ok(await api.put("upload", params={"path": "/a"}, content=b"two", headers=now))


async def test_a_range_of_head_is_the_whole(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", THOUSAND)
    headers = {"range": "bytes=0-9"}
    answer = await api.head("download", params={"path": "/a"}, headers=headers)
    assert (answer.status_code, answer.headers["content-length"]) == (200, "1000")


async def test_download_of_a_directory_or_of_nothing_is_refused(api: httpx2.AsyncClient) -> None:
    await mkdir(api, "/d")
    assert problem(await get(api, "/d"))[:2] == (400, "IsDirectory")
    assert problem(await get(api, "/none")) == (404, "NotFound", "not found: /none")


async def test_a_part_of_a_file_is_not_taken_for_the_whole(api: httpx2.AsyncClient) -> None:
    """What a client sends that thinks it can go on with an upload (RFC 9110, section 14.5)."""
    await put(api, "/a", b"0123")
    headers = {"Content-Range": "bytes 4-6/7"}
    answer = await api.put("upload?path=/a", content=b"456", headers=headers)
    assert problem(answer)[:2] == (400, "InvalidArgument")
    assert (await get(api, "/a")).content == b"0123"


async def test_upload_refusals_come_before_the_body(api: httpx2.AsyncClient) -> None:
    await mkdir(api, "/d")
    answer = await api.put("upload", params={"path": "/none/a"}, content=b"x")
    assert problem(answer)[:2] == (404, "NotFound")
    answer = await api.put("upload", params={"path": "/d"}, content=b"x")
    assert problem(answer)[:2] == (400, "IsDirectory")
    assert (await api.put("upload", content=b"x")).status_code == 400


async def test_an_upload_that_breaks_off_leaves_the_old_file(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", b"old")

    async def broken() -> AsyncIterator[bytes]:
        yield b"new" * 1000
        raise ConnectionError("the client is gone")

    # What the client sees of its own failure depends on the transport.
    with contextlib.suppress(ConnectionError, httpx2.HTTPError):
        await api.put("upload", params={"path": "/a"}, content=broken())
    assert (await get(api, "/a")).content == b"old"
    entries = (await api.get("readdir", params={"path": "/"})).json()
    assert [entry["path"] for entry in entries] == ["/a", "/hello", "/other"]


async def test_readers_see_the_old_file_until_the_upload_is_complete(
    api: httpx2.AsyncClient,
) -> None:
    await put(api, "/a", b"old")
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"new" * 1000
        begun.set()
        await go_on.wait()
        yield b"end"

    task = asyncio.create_task(api.put("upload", params={"path": "/a"}, content=slow()))
    await begun.wait()
    assert (await get(api, "/a")).content == b"old"
    go_on.set()
    assert (await task).status_code == 200
    assert (await get(api, "/a")).content == b"new" * 1000 + b"end"


async def test_a_too_large_upload_is_413_and_leaves_the_old_file(
    start_server: StartServer,
) -> None:
    server = await start_server(write_body_bytes_max=1000, fast_body_bytes_max=1000)
    api = server.client(tenant=new_tenant())
    await put(api, "/a", b"old")
    for content in (b"x" * 1001, pieces(b"x" * 600, b"y" * 600)):
        answer = await api.put("upload", params={"path": "/a"}, content=content)
        assert problem(answer)[:2] == (413, "PayloadTooLarge")
    assert (await get(api, "/a")).content == b"old"


async def test_an_upload_over_an_open_handle_leaves_the_handle_its_file(
    api: httpx2.AsyncClient,
) -> None:
    await put(api, "/a", b"old")
    handle_id = await open_(api, "/a", read=True, write=True)
    await put(api, "/a", b"new")
    ok(await write(api, handle_id, 0, b"OLD"))
    assert (await get(api, "/a")).content == b"new"


async def test_a_file_made_up_as_it_is_read_can_be_downloaded(api: httpx2.AsyncClient) -> None:
    entries = (await api.get("readdir", params={"path": "/hello"})).json()
    path = next(entry["path"] for entry in entries if entry["file_type"] == "regular")
    assert (await get(api, path)).content != b""
