"""Whole trees: exact copies, what is left after failures, and nothing outside the target."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import pytest

from fs9.client import AsyncClient, Client, ServerUnreachable, TreeOptions
from fs9.errors import InvalidArgument, IsDirectory, NotDirectory
from tests.client.fake_server import FakeServer, Reply, answer

if TYPE_CHECKING:
    from pathlib import Path

ODD_NAMES = (
    "a b",
    "ünï",
    "quote'\"",
    "new\nline",
    "-dash",
    "a%2Fb",
    "star*?",
    "back\\slash",
    "+&=#",
)
BAD_NAMES = ("/tree/../evil", "/tree/..", "/tree/a/b", "/evil", "/tree/", "/tree/.")
OLD_S = 1_600_000_000


def make_tree(root: Path) -> None:
    """Everything that a source tree may have."""
    (root / "empty dir").mkdir(parents=True)
    (root / "src" / "deep" / "deeper").mkdir(parents=True)
    (root / ".git" / "objects" / "ab").mkdir(parents=True)
    (root / ".git" / "objects" / "ab" / "cdef").write_bytes(os.urandom(3000))
    (root / ".git" / "objects" / "ab" / "cdef").chmod(0o444)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "empty").write_bytes(b"")
    (root / "big").write_bytes(os.urandom(2_500_000))
    (root / "link").symlink_to("run.sh")
    (root / "dangling").symlink_to("/no/such/file")
    (root / "dirlink").symlink_to("src")
    for name in ODD_NAMES:
        (root / "src" / "deep" / name).write_text(name)
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            os.utime(path, (OLD_S, OLD_S))
    (root / "empty dir").chmod(0o500)


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    """Path -> type, mode, time and content of everything below `root`, itself included."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [root, *root.rglob("*")]:
        name = str(path.relative_to(root))
        info = path.lstat()
        if stat.S_ISLNK(info.st_mode):
            found[name] = ("link", os.readlink(path))
            continue
        content = path.read_bytes() if stat.S_ISREG(info.st_mode) else None
        found[name] = (stat.filemode(info.st_mode), int(info.st_mtime), content)
    return found


@pytest.mark.parametrize("mount", ["", "/local"])
def test_there_and_back(client: Client, tmp_path: Path, mount: str) -> None:
    """A tree comes back as it was: content, modes, times, links, odd names, empty ones."""
    make_tree(tmp_path / "in")
    report = client.put_tree(tmp_path / "in", f"{mount}/tree")
    assert report.failures == []
    assert (report.files, report.links) == (4 + len(ODD_NAMES), 3)
    report = client.get_tree(f"{mount}/tree", tmp_path / "out")
    assert report.failures == []
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "in")


async def test_there_and_back_asynchronously(aclient: AsyncClient, tmp_path: Path) -> None:
    make_tree(tmp_path / "in")
    assert (await aclient.put_tree(tmp_path / "in", "/tree")).failures == []
    assert (await aclient.get_tree("/tree", tmp_path / "out")).failures == []
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "in")


def test_a_second_run_sends_only_what_changed(client: Client, tmp_path: Path) -> None:
    make_tree(tmp_path / "in")
    client.put_tree(tmp_path / "in", "/tree")
    (tmp_path / "in" / "run.sh").write_text("#!/bin/bash\n")
    (tmp_path / "in" / "empty").chmod(0o600)  # only its mode
    report = client.put_tree(tmp_path / "in", "/tree")
    assert (report.files, report.skipped) == (1, 3 + len(ODD_NAMES))
    client.get_tree("/tree", tmp_path / "out")
    (tmp_path / "out" / "big").write_bytes(b"damaged")
    report = client.get_tree("/tree", tmp_path / "out")
    assert report.files == 2  # the damaged one, and the one that is too new to be sure
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "in")


def test_a_change_within_the_same_second_is_not_missed(client: Client, tmp_path: Path) -> None:
    """Same size, same second: the time says nothing, so the file is sent again."""
    source = tmp_path / "in"
    source.mkdir()
    (source / "f").write_text("one")
    mtime_ns = (source / "f").stat().st_mtime_ns
    client.put_tree(source, "/tree")
    (source / "f").write_text("two")
    os.utime(source / "f", ns=(mtime_ns, mtime_ns))
    client.put_tree(source, "/tree")
    assert client.read_file("/tree/f") == b"two"


def test_without_skipping_everything_is_sent(client: Client, tmp_path: Path) -> None:
    make_tree(tmp_path / "in")
    client.put_tree(tmp_path / "in", "/tree")
    report = client.put_tree(tmp_path / "in", "/tree", TreeOptions(skip_unchanged=False))
    assert (report.files, report.skipped) == (4 + len(ODD_NAMES), 0)


def test_one_failure_does_not_stop_the_rest(client: Client, tmp_path: Path) -> None:
    """A FIFO, and a directory where a file should go: told, and all else is there."""
    source = tmp_path / "in"
    source.mkdir()
    os.mkfifo(source / "pipe")
    for name in ("a", "b", "c"):
        (source / name).write_text(name)
    client.mkdir("/tree/b/x", parents=True)
    told: list[str] = []
    options = TreeOptions(on_failure=lambda path, error: told.append(path))
    report = client.put_tree(source, "/tree", options)
    failed = dict(report.failures)
    assert set(failed) == set(told) == {str(source / "pipe"), str(source / "b")}
    assert isinstance(failed[str(source / "b")], IsDirectory)
    assert client.read_file("/tree/a") + client.read_file("/tree/c") == b"ac"


def test_a_dead_server_ends_the_work_at_once(tmp_path: Path) -> None:
    make_tree(tmp_path / "in")
    client = Client("http://127.0.0.1:1")
    report = client.put_tree(tmp_path / "in", "/tree")
    client.disconnect()
    assert report.aborted
    ((_, error),) = report.failures
    assert isinstance(error, ServerUnreachable)


def test_put_replaces_links_and_does_not_follow_them(client: Client, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "f").write_text("new")
    (source / "l").symlink_to("f")
    client.mkdir("/tree")
    client.write_file("/victim", b"old")
    client.symlink("/tree/f", "/victim")
    client.symlink("/tree/l", "elsewhere")
    assert client.put_tree(source, "/tree").failures == []
    assert client.read_file("/victim") == b"old"
    assert client.read_file("/tree/f") == b"new"
    assert client.stat("/tree/l").symlink_target == "f"


def test_progress_reaches_the_total(client: Client, tmp_path: Path) -> None:
    make_tree(tmp_path / "in")
    seen: list[tuple[int, int | None]] = []
    client.put_tree(tmp_path / "in", "/tree", TreeOptions(progress=lambda *step: seen.append(step)))
    size = sum(path.lstat().st_size for path in (tmp_path / "in").rglob("*") if _is_file(path))
    assert seen[-1] == (size, size)


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def test_get_does_not_write_through_a_link(client: Client, tmp_path: Path) -> None:
    """A link that stands where a directory or file goes leads nowhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("precious")
    target = tmp_path / "out"
    target.mkdir()
    (target / "d").symlink_to(outside)
    (target / "f").symlink_to(outside / "f")
    client.mkdir("/tree/d", parents=True)
    client.write_file("/tree/d/f", b"evil")
    client.write_file("/tree/f", b"evil")
    report = client.get_tree("/tree", target)
    assert [path for path, _ in report.failures] == ["/tree/d"]
    assert (outside / "f").read_text() == "precious"
    assert os.listdir(outside) == ["f"]
    assert (target / "f").read_bytes() == b"evil"


def entry(path: str, kind: str = "regular", **more: object) -> str:
    values = {"path": path, "size": 4, "file_type": kind, "mode": 0o755, "uid": 0, "gid": 0}
    return json.dumps(values | {"atime": 1, "mtime": 1, "ctime": 1, "etag": "e"} | more)


@pytest.mark.parametrize("bad", BAD_NAMES)
def test_names_that_lead_out_are_refused(tmp_path: Path, bad: str) -> None:
    """A hostile server lists such a name: nothing is written for it, the rest is."""
    replies = [
        answer(body=entry("/tree", "directory").encode()),
        answer(body=f"[{entry(bad)},{entry('/tree/good')}]".encode()),
        answer(body=b"data", etag='"e"'),
    ]
    with FakeServer(replies) as server, Client(server.url) as client:
        report = client.get_tree("/tree", tmp_path / "out")
    assert len(report.failures) == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "good"]


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    """First a link, then a directory of the same name: the second would lead through it."""
    link = entry("/tree/x", "symlink", symlink_target=str(tmp_path))
    replies: list[Reply] = [
        answer(body=entry("/tree", "directory").encode()),
        answer(body=f"[{link},{entry('/tree/x', 'directory')}]".encode()),
    ]
    with FakeServer(replies) as server, Client(server.url) as client:
        report = client.get_tree("/tree", tmp_path / "out")
    assert len(report.failures) == 1
    assert (tmp_path / "out" / "x").is_symlink()


def test_copy_tree(client: Client, tmp_path: Path) -> None:
    """A copy on the server comes back as the original does."""
    make_tree(tmp_path / "in")
    client.put_tree(tmp_path / "in", "/tree")
    assert client.copy_tree("/tree", "/local/copy").failures == []
    client.get_tree("/local/copy", tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "in")
    with pytest.raises(InvalidArgument):
        client.copy_tree("/tree", "/tree/src/copy")


def test_remove_tree(client: Client, tmp_path: Path) -> None:
    """All of it goes, links themselves only."""
    make_tree(tmp_path / "in")
    client.put_tree(tmp_path / "in", "/tree")
    client.write_file("/kept", b"x")
    client.symlink("/tree/out", "/kept")
    report = client.remove_tree("/tree")
    assert report.failures == []
    assert not client.exists("/tree")
    assert client.read_file("/kept") == b"x"


def test_a_file_is_no_tree(client: Client, tmp_path: Path) -> None:
    """What is wrong with the whole is raised, not reported."""
    client.write_file("/f", b"x")
    (tmp_path / "f").write_text("x")
    with pytest.raises(NotADirectoryError):
        client.put_tree(tmp_path / "f", "/g")
    with pytest.raises(NotDirectory):
        client.get_tree("/f", tmp_path / "g")
