"""Conformance cases of contract http.md section 8 over real sockets: 1-54, by number.

The cases with authentication (55-63) are in test_auth.py.
"""

from __future__ import annotations

import random
import re
import socket
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.e2e.conftest import new_name
from tests.e2e.reference import FILE_KEYS, Reference, RefusedError, classify

if TYPE_CHECKING:
    from tests.fix_fleet import Fleet


def refused(answer: httpx2.Response) -> tuple[int, str, str]:
    """(status, kind, text) of a refusal; the envelope must be compact and in order."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.text.startswith('{"error":"')
    body = answer.json()
    assert body["code"] == answer.status_code
    return answer.status_code, body["kind"], body["error"]


def raises(kind: str) -> Any:
    return pytest.raises(RefusedError, match=f"^{kind} ")


# -- Basics ---------------------------------------------------------------------------------


def test_case_01_health(fleet: Fleet, guarded: Fleet) -> None:
    for url in (fleet.url, guarded.url):
        answer = httpx2.get(f"{url}/health")
        assert answer.status_code == 200
        assert '"status":"ok"' in answer.text
        assert re.fullmatch("[0-9a-f]{8}", answer.json()["instance_id"])


def test_cases_02_03_write_close_stat_read(reference: Reference, base: str) -> None:
    path = f"{base}/a b"
    handle_id = reference.open(path, create=True, read=True, write=True, truncate=True)
    assert reference.write(handle_id, 0, b"hello ") == 6
    assert reference.write(handle_id, 6, b"world") == 5
    reference.close(handle_id)
    info = reference.stat(path)
    assert (info["size"], info["file_type"], info["path"]) == (11, "regular", path)
    handle_id = reference.open(path, read=True)
    assert reference.read(handle_id, 0, 100) == b"hello world"
    assert reference.read(handle_id, 4, 3) == b"o w"


def test_cases_04_06_whole_files(reference: Reference, base: str) -> None:
    content = random.Random(4).randbytes(100_000)
    assert reference.write_file(f"{base}/f", content) == 100_000
    assert reference.read_file(f"{base}/f") == content
    assert reference.stat(f"{base}/f")["size"] == 100_000


def test_case_05_large_reads(reference: Reference, base: str) -> None:
    content = random.Random(5).randbytes(5 * 2**20)
    reference.write_file(f"{base}/f", content)
    handle_id = reference.open(f"{base}/f", read=True)
    body = {"handle_id": handle_id, "offset": 0, "size": len(content)}
    answer = reference.http.post("read", json=body)
    assert answer.content == content
    assert "content-length" not in answer.headers
    answer = reference.http.post("read", json=body | {"size": 2**20})
    assert answer.content == content[: 2**20]
    assert answer.headers["content-length"] == str(2**20)
    assert answer.headers["content-type"] == "application/octet-stream"


def test_case_07_missing_paths(reference: Reference, base: str) -> None:
    status, kind, text = refused(reference.http.get("stat", params={"path": f"{base}/x"}))
    assert (status, kind, text[:11]) == (404, "NotFound", "not found: ")
    assert not reference.exists(f"{base}/x")
    reference.write_file(f"{base}/x", b"")
    assert reference.exists(f"{base}/x")
    reference.remove(f"{base}/x")
    assert not reference.exists(f"{base}/x")  # case 8


def test_cases_09_10_11_edges_of_reads_and_writes(reference: Reference, base: str) -> None:
    handle_id = reference.open(f"{base}/f", create=True, read=True, write=True)
    assert reference.write(handle_id, 0, b"") == 0
    assert reference.write(handle_id, 0, b"abc") == 3
    assert reference.read(handle_id, 3, 10) == b""
    assert reference.read(handle_id, 2**40, 10) == b""
    assert reference.read(handle_id, 0, 0) == b""
    assert reference.write(handle_id, 6, b"z") == 1
    assert reference.read(handle_id, 0, 10) == b"abc\0\0\0z"


# -- Handles --------------------------------------------------------------------------------


@pytest.mark.parametrize("handle_id", ["closed", "unknown", "17", "", "-1", "x" * 3000, "é", "0x1"])
def test_cases_12_13_wrong_handles(reference: Reference, base: str, handle_id: str) -> None:
    if handle_id == "closed":
        handle_id = reference.open(f"{base}/f", create=True, read=True, write=True)
        reference.close(handle_id)
    for call in (
        lambda: reference.read(handle_id),
        lambda: reference.read(handle_id, 0, 2**22),
        lambda: reference.write(handle_id, 0, b"x"),
        lambda: reference.write(handle_id, 0, b""),
        lambda: reference.close(handle_id),
    ):
        with raises("InvalidHandle"):
            call()


def test_cases_14_15_handle_ids_and_close(reference: Reference, base: str) -> None:
    handle_id = reference.open(f"{base}/f", create=True, write=True)
    reference.write(handle_id, 0, b"x")
    answer = reference.http.post("close", json={"handle_id": handle_id, "sync": True})
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-length" not in answer.headers


def test_case_16_the_flags_of_a_handle_hold(reference: Reference, base: str) -> None:
    reference.write_file(f"{base}/f", b"old")
    reader = reference.open(f"{base}/f", read=True)
    writer = reference.open(f"{base}/f", write=True)
    with raises("PermissionDenied"):
        reference.write(reader, 0, b"new")
    with raises("PermissionDenied"):
        reference.read(writer)
    with raises("PermissionDenied"):
        reference.read(writer, 0, 2**22)  # the streamed form has a status, too
    assert reference.read_file(f"{base}/f") == b"old"


def test_an_open_directory_is_not_read(reference: Reference, base: str) -> None:
    """The refusal names the directory, in both forms of read."""
    handle_id = reference.open(base, read=True)
    for size in (10, 2**22):
        with pytest.raises(RefusedError, match="is a directory: /work") as caught:
            reference.read(handle_id, 0, size)
        assert caught.value.kind == "IsDirectory"
    with raises("IsDirectory"):
        reference.open(base, write=True)


def test_case_18_handles_belong_to_a_namespace(fleet: Fleet, reference: Reference) -> None:
    handle_id = reference.open("/f", create=True, read=True, write=True)
    reference.write(handle_id, 0, b"mine")
    with httpx2.Client(base_url=f"{fleet.url}/{new_name()}/api/v1/") as http:
        other = Reference(http, blank="+")
        for call in (
            lambda: other.read(handle_id),
            lambda: other.write(handle_id, 0, b"yours"),
            lambda: other.close(handle_id),
        ):
            with raises("InvalidHandle"):
                call()
    assert reference.read(handle_id) == b"mine"


# -- Directories ----------------------------------------------------------------------------


def test_case_19_mkdir(reference: Reference, base: str) -> None:
    reference.mkdir(f"{base}/d")
    assert reference.stat(f"{base}/d")["file_type"] == "directory"
    answer = reference.http.get("readdir", params={"path": f"{base}/d"})
    assert answer.content == b"[]"


def test_case_20_nested_directories(reference: Reference, base: str) -> None:
    paths = [f"{base}/a", f"{base}/a/b", f"{base}/a/b/c"]
    for path in paths:
        reference.mkdir(path)
    reference.write_file(f"{paths[-1]}/f", b"deep")
    assert reference.stat(f"{paths[-1]}/f")["file_type"] == "regular"
    for path in [f"{paths[-1]}/f", *reversed(paths)]:
        reference.remove(path)
    assert reference.readdir(base) == []


def test_cases_21_22_listings(reference: Reference, base: str) -> None:
    names = [f"{number:02}" for number in range(100)] + ["Z", "a", "é", "-", "~", "0/.."[:1]]
    for name in set(names):
        reference.upload(f"{base}/{name}", b"1")
    entries = reference.readdir(base)
    expected = sorted({f"{base}/{name}" for name in names}, key=str.encode)
    assert [entry["path"] for entry in entries] == expected
    assert all(entry["size"] == 1 for entry in entries)
    with raises("NotDirectory"):
        reference.readdir(f"{base}/00")
    with raises("NotFound"):
        reference.readdir(f"{base}/none")


def test_case_23_the_root_lists_new_files(reference: Reference) -> None:
    reference.upload("/new", b"")
    assert "/new" in [entry["path"] for entry in reference.readdir("/")]


def test_cases_24_25_26_remove_and_mkdir(reference: Reference, base: str) -> None:
    reference.mkdir(f"{base}/d")
    reference.upload(f"{base}/d/f", b"")
    with raises("DirectoryNotEmpty"):
        reference.remove(f"{base}/d")
    for taken in (f"{base}/d", f"{base}/d/f", base, "/mem"):
        with raises("AlreadyExists"):
            reference.mkdir(taken)
    for orphan in (f"{base}/none/d", f"{base}/none/none/d"):
        with raises("NotFound"):
            reference.mkdir(orphan)
        with raises("NotFound"):
            reference.open(orphan, create=True, write=True)
        with raises("NotFound"):
            reference.upload(orphan, b"")
    with raises("NotDirectory"):
        reference.upload(f"{base}/d/f/child", b"")
    for root in ("/", "", "/mem", "/mem/", "//", "/x/.."):
        with raises("PermissionDenied"):
            reference.remove(root)


_NAMES = ["a b", " lead", "trail ", ".hidden", "...", "ünïcødé", "日本語", "😀", "a+b", "a%2Fb"]
_NAMES += ["a%b", "a&b=c", "a#b?c", "x" * 255, "tab\there", "new\nline", '"quoted"', "back\\slash"]
_NAMES += ["\x7f", "handle", "~", "*", "é", "e\u0301", "\u202e", "-rf", "a:b", "nul", "\ufeff"]


@pytest.mark.parametrize("name", _NAMES)
def test_case_27_names(reference: Reference, base: str, name: str) -> None:
    path = f"{base}/{name}"
    reference.write_file(path, name.encode())
    assert reference.stat(path)["path"] == path
    assert [entry["path"] for entry in reference.readdir(base)] == [path]
    assert reference.download(path).content == name.encode()
    assert reference.upload(path, b"")["path"] == path
    reference.wstat(path, name=f"{base}/other")
    reference.wstat(f"{base}/other", name=path)
    reference.remove(path)
    assert reference.readdir(base) == []


def test_case_27_long_paths(reference: Reference, base: str) -> None:
    path = base
    while len(path) < 3700:
        path += "/" + "d" * 200
        reference.mkdir(path)
    reference.write_file(f"{path}/f", b"deep")
    assert reference.read_file(f"{path}/f") == b"deep"
    assert len(reference.readdir(path)) == 1
    with raises("InvalidArgument"):
        reference.stat(f"{path}/" + "x/" * 400)
    with raises("InvalidArgument"):
        reference.stat(f"{base}/" + "x" * 256)


# -- Metadata changes -----------------------------------------------------------------------


def test_cases_28_29_30_37_attributes(reference: Reference, base: str) -> None:
    path = f"{base}/f"
    reference.write_file(path, b"hello world")
    reference.wstat(path, mode=0o755)
    assert reference.stat(path)["mode"] & 0o777 == 0o755
    reference.wstat(path, size=5)
    assert reference.read_file(path) == b"hello"
    reference.wstat(path, size=8)
    assert reference.read_file(path) == b"hello\0\0\0"
    reference.wstat(path, atime=1_000_000_001, mtime=1_000_000_002)
    info = reference.stat(path)
    assert (info["atime"], info["mtime"]) == (1_000_000_001, 1_000_000_002)
    with raises("IsDirectory"):
        reference.wstat(base, size=0)
    reference.wstat(path, mode=None, size=None, name=None)
    assert reference.stat(path)["size"] == 8


def test_case_37_chown(reference: Reference, base: str) -> None:
    path = f"{base}/f"
    reference.write_file(path, b"")
    before = reference.stat(path)
    reference.wstat(path, uid=before["uid"], gid=before["gid"])
    assert reference.stat(path)["uid"] == before["uid"]


def test_empty_changes_need_the_file(reference: Reference, base: str) -> None:
    with raises("NotFound"):
        reference.wstat(f"{base}/none")
    reference.wstat(base)


def test_cases_31_to_35_rename(reference: Reference, base: str) -> None:
    for name in ("d", "d/sub", "empty", "full"):
        reference.mkdir(f"{base}/{name}")
    for name in ("f", "d/sub/deep", "full/f"):
        reference.write_file(f"{base}/{name}", name.encode())
    reference.wstat(f"{base}/f", name=f"{base}/g")
    assert not reference.exists(f"{base}/f")
    reference.wstat(f"{base}/g", name=f"{base}/full/g")
    assert reference.read_file(f"{base}/full/g") == b"f"
    reference.wstat(f"{base}/full/g", name=f"{base}/full/f")  # replaces
    assert reference.read_file(f"{base}/full/f") == b"f"
    with raises("DirectoryNotEmpty"):
        reference.wstat(f"{base}/d", name=f"{base}/full")
    with raises("IsDirectory"):
        reference.wstat(f"{base}/full/f", name=f"{base}/empty")
    with raises("NotDirectory"):
        reference.wstat(f"{base}/empty", name=f"{base}/full/f")
    with raises("NotFound"):
        reference.wstat(f"{base}/none", name=f"{base}/x")
    with raises("NotFound"):
        reference.wstat(f"{base}/d", name=f"{base}/none/d")
    with raises("InvalidArgument"):
        reference.wstat(f"{base}/d", name=f"{base}/d/sub/d")
    reference.wstat(f"{base}/d", name=f"{base}/empty")
    assert reference.read_file(f"{base}/empty/sub/deep") == b"d/sub/deep"
    assert not reference.exists(f"{base}/d")
    reference.wstat(f"{base}/empty", name=f"{base}/empty")
    assert [entry["path"] for entry in reference.readdir(f"{base}/empty")] == [f"{base}/empty/sub"]


def test_case_33_a_bare_name_is_a_path_from_the_root(reference: Reference) -> None:
    reference.mkdir("/d")
    reference.write_file("/d/a", b"a")
    reference.wstat("/d/a", name="b")
    assert reference.read_file("/b") == b"a"


def test_case_36_no_rename_across_mounts(reference: Reference) -> None:
    reference.write_file("/f", b"f")
    with pytest.raises(RefusedError, match="cannot rename across mount points") as caught:
        reference.wstat("/f", name="/mem/f")
    assert caught.value.status == 400
    for source, target in (("/mem", "/other"), ("/", "/x")):
        with pytest.raises(RefusedError) as caught:
            reference.wstat(source, name=target)
        assert caught.value.status in {400, 403}
    assert reference.read_file("/f") == b"f"


def test_case_38_symbolic_links(reference: Reference, base: str) -> None:
    reference.write_file(f"{base}/f", b"content")
    for target in ("f", "/etc/passwd", "../../..", "none", "dir with blank/ü"):
        reference.wstat(f"{base}/l", symlink_target=target)
        info = reference.stat(f"{base}/l")
        assert (info["file_type"], info["symlink_target"]) == ("symlink", target)
        assert info["size"] == len(target.encode())
        for refused_call in (
            lambda: reference.download(f"{base}/l"),
            lambda: reference.read_file(f"{base}/l"),
            lambda: reference.open(f"{base}/l", write=True, create=True),
            lambda: reference.readdir(f"{base}/l"),
            lambda: reference.wstat(f"{base}/l", symlink_target="again"),
        ):
            with pytest.raises(RefusedError) as caught:
                refused_call()
            assert caught.value.status in {400, 409}
        reference.remove(f"{base}/l")
    assert "symlink_target" not in reference.stat(f"{base}/f")
    with raises("NotFound"):
        reference.wstat(f"{base}/none/l", symlink_target="x")
    with raises("AlreadyExists"):
        reference.wstat(base, symlink_target="x")


# -- Open flags -----------------------------------------------------------------------------


def test_case_40_append(reference: Reference, base: str) -> None:
    path = f"{base}/f"
    reference.write_file(path, b"start")
    handles = [reference.open(path, write=True, append=True) for _ in range(2)]
    assert reference.write(handles[0], 0, b"_appended") == 9
    assert reference.write(handles[1], 3, b"_again") == 6
    reference.write(handles[0], 1, b"!")
    assert reference.read_file(path) == b"start_appended_again!"


def test_cases_41_42_create_and_truncate(reference: Reference, base: str) -> None:
    path = f"{base}/f"
    reference.write_file(path, b"long content")
    reference.close(reference.open(path, write=True, create=True))
    assert reference.read_file(path) == b"long content"
    reference.write_file(path, b"short")
    assert reference.read_file(path) == b"short"
    with raises("NotFound"):
        reference.open(f"{base}/none", read=True)
    handle_id = reference.open(path, create=True, exclusive=False, write=True)
    reference.close(handle_id)
    with raises("AlreadyExists"):
        reference.open(path, create=True, exclusive=True, write=True)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"path":"/f"}', 422),
        ('{"path":"/f","flags":3}', 422),
        ('{"path":"/f","flags":null}', 422),
        ('{"path":"/f","flags":[]}', 422),
        ('{"path":"/f","flags":{"read":1}}', 422),
        ('{"path":"/f","flags":{"read":"true"}}', 422),
        ('{"path":"/f","flags":{"read":null}}', 422),
        ('{"path":7,"flags":{}}', 422),
        ('{"path":null,"flags":{}}', 422),
        ('{"flags":{}}', 422),
        ("[]", 422),
        ("null", 422),
        ('"text"', 422),
        ("", 400),
        ("{", 400),
        ('{"path":"/f","flags":{}}x', 400),
        ("{'path':'/f'}", 400),
        ('{"path":"\xff","flags":{}}', 400),
        ('{"path":"/f","flags":{}}', 404),
        ('{"path":"/f","flags":{"read":true},"more":[1,{"a":2}]}', 404),
        ('{"path":"/f","flags":{"read":true,"new":1}}', 404),
    ],
)
def test_case_42_strict_json(api: httpx2.Client, body: str, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    answer = api.post("open", content=body.encode("latin-1"), headers=headers)
    assert refused(answer)[0] == status


@pytest.mark.parametrize("value", ["-1", "1.0", '"1"', "true", "null", "1e2", "[]"])
@pytest.mark.parametrize("field", ["offset", "size"])
def test_numbers_are_strict(api: httpx2.Client, field: str, value: str) -> None:
    fields = {"handle_id": '"h"', "offset": "0", "size": "1"} | {field: value}
    body = "{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"
    answer = api.post("read", content=body, headers={"Content-Type": "application/json"})
    assert refused(answer)[0] == 422


@pytest.mark.parametrize("changes", [{"mode": -1}, {"mode": 2**32}, {"size": 1.5}, {"uid": "0"}])
def test_changes_are_strict(api: httpx2.Client, changes: dict[str, Any]) -> None:
    assert refused(api.post("wstat", json={"path": "/", "changes": changes}))[0] == 422


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 404),
        ("application/json; charset=utf-8", 404),
        ("Application/JSON", 404),
        ("application/problem+json", 404),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/jsonp", 415),
        (None, 415),
    ],
)
def test_content_types(api: httpx2.Client, content_type: str | None, status: int) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = b'{"path":"/none","flags":{"read":true}}'
    assert refused(api.post("open", content=body, headers=headers))[0] == status


@pytest.mark.parametrize("query", ["", "?", "?Path=/", "?path=/&path=/", "?path=/&%70ath=/x"])
def test_missing_and_repeated_query_fields(api: httpx2.Client, query: str) -> None:
    for route in ("stat", "readdir", "statfs", "download", "capabilities"):
        assert refused(api.get(route + query))[0] == 400
    assert refused(api.delete("remove" + query))[0] == 400
    assert refused(api.put("upload" + query, content=b"x"))[0] == 400


@pytest.mark.parametrize("offset", ["", "-1", "+1", "1.0", "x", "0x1", "٣", "1" * 30])
def test_query_numbers_are_strict(reference: Reference, offset: str) -> None:
    handle_id = reference.open("/f", create=True, write=True)
    answer = reference.http.post("write", params={"handle_id": handle_id, "offset": offset})
    assert refused(answer)[0] == 400


def test_case_43_nul_bytes_survive(reference: Reference, base: str) -> None:
    content = bytes(range(256)) * 3
    reference.write_file(f"{base}/f", content)
    assert reference.read_file(f"{base}/f") == content
    assert reference.download(f"{base}/f").content == content


# -- Download and upload --------------------------------------------------------------------


def test_case_44_upload_and_download(reference: Reference, base: str) -> None:
    content = random.Random(44).randbytes(3_000_000)
    reply = reference.upload(f"{base}/f", content)
    assert reply == {"path": f"{base}/f", "bytes_written": 3_000_000}
    pieces = (content[at : at + 70_001] for at in range(0, len(content), 70_001))
    assert reference.upload(f"{base}/g", pieces)["bytes_written"] == 3_000_000
    for name in "fg":
        query = {"path": f"{base}/{name}"}
        with reference.http.stream("GET", "download", params=query) as answer:
            assert answer.headers["content-length"] == "3000000"
            assert b"".join(answer.iter_bytes()) == content


def test_case_45_headers_of_a_download(reference: Reference, base: str) -> None:
    reference.upload(f"{base}/page.html", b"<p>")
    answer = reference.download(f"{base}/page.html")
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == "3"
    assert answer.headers["content-type"].startswith("text/html")
    assert re.fullmatch('"[^"]+"', answer.headers["etag"])
    assert "last-modified" in answer.headers
    reference.upload(f"{base}/empty", b"")
    for byte_range in (None, "bytes=0-", "bytes=0-0", "bytes=-1"):
        answer = reference.download(f"{base}/empty", byte_range)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == "0"


_ALL = range(1000)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-499", _ALL[:500]),
        ("bytes=500-", _ALL[500:]),
        ("bytes=-200", _ALL[800:]),
        ("bytes=0-0", _ALL[:1]),
        ("bytes=999-999", _ALL[999:]),
        ("bytes=0-999", _ALL),
        ("bytes=100-1000000", _ALL[100:]),
        ("bytes=-5000", _ALL),
        ("bytes=0-18446744073709551616", _ALL),
    ],
)
def test_case_46_ranges(reference: Reference, base: str, asked: str, expected: range) -> None:
    content = random.Random(46).randbytes(1000)
    reference.upload(f"{base}/f", content)
    answer = reference.download(f"{base}/f", asked)
    assert answer.status_code == 206
    assert answer.content == content[expected.start : expected.stop]
    assert answer.headers["content-range"] == f"bytes {expected.start}-{expected.stop - 1}/1000"
    assert answer.headers["content-length"] == str(len(expected))


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=1000-2000", "bytes=-0"])
def test_case_47_unsatisfiable_ranges(reference: Reference, base: str, asked: str) -> None:
    reference.upload(f"{base}/f", b"x" * 1000)
    query, headers = {"path": f"{base}/f"}, {"Range": asked}
    answer = reference.http.get("download", params=query, headers=headers)
    assert refused(answer)[0] == 416
    assert answer.headers["content-range"] == "bytes */1000"


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "lines=0-1", "bytes=0-1,4-5", "bytes=", "bytes=a-b", "0-5", "bytes=--1"]
)
def test_case_47_malformed_ranges_are_ignored(reference: Reference, base: str, asked: str) -> None:
    reference.upload(f"{base}/f", b"0123456789")
    answer = reference.download(f"{base}/f", asked)
    assert (answer.status_code, answer.content) == (200, b"0123456789")


def test_case_49_an_upload_that_is_too_large(reference: Reference, base: str) -> None:
    reference.upload(f"{base}/f", b"old")

    headers = {"Content-Length": str(300 * 2**20), "Expect": "100-continue"}
    query = {"path": f"{base}/f"}
    request = reference.http.build_request("PUT", "upload", params=query, headers=headers)
    # Sent by hand, since the client would send the body at once.
    with socket.create_connection((request.url.host, request.url.port), timeout=10) as raw:
        fields = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        target = request.url.raw_path.decode()
        raw.sendall(f"PUT {target} HTTP/1.1\r\n{fields}\r\n".encode())
        answer = raw.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"kind":"PayloadTooLarge"' in answer
    assert reference.read_file(f"{base}/f") == b"old"


def test_case_50_download_of_what_is_no_file(reference: Reference, base: str) -> None:
    with raises("NotFound"):
        reference.download(f"{base}/none")
    with raises("IsDirectory"):
        reference.download(base)
    with raises("IsDirectory"):
        reference.upload(base, b"x")


# -- Mounts, statfs, capabilities, events ---------------------------------------------------


def test_cases_51_52_53_mounts_capabilities_statfs(reference: Reference) -> None:
    mounts = [(entry["path"], entry["provider_name"]) for entry in reference.mounts()]
    assert mounts == [("/", "localfs"), ("/mem", "memfs")]
    ten = ["read", "write", "create", "delete", "rename", "truncate", "chmod", "chown"]
    ten += ["symlink", "directory"]
    for path, name in (("/", "localfs"), ("", "localfs"), ("/mem", "memfs"), ("/mem/", "memfs")):
        assert reference.capabilities(path) == {"capabilities": ten, "provider_type": name}
    for path in ("/", "/mem"):
        numbers = reference.statfs(path)
        assert set(numbers) == {
            "total_bytes",
            "free_bytes",
            "total_inodes",
            "free_inodes",
            "block_size",
            "max_name_len",
        }
        assert numbers["total_bytes"] >= numbers["free_bytes"] > 0
        assert numbers["total_inodes"] >= numbers["free_inodes"] > 0
        assert 0 < numbers["block_size"] < 2**32
        assert numbers["max_name_len"] == 255


def test_statfs_of_memfs_counts(reference: Reference) -> None:
    before = reference.statfs("/mem")
    reference.upload("/mem/f", b"x" * 5000)
    after = reference.statfs("/mem")
    assert before["free_bytes"] - after["free_bytes"] >= 5000
    assert before["free_inodes"] - after["free_inodes"] == 1
    assert after["total_bytes"] == before["total_bytes"] == 2**30


def test_case_54_events(reference: Reference) -> None:
    reference.mkdir("/d")
    reference.upload("/d/a", b"1")
    handle_id = reference.open("/d/b", create=True, write=True)
    reference.write(handle_id, 0, b"never recorded")
    reference.wstat("/d/b", mode=0o600)
    reference.wstat("/d/b", size=3)
    reference.wstat("/d/b", name="/d/c")
    reference.remove("/d/a")
    with raises("NotFound"):
        reference.remove("/d/a")
    events = reference.events()
    assert [(event["event_type"], event["path"]) for event in events] == [
        ("delete", "/d/a"),
        ("rename", "/d/b"),
        ("truncate", "/d/b"),
        ("chmod", "/d/b"),
        ("create", "/d/b"),
        ("upload", "/d/a"),
        ("mkdir", "/d"),
    ]
    assert all(
        set(event) == {"timestamp", "event_type", "path", "user", "count"} for event in events
    )
    assert {event["user"] for event in events} == {"anonymous"}
    assert reference.events(limit=2, offset=1) == events[1:3]
    assert reference.events(path="/d/b") == events[1:5]
    assert reference.events(path="/d/b", type="chmod", limit=1) == events[3:4]
    assert reference.events(limit=0) == []
    assert reference.events(offset=100) == []
    with pytest.raises(RefusedError, match="unknown event type: nothing") as caught:
        reference.events(type="nothing")
    assert caught.value.status == 400


def test_case_54_equal_events_within_a_second_merge(reference: Reference) -> None:
    for _ in range(5):
        reference.upload("/f", b"x")
    events = reference.events(type="upload")
    assert sum(event["count"] for event in events) == 5
    assert len(events) <= 3  # the machine may be slow, yet not that slow


# -- Several providers in one namespace -----------------------------------------------------


@pytest.fixture
def default(default_api: httpx2.Client) -> Reference:
    return Reference(default_api, blank="%20")


def test_mounts_of_three_providers(default: Reference) -> None:
    assert default.mounts() == [
        {"path": "/", "provider_name": "memfs"},
        {"path": "/data", "provider_name": "localfs"},
        {"path": "/hello", "provider_name": "hellofs"},
    ]
    listed = {entry["path"]: entry["file_type"] for entry in default.readdir("/")}
    assert listed["/data"] == listed["/hello"] == "directory"
    for path in ("/data", "/hello", "/data/", "data"):
        assert default.stat(path)["file_type"] == "directory"
    assert default.readdir("/hello")[0]["path"].startswith("/hello/")
    for path in ("/data", "/hello"):
        with raises("PermissionDenied"):
            default.remove(path)
        with raises("AlreadyExists"):
            default.mkdir(path)
        with pytest.raises(RefusedError):
            default.wstat(path, name="/elsewhere")


def test_capabilities_inside_a_mount(default: Reference) -> None:
    assert default.capabilities("/hello/any/path")["provider_type"] == "hellofs"
    assert default.capabilities("/hellos")["provider_type"] == "memfs"
    assert default.capabilities("/data/x")["provider_type"] == "localfs"


def test_case_36_across_every_pair_of_mounts(default: Reference) -> None:
    name = new_name()
    default.write_file(f"/{name}", b"x")
    for target in (f"/data/{name}", f"/hello/{name}"):
        with pytest.raises(RefusedError, match="cannot rename across mount points") as caught:
            default.wstat(f"/{name}", name=target)
        assert caught.value.status == 400
    default.remove(f"/{name}")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"mode": 0o600}, "chmod"),
        ({"uid": 0}, "chown"),
        ({"gid": 0}, "chown"),
        ({"size": 0}, "truncate"),
        ({"name": "/hello/x"}, "rename"),
        ({"symlink_target": "x"}, "symlink"),
        ({"mtime": 1}, "utime"),
        ({"mode": 1, "uid": 1, "size": 1, "name": "x"}, "chmod"),
    ],
)
def test_case_39_unsupported_changes(
    default: Reference, changes: dict[str, Any], name: str
) -> None:
    body = {"path": "/hello/none", "changes": changes}
    answer = default.http.post("wstat", json=body)
    assert refused(answer)[::2] == (501, f"not implemented: {name}")


def test_empty_changes_on_a_limited_provider(default: Reference) -> None:
    with raises("NotFound"):
        default.wstat("/hello/none")
    default.wstat(default.readdir("/hello")[0]["path"])


def test_classify_is_what_the_reference_does() -> None:
    """The table of contract http.md section 1.2 that the tests above rely on."""
    assert classify(400, "Not A Directory: /handle") == "NotDirectory"
    assert classify(400, "invalid argument: bad handle") == "InvalidHandle"
    assert classify(507, "quota") == "Fs9Error"
    assert len(FILE_KEYS) == 10
