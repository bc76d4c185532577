"""The surface of the clients, on a real server."""

from __future__ import annotations

import inspect
import io

import pytest

from fs9.client import AsyncClient, Client
from fs9.errors import (
    AlreadyExists,
    Forbidden,
    InvalidArgument,
    InvalidHandle,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from fs9.types import READ, WRITE, Condition, OpenFlags, StatChanges
from tests.fix_http import token
from tests.fix_live import LiveServer, new_namespace


def test_both_colours_have_the_same_surface() -> None:
    """Names and parameters are equal; only waiting differs."""

    def surface(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(member).parameters)
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert surface(AsyncClient) == surface(Client)


def test_raw_handles(client: Client) -> None:
    handle = client.open("/f", OpenFlags(read=True, write=True, create=True))
    assert client.write(handle, 0, b"hello world") == 11
    assert client.read(handle, 6) == b"world"
    assert client.read(handle.handle_id, 0, 5) == b"hello"
    assert client.read(handle, 11) == b""
    client.close(handle, sync=True)
    with pytest.raises(InvalidHandle):
        client.read(handle, 0)
    with pytest.raises(NotFound):
        client.open("/missing", READ)
    with pytest.raises(NotFound):
        client.open("/missing", WRITE)


def test_file_object(client: Client) -> None:
    """Position, seeking from all three places, reading to the end."""
    with client.open_file("/f", "w+") as file:
        file.write(b"0123456789")
        assert file.seek(-3, io.SEEK_END) == 7
        assert file.read(2) == b"78"
        assert file.seek(-5, io.SEEK_CUR) == 4
        assert (file.tell(), file.read(), file.read()) == (4, b"456789", b"")
        assert file.read_at(1, 2) == b"12"
        file.write_at(0, b"ab")
        file.flush()
        file.truncate(4)
        assert file.size() == 4
        with pytest.raises(InvalidArgument):
            file.seek(-1)
    assert file.closed
    assert client.read_file("/f") == b"ab23"
    with client.open_file("/f", "ab") as file:
        file.write(b"!")
    assert client.read_file("/f") == b"ab23!"
    with pytest.raises(AlreadyExists):
        client.open_file("/f", "x")
    with pytest.raises(InvalidArgument):
        client.open_file("/f", "rt")


def test_a_file_object_larger_than_one_read(client: Client) -> None:
    data = bytes(range(256)) * 10_000
    client.write_file("/f", data)
    with client.open_file("/f") as file:
        assert file.read() == data


def test_write_append_and_read(client: Client) -> None:
    assert client.write_file("/f", b"one") == 3
    client.append_file("/f", b" two")
    assert client.read_file("/f") == b"one two"
    client.write_file("/f", b"3", in_place=True)
    assert client.read_file("/f") == b"3"
    with pytest.raises(NotFound):
        client.append_file("/missing", b"x", create=False)


def test_questions(client: Client) -> None:
    client.mkdir("/d")
    client.write_file("/d/f", b"")
    client.symlink("/d/l", "f")
    assert [client.exists(path) for path in ("/d", "/d/f", "/d/x", "/d/f/x")][:3] == [
        True,
        True,
        False,
    ]
    assert (client.is_dir("/d"), client.is_dir("/d/f"), client.is_dir("/x")) == (True, False, False)
    assert (client.is_file("/d/f"), client.is_file("/d/l")) == (True, False)
    assert client.listdir("/d") == ["f", "l"]


def test_following_links(client: Client) -> None:
    """At the end and on the way, relative, absolute, upwards; loops and gaps are errors."""
    client.makedirs("/a/b")
    client.write_file("/a/b/f", b"")
    client.symlink("/a/up", "../a/./b/")
    client.symlink("/root", "/")
    client.symlink("/chain", "root/a/up/f")
    client.symlink("/loop", "loop")
    client.symlink("/dangling", "a/missing")
    for path in ("/a/b/f", "/a/up/f", "/root/a/up/f", "/chain"):
        assert client.stat(path, follow=True).path == "/a/b/f"
    assert client.stat("/root", follow=True).path == "/"
    assert client.stat("/chain").is_symlink
    with pytest.raises(InvalidArgument, match="too many"):
        client.stat("/loop", follow=True)
    for path in ("/dangling", "/missing", "/a/missing/x"):
        with pytest.raises(NotFound):
            client.stat(path, follow=True)


def test_directories(client: Client) -> None:
    with pytest.raises(NotFound):
        client.mkdir("/a/b/c")
    client.mkdir("/a/b/c", parents=True)
    client.makedirs("/a/b/c")
    client.mkdir("/a", exist_ok=True)
    with pytest.raises(AlreadyExists):
        client.mkdir("/a")
    client.write_file("/f", b"")
    with pytest.raises(AlreadyExists):
        client.makedirs("/f")


def test_scandir_pages(client: Client) -> None:
    """Every entry comes once, whatever the size of a page."""
    client.mkdir("/d")
    names = [f"{number:03}" for number in range(25)]
    for name in names:
        client.write_file(f"/d/{name}", b"")
    for page in (1, 7, 25, 100):
        assert [entry.path[3:] for entry in client.scandir("/d", page=page)] == names


def test_walk(client: Client) -> None:
    client.makedirs("/t/a/b")
    client.makedirs("/t/c")
    client.write_file("/t/a/f", b"")
    found = [
        (path, [entry.path for entry in directories], [entry.path for entry in others])
        for path, directories, others in client.walk("/t")
    ]
    assert found == [
        ("/t", ["/t/a", "/t/c"], []),
        ("/t/a", ["/t/a/b"], ["/t/a/f"]),
        ("/t/a/b", [], []),
        ("/t/c", [], []),
    ]
    pruned = []
    for path, directories, _ in client.walk("/t"):
        pruned.append(path)
        directories.clear()
    assert pruned == ["/t"]


def test_attributes(client: Client) -> None:
    client.write_file("/f", b"12345")
    client.chmod("/f", 0o751)
    client.chown("/f", 7, 8)
    client.utime("/f", atime_s=11, mtime_s=12)
    client.truncate("/f", 3)
    info = client.stat("/f")
    assert (info.mode, info.uid, info.gid, info.size) == (0o751, 7, 8, 3)
    client.rename("/f", "/g")
    client.remove("/g", Condition(if_match=(client.stat("/g").etag,)))
    assert client.listdir("/") == ["hello", "local"]
    client.wstat("/local", StatChanges())


def test_namespace_questions(client: Client) -> None:
    assert client.health().status == "ok"
    assert client.statfs().total_bytes > 0
    assert "read" in client.capabilities("/hello").capabilities
    assert [mount.path for mount in client.mounts()] == ["/", "/hello", "/local"]
    client.mkdir("/d")
    event = client.events(limit=1)[0]
    assert (event.event_type, event.path, event.user) == ("mkdir", "/d", "anonymous")
    assert client.events(path="/other") == []
    with pytest.raises(InvalidArgument):
        client.events(event_type="dance")


def test_namespaces_and_tokens(live_auth: LiveServer) -> None:
    name = new_namespace()
    with Client(live_auth.url, token("default", "admin")) as admin:
        assert admin.create_namespace(name).created_by == "alice"
        with pytest.raises(AlreadyExists):
            admin.create_namespace(name)
        assert name in {found.name for found in admin.namespaces()}
        assert admin.namespace(name).status == "active"
        with pytest.raises(NotFound):
            admin.namespace("missing")
    with Client(live_auth.url, token(name)) as user:
        user.write_file("/f", b"x")
        with pytest.raises(Forbidden):
            user.namespaces()
    with Client(live_auth.url, token(name, "read-only")) as reader:
        assert reader.read_file("/f") == b"x"
        with pytest.raises(PermissionDenied):
            reader.write_file("/f", b"y")
    with Client(live_auth.url) as nobody, pytest.raises(Unauthenticated):
        nobody.stat("/")


async def test_the_asynchronous_surface(aclient: AsyncClient) -> None:
    """A walk through what is not the same text in both colours: iteration and contexts."""
    await aclient.makedirs("/d/e")
    async with await aclient.open_file("/d/f", "w+") as file:
        await file.write(b"abc")
        await file.seek(1)
        assert await file.read() == b"bc"
    assert [entry.path async for entry in aclient.scandir("/d", page=1)] == ["/d/e", "/d/f"]
    assert [path async for path, _, _ in aclient.walk("/d")] == ["/d", "/d/e"]
    async with aclient.download_stream("/d/f") as download:
        assert download.head.size == 3
        assert [piece async for piece in download] == [b"abc"]
    assert await aclient.listdir("/d") == ["e", "f"]
