"""`fs9 snapshot`, over HTTP to a server with pagefs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx2
import pytest

from fs9.client import Client
from fs9.errors import Fs9Error
from fs9.types import READ, WRITE, MountSpec
from tests.fix_http import token
from tests.fix_live import LiveServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Fs9

_MEMORY = {"backend": {"type": "memory"}}
_TEMPLATE = (
    MountSpec("/", "pagefs", _MEMORY),
    MountSpec("/at", "pagefs", _MEMORY),
    MountSpec("/plain", "pagefs", {**_MEMORY, "control_file": False}),
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = LiveServer(tmp_path_factory.mktemp("pages"), _TEMPLATE)
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def client(pages: str, monkeypatch: pytest.MonkeyPatch, fs9: Fs9) -> Iterator[Client]:
    monkeypatch.setenv("FS9_URL", pages)
    with Client(pages) as client:
        yield client


@pytest.mark.parametrize("mount", ["/", "/at"])
def test_a_tree_is_kept_restored_and_copied(fs9: Fs9, client: Client, mount: str) -> None:
    """As one user would: a handle that is open meanwhile goes on reading the old file."""
    at = ("--mount", mount)
    top = mount.rstrip("/")
    client.write_file(f"{top}/f", b"old")
    assert fs9("snapshot", "create", "it's one", *at) == (0, "", "")
    client.write_file(f"{top}/f", b"new")
    with_handle = client.open(f"{top}/f", READ)
    assert fs9("snapshot", "fork", "it's one", "copy", *at) == (0, "", "")
    assert fs9("snapshot", "restore", "it's one", *at) == (0, "", "")
    assert client.read_file(f"{top}/f") == b"old"
    assert client.read(with_handle, 0) == b"new"
    client.close(with_handle)
    assert client.read_file(f"{top}/.forks/copy/f") == b"old"
    client.write_file(f"{top}/.forks/copy/f", b"mine")
    assert fs9("snapshot", "list", *at) == (0, "it's one\n", "")
    assert json.loads(fs9("snapshot", "list", "--json", *at)[1]) == ["it's one"]
    assert fs9("cat", f"{top}/.snapshots/.ctl")[1] == "snapshot 'it'\"'\"'s one'\nfork copy\n"
    assert fs9("snapshot", "delete", "it's one", *at) == (0, "", "")
    assert fs9("snapshot", "list", *at) == (0, "", "")


def test_watchers_are_told_of_a_restore(pages: str, client: Client, fs9: Fs9) -> None:
    """They have lost track of the mount, and of nothing beyond it."""
    assert fs9("snapshot", "create", "seen", "--mount", "/at") == (0, "", "")
    query = {"path": "/", "wait": "0"}
    cursor = httpx2.get(f"{pages}/api/v1/watch", params=query).json()["cursor"]
    assert fs9("snapshot", "restore", "seen", "--mount", "/at") == (0, "", "")
    told = httpx2.get(f"{pages}/api/v1/watch", params={**query, "since": cursor}).json()["events"]
    assert [event["path"] for event in told if event["type"] == "lost"] == ["/at"]
    assert fs9("snapshot", "delete", "seen", "--mount", "/at") == (0, "", "")


def test_what_goes_wrong(fs9: Fs9, client: Client) -> None:
    """Errors have their exit codes, and say what to do."""
    code, _, err = fs9("snapshot", "restore", "none")
    assert code == 3
    assert "fs9 snapshot list" in err
    code, _, err = fs9("snapshot", "restore", "none", "--mount", "/plain")
    assert code == 3
    assert "control_file: false" in err
    assert fs9("snapshot", "create", "a/b")[0] == 2
    assert fs9("snapshot", "create", "one", "--mount", "/plain")[0] == 0
    assert fs9("snapshot", "create", "one", "--mount", "/plain")[0] == 5
    handle = client.open("/.snapshots/.ctl", WRITE)
    with pytest.raises(Fs9Error, match="fork NAME NEW"):
        client.write(handle, 0, b"undo")
    client.close(handle)


def test_who_may_write_commands(tmp_path: Path, fs9: Fs9) -> None:
    """Only who may change everything in the mount, wherever the token is narrowed to."""
    server = LiveServer(tmp_path, _TEMPLATE, auth=True)
    server.start()
    try:
        whole = ("--url", server.url, "--token", token("default"))
        assert fs9("snapshot", "create", "one", *whole) == (0, "", "")
        for other, code in (
            (token("default", "read-only"), 4),
            (token("default", mounts=["/docs"]), 3),
            (token("default", permissions=["read", "list", "create:/.forks"]), 4),
            (token("default", mounts=["/.snapshots"]), 4),
            (token("default", permissions=["read", "list", "overwrite", "create", "delete"]), 4),
        ):
            command = ("snapshot", "restore", "one", "--url", server.url, "--token", other)
            assert fs9(*command)[0] == code
        assert fs9("snapshot", "restore", "one", *whole) == (0, "", "")
    finally:
        server.stop()
