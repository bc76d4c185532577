"""Suite: operations on handles."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.fix_http import Server, StartServer, new_tenant
from tests.http.calls import close, get, mkdir, ok, open_, problem, put, read, stat, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2

MIB = 1024 * 1024


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    """A chunked body."""
    for piece in content:
        await asyncio.sleep(0)
        yield piece


async def test_open_write_close_stat_open_read(api: httpx2.AsyncClient) -> None:
    flags = {"read": True, "write": True, "create": True, "truncate": True}
    answer = ok(await api.post("open", json={"path": "/a", "flags": flags}))
    assert list(answer.json()) == ["handle_id", "metadata"]
    assert answer.json()["metadata"]["path"] == "/a"
    assert b'"handle_id":"' in answer.content
    handle_id = answer.json()["handle_id"]
    written = await write(api, handle_id, 0, b"hello world")
    assert written.content == b'{"bytes_written":11}'
    closed = await close(api, handle_id)
    assert (closed.status_code, closed.content) == (204, b"")
    info = await stat(api, "/a")
    assert (info["size"], info["file_type"]) == (11, "regular")
    answer = await read(api, await open_(api, "/a", read=True), 0, 100)
    assert answer.content == b"hello world"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == "11"


async def test_writes_at_consecutive_offsets_and_a_read_inside(api: httpx2.AsyncClient) -> None:
    handle_id = await open_(api, "/a", read=True, write=True, create=True)
    await write(api, handle_id, 0, b"hello")
    await write(api, handle_id, 5, b" world")
    assert (await read(api, handle_id, 0, 100)).content == b"hello world"
    assert (await read(api, handle_id, 3, 4)).content == b"lo w"


async def test_reads_at_and_beyond_the_end_and_of_nothing_are_empty(
    api: httpx2.AsyncClient,
) -> None:
    await put(api, "/a", b"x")
    handle_id = await open_(api, "/a", read=True)
    beyond = [(offset, size) for offset in (100, 2**63 - 1, 2**64 - 1) for size in (10, 5 * MIB)]
    for offset, size in [(1, 10), (0, 0), (1, 5 * MIB), *beyond]:
        answer = await read(api, handle_id, offset, size)
        assert (answer.status_code, answer.content) == (200, b"")


async def test_an_empty_write_writes_nothing(api: httpx2.AsyncClient) -> None:
    handle_id = await open_(api, "/a", write=True, create=True)
    for content in (b"", pieces()):
        assert (await write(api, handle_id, 5, content)).json() == {"bytes_written": 0}
    assert (await stat(api, "/a"))["size"] == 0


async def test_a_gap_reads_as_zeros(api: httpx2.AsyncClient) -> None:
    handle_id = await open_(api, "/a", write=True, create=True)
    await write(api, handle_id, 3, b"x")
    assert (await get(api, "/a")).content == b"\0\0\0x"


async def test_a_large_read_streams_and_one_mib_has_a_length(api: httpx2.AsyncClient) -> None:
    content = bytes(range(256)) * (5 * MIB // 256)
    await put(api, "/a", content)
    handle_id = await open_(api, "/a", read=True)
    answer = await read(api, handle_id, 0, 5 * MIB)
    assert answer.content == content
    assert "content-length" not in answer.headers
    answer = await read(api, handle_id, 7, MIB)
    assert answer.content == content[7 : 7 + MIB]
    assert answer.headers["content-length"] == str(MIB)
    answer = await read(api, handle_id, 3 * MIB, 2**64 - 1)
    assert answer.content == content[3 * MIB :]


async def test_a_chunked_write_arrives_whole(api: httpx2.AsyncClient) -> None:
    handle_id = await open_(api, "/a", write=True, create=True)
    content = [bytes([number]) * 70_000 for number in range(20)]
    answer = await write(api, handle_id, 10, pieces(*content))
    assert answer.json() == {"bytes_written": 1_400_000}
    assert (await get(api, "/a")).content == bytes(10) + b"".join(content)


@pytest.mark.parametrize("handle_id", ["", "1", "0", "x", "closed", "ä", "x" * 1000])
async def test_a_wrong_handle_is_400_with_the_word_handle(
    api: httpx2.AsyncClient, handle_id: str
) -> None:
    if handle_id == "closed":
        handle_id = await open_(api, "/a", read=True, write=True, create=True)
        await close(api, handle_id)
    for answer in [
        await read(api, handle_id, 0, 1),
        await read(api, handle_id, 0, 5 * MIB),
        await write(api, handle_id, 0, b"x"),
        await write(api, handle_id, 0, b""),
        await write(api, handle_id, 0, pieces(b"x", b"y")),
        await close(api, handle_id),
    ]:
        status, kind, text = problem(answer)
        assert (status, kind) == (400, "InvalidHandle")
        assert "handle" in text


async def test_a_write_without_its_query_is_400(api: httpx2.AsyncClient) -> None:
    handle_id = await open_(api, "/a", write=True, create=True)
    assert problem(await api.post("write?offset=0", content=b"x"))[1] == "InvalidHandle"
    for query in [f"handle_id={handle_id}"] + [
        f"handle_id={handle_id}&offset={offset}"
        for offset in ["", "-1", "1.0", "x", "+1", "9" * 30]
    ]:
        status, kind, text = problem(await api.post(f"write?{query}", content=b"x"))
        assert (status, kind) == (400, "InvalidArgument")
        assert "handle" not in text


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1])
async def test_a_write_at_a_huge_offset_is_refused_by_quota(
    api: httpx2.AsyncClient, offset: int
) -> None:
    handle_id = await open_(api, "/a", write=True, create=True)
    assert problem(await write(api, handle_id, offset, b"x"))[:2] == (507, "QuotaExceeded")
    assert (await stat(api, "/a"))["size"] == 0


async def test_a_handle_does_what_it_was_opened_for(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", b"content")
    reader = await open_(api, "/a", read=True)
    writer = await open_(api, "/a", write=True)
    assert problem(await write(api, reader, 0, b"x"))[:2] == (403, "PermissionDenied")
    assert problem(await read(api, writer, 0, 1))[:2] == (403, "PermissionDenied")
    assert problem(await read(api, writer, 0, 5 * MIB))[:2] == (403, "PermissionDenied")
    assert (await get(api, "/a")).content == b"content"


async def test_reading_a_directory_is_400(api: httpx2.AsyncClient) -> None:
    await mkdir(api, "/d")
    handle_id = await open_(api, "/d", read=True)
    assert problem(await read(api, handle_id, 0, 1))[:2] == (400, "IsDirectory")
    assert problem(await read(api, handle_id, 0, 5 * MIB))[:2] == (400, "IsDirectory")


async def test_a_handle_of_another_namespace_is_invalid(server: Server) -> None:
    one, other = server.client(tenant=new_tenant()), server.client(tenant=new_tenant())
    handle_id = await open_(one, "/a", read=True, write=True, create=True)
    assert problem(await read(other, handle_id, 0, 1))[1] == "InvalidHandle"
    assert problem(await close(other, handle_id))[1] == "InvalidHandle"
    assert (await read(one, handle_id, 0, 1)).status_code == 200


async def test_appends_go_to_the_end_whatever_the_offset_is(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", b"start")
    handle_id = await open_(api, "/a", write=True, append=True)
    await write(api, handle_id, 2**64 - 1, b"_app")
    await write(api, handle_id, 0, pieces(b"en", b"ded"))
    assert (await get(api, "/a")).content == b"start_appended"


async def test_streamed_appends_do_not_interleave(api: httpx2.AsyncClient) -> None:
    handle_id = await open_(api, "/a", write=True, append=True, create=True)
    await asyncio.gather(
        *(write(api, handle_id, 0, pieces(*[letter] * 20)) for letter in (b"a", b"b", b"c"))
    )
    content = (await get(api, "/a")).content
    assert len(content) == 60
    assert sorted(content[at : at + 20] for at in (0, 20, 40)) == [
        letter * 20 for letter in (b"a", b"b", b"c")
    ]


async def test_create_keeps_and_truncate_empties(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", b"long content")
    await close(api, await open_(api, "/a", write=True, create=True))
    assert (await stat(api, "/a"))["size"] == 12
    handle_id = await open_(api, "/a", write=True, create=True, truncate=True)
    await write(api, handle_id, 0, b"short")
    assert (await get(api, "/a")).content == b"short"


async def test_exclusive_refuses_what_exists(api: httpx2.AsyncClient) -> None:
    flags = {"write": True, "create": True, "exclusive": True}
    assert (await api.post("open", json={"path": "/a", "flags": flags})).status_code == 200
    answer = await api.post("open", json={"path": "/a", "flags": flags})
    assert problem(answer)[:2] == (409, "AlreadyExists")


async def test_open_of_a_missing_file_is_404(api: httpx2.AsyncClient) -> None:
    answer = await api.post("open", json={"path": "/none", "flags": {"read": True}})
    assert problem(answer)[:2] == (404, "NotFound")


async def test_binary_content_survives(api: httpx2.AsyncClient) -> None:
    content = bytes(range(256)) * 400
    handle_id = await open_(api, "/a", read=True, write=True, create=True)
    await write(api, handle_id, 0, content)
    assert (await read(api, handle_id, 0, MIB)).content == content


OPEN = {"path": "/a", "flags": {}}
READ = {"handle_id": "1", "offset": 0, "size": 0}


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("open", {"path": "/a"}),
        ("open", OPEN | {"flags": 3}),
        ("open", OPEN | {"flags": None}),
        ("open", OPEN | {"flags": {"read": 1}}),
        ("open", OPEN | {"flags": {"read": "true"}}),
        ("open", OPEN | {"path": 1}),
        ("open", OPEN | {"path": None}),
        ("read", {}),
        ("read", READ | {"handle_id": 1}),
        ("read", READ | {"offset": "0"}),
        ("read", READ | {"offset": -1}),
        ("read", READ | {"offset": 1.0}),
        ("read", READ | {"size": True}),
        ("read", READ | {"size": None}),
        ("close", {"handle_id": "1", "sync": 0}),
        ("close", []),
        ("close", "text"),
        ("wstat", {"path": "/a"}),
        ("wstat", {"path": "/a", "changes": {"mode": "644"}}),
        ("wstat", {"path": "/a", "changes": {"mode": 2**32}}),
        ("wstat", {"path": "/a", "changes": {"size": -1}}),
        ("wstat", {"path": "/a", "changes": []}),
    ],
)
async def test_a_missing_field_or_a_wrong_type_is_422(
    api: httpx2.AsyncClient, route: str, body: object
) -> None:
    assert problem(await api.post(route, json=body))[:2] == (422, "UnprocessableBody")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"path":"/","flags":{}} x', b"\xff", b'{"path":"\xff","flags":{}}', b"nul"],
)
async def test_what_is_not_json_is_400(api: httpx2.AsyncClient, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = await api.post("open", content=body, headers=headers)
    assert problem(answer)[:2] == (400, "MalformedRequest")


async def test_deeply_nested_json_is_refused_not_a_crash(api: httpx2.AsyncClient) -> None:
    body = b'{"path":"/a","flags":{},"other":' + b"[" * 100_000
    headers = {"content-type": "application/json"}
    answer = await api.post("open", content=body, headers=headers)
    assert problem(answer)[:2] == (400, "MalformedRequest")


async def test_unknown_fields_are_ignored(api: httpx2.AsyncClient) -> None:
    flags = {"write": True, "create": True, "other": 1, "replace": True}
    body = {"path": "/a", "flags": flags, "more": None}
    assert (await api.post("open", json=body)).status_code == 200
    assert (await stat(api, "/a"))["size"] == 0


@pytest.mark.parametrize(
    ("content_type", "accepted"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/vnd.x+json", True),
        (None, False),
        ("text/plain", False),
        ("application/x-www-form-urlencoded", False),
        ("application/jsonp", False),
        ("text/x+json", False),
    ],
)
async def test_only_json_content_types_are_read(
    api: httpx2.AsyncClient, content_type: str | None, accepted: bool
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    body = b'{"path":"/a","flags":{"write":true,"create":true}}'
    answer = await api.post("open", content=body, headers=headers)
    if accepted:
        assert answer.status_code == 200
    else:
        assert problem(answer)[:2] == (415, "UnsupportedMediaType")


async def test_too_large_json_is_413(start_server: StartServer) -> None:
    api = (await start_server(json_body_bytes_max=100)).client(tenant=new_tenant())
    headers = {"content-type": "application/json"}
    for content in (b" " * 101, pieces(b" " * 60, b" " * 60)):
        answer = await api.post("open", content=content, headers=headers)
        assert problem(answer)[:2] == (413, "PayloadTooLarge")


async def test_a_too_large_write_is_413_and_says_what_was_written(
    start_server: StartServer,
) -> None:
    server = await start_server(write_body_bytes_max=1000, fast_body_bytes_max=1000)
    api = server.client(tenant=new_tenant())
    handle_id = await open_(api, "/a", write=True, create=True)
    assert problem(await write(api, handle_id, 0, b"x" * 1001))[:2] == (413, "PayloadTooLarge")
    assert (await stat(api, "/a"))["size"] == 0
    answer = await write(api, handle_id, 0, pieces(b"x" * 600, b"y" * 600))
    status, _, text = problem(answer)
    assert status == 413
    # As much as arrived before the limit was crossed; the server may cut its pieces anyhow.
    assert f"{(await stat(api, '/a'))['size']} bytes were written" in text
    assert (await write(api, handle_id, 0, b"x" * 1000)).status_code == 200
