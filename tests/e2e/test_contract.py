"""The file API over real sockets, as docs/http-api.md promises it to clients of other servers.

Bytes in and out are in test_contract_transfers.py, what a namespace is made of in
test_contract_mounts.py, authentication in test_auth.py.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.e2e.conftest import new_name
from tests.e2e.reference import Reference, RefusedError, raises, refused

if TYPE_CHECKING:
    from tests.fix_fleet import Fleet

# -- Basics ---------------------------------------------------------------------------------


def test_health(fleet: Fleet, guarded: Fleet) -> None:
    for url in (fleet.url, guarded.url):
        answer = httpx2.get(f"{url}/health")
        assert answer.status_code == 200
        assert '"status":"ok"' in answer.text
        assert re.fullmatch("[0-9a-f]{8}", answer.json()["instance_id"])


def test_write_close_stat_read(reference: Reference, base: str) -> None:
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


def test_whole_files(reference: Reference, base: str) -> None:
    content = random.Random(4).randbytes(100_000)
    assert reference.write_file(f"{base}/f", content) == 100_000
    assert reference.read_file(f"{base}/f") == content
    assert reference.stat(f"{base}/f")["size"] == 100_000


def test_large_reads(reference: Reference, base: str) -> None:
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


def test_missing_paths(reference: Reference, base: str) -> None:
    status, kind, text = refused(reference.http.get("stat", params={"path": f"{base}/x"}))
    assert (status, kind, text[:11]) == (404, "NotFound", "not found: ")
    assert not reference.exists(f"{base}/x")
    reference.write_file(f"{base}/x", b"")
    assert reference.exists(f"{base}/x")
    reference.remove(f"{base}/x")
    assert not reference.exists(f"{base}/x")


def test_edges_of_reads_and_writes(reference: Reference, base: str) -> None:
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
def test_wrong_handles(reference: Reference, base: str, handle_id: str) -> None:
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


def test_handle_ids_and_close(reference: Reference, base: str) -> None:
    handle_id = reference.open(f"{base}/f", create=True, write=True)
    reference.write(handle_id, 0, b"x")
    answer = reference.http.post("close", json={"handle_id": handle_id, "sync": True})
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-length" not in answer.headers


def test_the_flags_of_a_handle_hold(reference: Reference, base: str) -> None:
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


def test_handles_belong_to_a_namespace(fleet: Fleet, reference: Reference) -> None:
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


def test_mkdir(reference: Reference, base: str) -> None:
    reference.mkdir(f"{base}/d")
    assert reference.stat(f"{base}/d")["file_type"] == "directory"
    answer = reference.http.get("readdir", params={"path": f"{base}/d"})
    assert answer.content == b"[]"


def test_nested_directories(reference: Reference, base: str) -> None:
    paths = [f"{base}/a", f"{base}/a/b", f"{base}/a/b/c"]
    for path in paths:
        reference.mkdir(path)
    reference.write_file(f"{paths[-1]}/f", b"deep")
    assert reference.stat(f"{paths[-1]}/f")["file_type"] == "regular"
    for path in [f"{paths[-1]}/f", *reversed(paths)]:
        reference.remove(path)
    assert reference.readdir(base) == []


def test_listings(reference: Reference, base: str) -> None:
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


def test_the_root_lists_new_files(reference: Reference) -> None:
    reference.upload("/new", b"")
    assert "/new" in [entry["path"] for entry in reference.readdir("/")]


def test_remove_and_mkdir(reference: Reference, base: str) -> None:
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
def test_names(reference: Reference, base: str, name: str) -> None:
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


def test_long_paths(reference: Reference, base: str) -> None:
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


def test_attributes(reference: Reference, base: str) -> None:
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


def test_chown(reference: Reference, base: str) -> None:
    path = f"{base}/f"
    reference.write_file(path, b"")
    before = reference.stat(path)
    reference.wstat(path, uid=before["uid"], gid=before["gid"])
    assert reference.stat(path)["uid"] == before["uid"]


def test_empty_changes_need_the_file(reference: Reference, base: str) -> None:
    with raises("NotFound"):
        reference.wstat(f"{base}/none")
    reference.wstat(base)


def test_to_35_rename(reference: Reference, base: str) -> None:
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


def test_a_bare_name_is_a_path_from_the_root(reference: Reference) -> None:
    reference.mkdir("/d")
    reference.write_file("/d/a", b"a")
    reference.wstat("/d/a", name="b")
    assert reference.read_file("/b") == b"a"


def test_no_rename_across_mounts(reference: Reference) -> None:
    reference.write_file("/f", b"f")
    with pytest.raises(RefusedError, match="cannot rename across mount points") as caught:
        reference.wstat("/f", name="/mem/f")
    assert caught.value.status == 400
    for source, target in (("/mem", "/other"), ("/", "/x")):
        with pytest.raises(RefusedError) as caught:
            reference.wstat(source, name=target)
        assert caught.value.status in {400, 403}
    assert reference.read_file("/f") == b"f"


def test_symbolic_links(reference: Reference, base: str) -> None:
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
