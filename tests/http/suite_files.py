"""Suite: operations on paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.http.calls import create, mkdir, problem, put, stat

if TYPE_CHECKING:
    import httpx2


async def test_a_new_file_is_a_regular_file_with_the_length_of_its_content(
    api: httpx2.AsyncClient,
) -> None:
    await put(api, "/a", b"hello world")
    info = await stat(api, "/a")
    assert list(info) == [
        "path",
        "size",
        "file_type",
        "mode",
        "uid",
        "gid",
        "atime",
        "mtime",
        "ctime",
        "etag",
    ]
    assert (info["path"], info["size"], info["file_type"]) == ("/a", 11, "regular")
    assert isinstance(info["mtime"], int)


async def test_stat_of_a_missing_path_is_404_in_the_envelope(api: httpx2.AsyncClient) -> None:
    answer = await api.get("stat", params={"path": "/missing"})
    assert problem(answer) == (404, "NotFound", "not found: /missing")
    assert answer.json()["path"] == "/missing"


async def test_json_is_compact(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", b"")
    for answer in [
        await api.get("stat", params={"path": "/a"}),
        await api.get("stat", params={"path": "/missing"}),
        await api.get("mounts"),
    ]:
        assert '": ' not in answer.text
        assert ', "' not in answer.text


async def test_a_removed_file_is_gone(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", b"x")
    answer = await api.delete("remove", params={"path": "/a"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-type" not in answer.headers
    assert (await api.get("stat", params={"path": "/a"})).status_code == 404


async def test_a_new_directory_is_empty(api: httpx2.AsyncClient) -> None:
    await mkdir(api, "/d")
    assert (await stat(api, "/d"))["file_type"] == "directory"
    answer = await api.get("readdir", params={"path": "/d"})
    assert (answer.status_code, answer.content) == (200, b"[]")


async def test_nested_directories_can_be_made_and_removed_bottom_up(
    api: httpx2.AsyncClient,
) -> None:
    paths = ["/a", "/a/b", "/a/b/c"]
    for path in paths:
        await mkdir(api, path)
    await put(api, "/a/b/c/file", b"x")
    for path in ["/a/b/c/file", *reversed(paths)]:
        assert (await api.delete("remove", params={"path": path})).status_code == 204


async def test_a_listing_has_every_entry_once_sorted_by_name(api: httpx2.AsyncClient) -> None:
    await mkdir(api, "/d")
    names = {f"{number:03}" for number in range(100)} | {"Z", "a b", "ä", ".hidden"}
    for name in names:
        await create(api, f"/d/{name}")
    entries = (await api.get("readdir", params={"path": "/d"})).json()
    expected = [f"/d/{name}" for name in sorted(names, key=str.encode)]
    assert [entry["path"] for entry in entries] == expected


async def test_pages_of_a_listing_have_every_entry_once(api: httpx2.AsyncClient) -> None:
    await mkdir(api, "/d")
    for number in range(10):
        await create(api, f"/d/{number}")
    seen: list[str] = []
    params: dict[str, str] = {"path": "/d", "limit": "4"}
    pages = 0
    while True:
        answer = await api.get("readdir", params=params)
        assert answer.status_code == 200
        seen += [entry["path"] for entry in answer.json()]
        pages += 1
        cursor = answer.headers.get("x-fs9-next-cursor")
        if cursor is None:
            break
        assert 'rel="next"' in answer.headers["link"]
        params["cursor"] = cursor
    assert seen == [f"/d/{number}" for number in range(10)]
    assert pages == 3


async def test_a_full_last_page_has_no_cursor(api: httpx2.AsyncClient) -> None:
    await mkdir(api, "/d")
    for number in range(4):
        await create(api, f"/d/{number}")
    answer = await api.get("readdir", params={"path": "/d", "limit": "4"})
    assert len(answer.json()) == 4
    assert "x-fs9-next-cursor" not in answer.headers


@pytest.mark.parametrize("limit", ["0", "10001", "-1", "x", "1.5", ""])
async def test_a_wrong_page_size_is_400(api: httpx2.AsyncClient, limit: str) -> None:
    answer = await api.get("readdir", params={"path": "/", "limit": limit})
    assert problem(answer)[:2] == (400, "InvalidArgument")


@pytest.mark.parametrize("cursor", ["", "!", "Lw", "é", "AA"])
async def test_a_wrong_cursor_is_400(api: httpx2.AsyncClient, cursor: str) -> None:
    answer = await api.get("readdir", params={"path": "/", "cursor": cursor})
    assert problem(answer)[:2] == (400, "InvalidArgument")


async def test_readdir_of_a_file_is_400_of_nothing_404(api: httpx2.AsyncClient) -> None:
    await put(api, "/file", b"")
    answer = await api.get("readdir", params={"path": "/file"})
    assert problem(answer) == (400, "NotDirectory", "not a directory: /file")
    assert (await api.get("readdir", params={"path": "/none"})).status_code == 404


async def test_the_root_lists_files_and_mount_points(api: httpx2.AsyncClient) -> None:
    await put(api, "/file", b"")
    paths = [entry["path"] for entry in (await api.get("readdir", params={"path": "/"})).json()]
    assert paths == ["/file", "/hello", "/other"]


async def test_removing_a_full_directory_or_the_root_is_refused(api: httpx2.AsyncClient) -> None:
    await mkdir(api, "/d")
    await put(api, "/d/file", b"")
    answer = await api.delete("remove", params={"path": "/d"})
    assert problem(answer) == (400, "DirectoryNotEmpty", "directory not empty: /d")
    answer = await api.delete("remove", params={"path": "/"})
    assert problem(answer)[:2] == (403, "PermissionDenied")


async def test_mkdir_of_what_exists_is_409_without_a_parent_404(api: httpx2.AsyncClient) -> None:
    await mkdir(api, "/d")
    body = {"path": "/d", "flags": {"create": True, "directory": True}}
    assert problem(await api.post("open", json=body))[:2] == (409, "AlreadyExists")
    body["path"] = "/none/d"
    assert problem(await api.post("open", json=body))[:2] == (404, "NotFound")


_NAMES = ["a b", ".dot", "ünïcödé ✓", "x" * 255, "+", "%2F", "a&b=c", "'", " a", "a ", " ", "a\nb"]


@pytest.mark.parametrize("name", _NAMES)
async def test_names_round_trip(api: httpx2.AsyncClient, name: str) -> None:
    """Nothing is trimmed: what differs in a blank is another file."""
    path = f"/{name}"
    await put(api, path, b"x")
    assert (await api.get("stat", params={"path": "/a"})).status_code == 404
    assert (await stat(api, path))["path"] == path
    listed = (await api.get("readdir", params={"path": "/"})).json()
    assert path in [entry["path"] for entry in listed]
    assert (await api.delete("remove", params={"path": path})).status_code == 204


@pytest.mark.parametrize("query", ["path=/a+b", "path=/a%20b", "path=%2Fa+b&unknown=1"])
async def test_plus_and_percent_20_are_both_a_blank(api: httpx2.AsyncClient, query: str) -> None:
    await put(api, "/a b", b"x")
    assert (await api.get(f"stat?{query}")).json()["path"] == "/a b"


@pytest.mark.parametrize("query", ["", "path", "other=1", "path=/a&path=/a"])
async def test_a_missing_or_repeated_query_field_is_400(
    api: httpx2.AsyncClient, query: str
) -> None:
    answer = await api.get(f"stat?{query}")
    if query == "path":  # a field without a value is an empty path: the root
        assert answer.json()["path"] == "/"
        return
    status, kind, text = problem(answer)
    assert (status, kind) == (400, "InvalidArgument")
    assert "path" in text


@pytest.mark.parametrize(
    ("sent", "clean"),
    [("", "/"), ("d/", "/d"), ("/d//x/../", "/d"), ("/../d/.", "/d")],
)
async def test_paths_are_cleaned(api: httpx2.AsyncClient, sent: str, clean: str) -> None:
    await mkdir(api, "/d")
    assert (await stat(api, sent))["path"] == clean


async def test_a_path_with_nul_or_too_long_is_400(api: httpx2.AsyncClient) -> None:
    for path in ["/a\0b", "/" + "x" * 256, "/x" * 2049]:
        answer = await api.get("stat", params={"path": path})
        assert problem(answer)[:2] == (400, "InvalidArgument")


async def wstat(api: httpx2.AsyncClient, path: str, **changes: object) -> httpx2.Response:
    return await api.post("wstat", json={"path": path, "changes": changes})


async def test_chmod_chown_utime(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", b"x")
    assert (await wstat(api, "/a", mode=0o100755)).status_code == 204
    assert (await wstat(api, "/a", uid=5, gid=6, atime=1, mtime=2)).status_code == 204
    info = await stat(api, "/a")
    assert info["mode"] & 0o7777 == 0o755
    assert (info["uid"], info["gid"], info["atime"], info["mtime"]) == (5, 6, 1, 2)


async def test_null_and_absent_changes_change_nothing(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", b"x")
    before = await stat(api, "/a")
    assert (await wstat(api, "/a")).status_code == 204
    assert (await wstat(api, "/a", mode=None, name=None, unknown=[1])).status_code == 204
    after = await stat(api, "/a")
    assert (before["mode"], before["size"]) == (after["mode"], after["size"])


async def test_truncate_shrinks_and_extends_with_zeros(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", b"hello world")
    await wstat(api, "/a", size=5)
    assert (await api.get("download", params={"path": "/a"})).content == b"hello"
    await wstat(api, "/a", size=8)
    assert (await api.get("download", params={"path": "/a"})).content == b"hello\0\0\0"
    await mkdir(api, "/d")
    assert problem(await wstat(api, "/d", size=0))[:2] == (400, "IsDirectory")


@pytest.mark.parametrize("size", [2**63 - 1, 2**63, 2**64 - 1])
async def test_a_huge_truncate_is_refused_by_quota(api: httpx2.AsyncClient, size: int) -> None:
    await put(api, "/a", b"x")
    assert problem(await wstat(api, "/a", size=size))[:2] == (507, "QuotaExceeded")
    assert (await stat(api, "/a"))["size"] == 1


async def test_rename_within_and_across_directories(api: httpx2.AsyncClient) -> None:
    await mkdir(api, "/d")
    await put(api, "/d/a", b"content")
    assert (await wstat(api, "/d/a", name="/d/b")).status_code == 204
    assert (await wstat(api, "/d/b", name="/c")).status_code == 204
    assert (await api.get("stat", params={"path": "/d/a"})).status_code == 404
    assert (await api.get("download", params={"path": "/c"})).content == b"content"


async def test_rename_to_a_bare_name_goes_to_the_root(api: httpx2.AsyncClient) -> None:
    await mkdir(api, "/d")
    await put(api, "/d/a", b"x")
    await wstat(api, "/d/a", name="b")
    assert (await stat(api, "/b"))["size"] == 1


async def test_rename_replaces_a_file_not_a_full_directory(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", b"new")
    await put(api, "/b", b"old")
    assert (await wstat(api, "/a", name="/b")).status_code == 204
    assert (await api.get("download", params={"path": "/b"})).content == b"new"
    await mkdir(api, "/d")
    await mkdir(api, "/e")
    await put(api, "/e/file", b"")
    assert problem(await wstat(api, "/d", name="/e"))[:2] == (400, "DirectoryNotEmpty")
    assert problem(await wstat(api, "/none", name="/b"))[:2] == (404, "NotFound")


async def test_a_renamed_directory_keeps_what_is_in_it(api: httpx2.AsyncClient) -> None:
    await mkdir(api, "/d")
    await mkdir(api, "/d/e")
    await put(api, "/d/e/file", b"deep")
    await wstat(api, "/d", name="/moved")
    assert (await api.get("download", params={"path": "/moved/e/file"})).content == b"deep"


async def test_rename_across_mounts_is_refused(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", b"x")
    status, kind, text = problem(await wstat(api, "/a", name="/other/a"))
    assert (status, kind) == (400, "InvalidArgument")
    assert "cannot rename across mount points" in text


async def test_a_symbolic_link_shows_its_target(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", b"x")
    assert (await wstat(api, "/link", symlink_target="/a")).status_code == 204
    info = await stat(api, "/link")
    assert (info["file_type"], info["symlink_target"]) == ("symlink", "/a")
    assert "symlink_target" not in await stat(api, "/a")
    assert problem(await wstat(api, "/link", symlink_target="/b"))[:2] == (409, "AlreadyExists")


async def test_what_a_provider_cannot_do_is_501(api: httpx2.AsyncClient) -> None:
    entries = (await api.get("readdir", params={"path": "/hello"})).json()
    answer = await wstat(api, entries[0]["path"], mode=0o600)
    assert problem(answer) == (501, "NotImplemented", "not implemented: chmod")


async def test_mounts_statfs_capabilities(api: httpx2.AsyncClient) -> None:
    mounts = (await api.get("mounts")).json()
    assert mounts == [
        {"path": "/", "provider_name": "memfs"},
        {"path": "/hello", "provider_name": "hellofs"},
        {"path": "/other", "provider_name": "memfs"},
    ]
    stats = (await api.get("statfs", params={"path": "/"})).json()
    assert list(stats) == [
        "total_bytes",
        "free_bytes",
        "total_inodes",
        "free_inodes",
        "block_size",
        "max_name_len",
    ]
    assert stats["total_bytes"] > 0
    assert stats["block_size"] > 0
    answer = (await api.get("capabilities", params={"path": "/any/path/inside"})).json()
    assert answer == {
        "capabilities": [
            "read",
            "write",
            "create",
            "delete",
            "rename",
            "truncate",
            "chmod",
            "chown",
            "symlink",
            "directory",
        ],
        "provider_type": "memfs",
    }


async def test_events_are_newest_first_and_filtered(api: httpx2.AsyncClient) -> None:
    await mkdir(api, "/d")
    await put(api, "/d/a", b"x")
    await wstat(api, "/d/a", mode=0o600)
    await api.delete("remove", params={"path": "/d/a"})
    events = (await api.get("events")).json()
    assert [event["event_type"] for event in events] == ["delete", "chmod", "upload", "mkdir"]
    assert list(events[0]) == ["timestamp", "event_type", "path", "user", "count"]
    assert (events[0]["path"], events[0]["user"], events[0]["count"]) == ("/d/a", "anonymous", 1)
    two = (await api.get("events", params={"limit": 2, "offset": 1})).json()
    assert two == events[1:3]
    assert (await api.get("events", params={"path": "/d/"})).json() == events[:3]
    assert (await api.get("events", params={"type": "mkdir"})).json() == events[3:]


async def test_a_large_limit_of_events_is_as_many_as_there_are(api: httpx2.AsyncClient) -> None:
    await api.put("upload", params={"path": "/a"}, content=b"x")
    everything = (await api.get("events")).json()
    for limit in (10_000, 10_001, 2**32):
        assert (await api.get("events", params={"limit": limit})).json() == everything


async def test_equal_events_within_a_second_are_one(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", b"x")
    for _ in range(3):
        await wstat(api, "/a", mode=0o600)
    assert (await api.get("events")).json()[0]["count"] >= 2


@pytest.mark.parametrize(
    "params", [{"type": "other"}, {"limit": "-1"}, {"limit": "x"}, {"offset": "-1"}]
)
async def test_wrong_event_filters_are_400(api: httpx2.AsyncClient, params: dict[str, str]) -> None:
    assert problem(await api.get("events", params=params))[:2] == (400, "InvalidArgument")


async def test_a_listing_made_in_parts_is_one_array_with_every_entry_once(
    api: httpx2.AsyncClient,
) -> None:
    await mkdir(api, "/d")
    names = [f"f{number:04}" for number in range(2500)]
    for name in names:
        await create(api, f"/d/{name}")
    whole = await api.get("readdir", params={"path": "/d"})
    page = await api.get("readdir", params={"path": "/d", "limit": 2400})
    assert [entry["path"] for entry in whole.json()] == [f"/d/{name}" for name in names]
    assert page.json() == whole.json()[:2400]
