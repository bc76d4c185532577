"""The promises of docs/http-api.md about mounts, statfs and events, over real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import new_name
from tests.e2e.reference import FILE_KEYS, Reference, RefusedError, classify, raises, refused

if TYPE_CHECKING:
    import httpx2

# -- Mounts, statfs, capabilities, events ---------------------------------------------------


def test_mounts_capabilities_statfs(reference: Reference) -> None:
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


def test_events(reference: Reference) -> None:
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


def test_equal_events_within_a_second_merge(reference: Reference) -> None:
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


def test_across_every_pair_of_mounts(default: Reference) -> None:
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
def test_unsupported_changes(default: Reference, changes: dict[str, Any], name: str) -> None:
    body = {"path": "/hello/none", "changes": changes}
    answer = default.http.post("wstat", json=body)
    assert refused(answer)[::2] == (501, f"not implemented: {name}")


def test_empty_changes_on_a_limited_provider(default: Reference) -> None:
    with raises("NotFound"):
        default.wstat("/hello/none")
    default.wstat(default.readdir("/hello")[0]["path"])


def test_classify_is_what_the_reference_does() -> None:
    """Such a client chooses the class of an error by words in its text; the tests rely on it."""
    assert classify(400, "Not A Directory: /handle") == "NotDirectory"
    assert classify(400, "invalid argument: bad handle") == "InvalidHandle"
    assert classify(507, "quota") == "Fs9Error"
    assert len(FILE_KEYS) == 10
