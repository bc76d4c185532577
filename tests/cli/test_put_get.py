"""put and get: files, pipes, trees; complete or not at all, and finished when run again."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from fs9.cli.trees import MARKER
from tests.cli.test_main import start
from tests.client.fake_server import FakeServer, Reply, answer, info, problem
from tests.client.test_tree import make_tree, snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.client import Client
    from tests.cli.conftest import Fs9


def test_put_and_get_a_file(fs9: Fs9, client: Client, tmp_path: Path) -> None:
    """Content, mode and time travel; an existing directory takes the file in."""
    source = tmp_path / "run.sh"
    source.write_text("#!/bin/sh\n")
    source.chmod(0o755)
    os.utime(source, (10, 10))
    client.mkdir("/d")
    assert fs9("put", source, "/d") == (0, "", "")
    assert fs9("put", source, "/other") == (0, "", "")
    assert client.read_file("/other") == b"#!/bin/sh\n"
    target = tmp_path / "out"
    target.mkdir()
    assert fs9("get", "/d/run.sh", "/other", target) == (0, "", "")
    back = target / "run.sh"
    assert (back.read_text(), back.stat().st_mode & 0o777) == ("#!/bin/sh\n", 0o755)
    assert back.stat().st_mtime == 10
    assert sorted(os.listdir(target)) == ["other", "run.sh"]


def test_get_into_the_working_directory(
    fs9: Fs9, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.write_file("/f", b"x")
    monkeypatch.chdir(tmp_path)
    assert fs9("get", "/f") == (0, "", "")
    assert (tmp_path / "f").read_bytes() == b"x"


def test_standard_input_and_output(live_url: str, client: Client) -> None:
    process = start(live_url, "put", "-", "/f")
    out, err = process.communicate(b"from a pipe", timeout=30)
    assert (process.returncode, out, err) == (0, b"", b"")
    assert client.read_file("/f") == b"from a pipe"
    process = start(live_url, "get", "/f", "-")
    assert process.communicate(timeout=30) == (b"from a pipe", b"")


def test_a_long_pipe(live_url: str, client: Client) -> None:
    """More than fits one piece: staged, and nothing but the file is left."""
    data = os.urandom(9_000_000)
    process = start(live_url, "put", "-", "/f")
    assert process.communicate(data, timeout=60) == (b"", b"")
    assert client.read_file("/f") == data
    assert client.listdir("/") == ["f", "hello", "local"]


def test_failures_of_files(fs9: Fs9, client: Client, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    client.write_file("/old", b"old")
    assert fs9("put", tmp_path / "missing", "/x")[0] == 3
    code, _, err = fs9("put", tmp_path / "f", "/no/such/f")
    assert code == 3
    assert "fs9 mkdir -p" in err
    assert fs9("put", "-n", tmp_path / "f", "/old")[0] == 5
    assert client.read_file("/old") == b"old"
    assert fs9("put", tmp_path, "/x")[0] == 2
    assert fs9("put", tmp_path / "f", tmp_path / "missing", "/old/")[0] == 2
    assert fs9("get", "/missing", tmp_path)[0] == 3
    assert fs9("get", "/", tmp_path)[0] == 2
    assert fs9("get", "/old", tmp_path / "no" / "such")[0] == 3
    client.symlink("/loop", "loop")
    code, _, err = fs9("get", "/loop", tmp_path / "l")
    assert code == 1
    assert "too many symbolic links" in err


def test_get_follows_links_that_are_named(fs9: Fs9, client: Client, tmp_path: Path) -> None:
    """The argument may be a link, to a file or a tree; links within a tree stay links."""
    client.makedirs("/d/sub")
    client.write_file("/d/f", b"x")
    client.symlink("/d/l", "f")
    client.symlink("/to-file", "d/l")
    client.symlink("/to-tree", "/d")
    assert fs9("get", "/to-file", "/to-tree/f", tmp_path) == (0, "", "")
    assert (tmp_path / "to-file").read_bytes() == (tmp_path / "f").read_bytes() == b"x"
    assert fs9("get", "-r", "/to-tree", tmp_path / "out") == (0, "", "")
    assert (tmp_path / "out" / "l").is_symlink()


def test_trees_there_and_back(fs9: Fs9, tmp_path: Path) -> None:
    """`diff -r` finds nothing."""
    make_tree(tmp_path / "in")
    assert fs9("put", "-r", tmp_path / "in", "/tree") == (0, "", "")
    assert fs9("get", "-r", "/tree", tmp_path / "out") == (0, "", "")
    assert snapshot(tmp_path / "in") == snapshot(tmp_path / "out")
    command = ["diff", "-r", "--no-dereference", tmp_path / "in", tmp_path / "out"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b""


def test_where_trees_go(fs9: Fs9, client: Client, tmp_path: Path) -> None:
    """As with cp -r: into a directory that exists; `dir/.` means what is in it."""
    source = tmp_path / "in"
    source.mkdir()
    (source / "f").write_text("x")
    client.mkdir("/d")
    assert fs9("put", "-r", source, "/d")[0] == 0
    assert client.listdir("/d") == ["in"]
    assert fs9("put", "-r", f"{source}/.", "/d")[0] == 0
    assert client.listdir("/d") == ["f", "in"]
    assert fs9("put", "-r", "-T", source, "/d")[0] == 0
    assert client.listdir("/d") == ["f", "in"]
    out = tmp_path / "out"
    out.mkdir()
    assert fs9("get", "-r", "/d", out)[0] == 0
    assert os.listdir(out) == ["d"]
    assert fs9("get", "-r", "-T", "/d", out)[0] == 0
    assert sorted(os.listdir(out)) == ["d", "f", "in"]
    assert fs9("get", "-r", "/d", tmp_path / "no" / "where")[0] == 3
    (tmp_path / "file").write_text("x")
    assert fs9("get", "-r", "/d", tmp_path / "file")[0] == 1


def test_an_incomplete_put_is_finished_by_the_next_run(
    fs9: Fs9, client: Client, tmp_path: Path
) -> None:
    """Failures: the rest is sent, the sum is told, 1; the same command again completes it."""
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a", "b", "c"):
        (source / name).write_text(name)
    os.mkfifo(source / "pipe")
    code, _, err = fs9("put", "-r", source, "/tree")
    assert code == 1
    assert f"{source}/pipe" in err
    assert "incomplete: 3 files (3) done, 0 unchanged, 1 failed; run it again" in err
    assert client.listdir("/tree") == [MARKER, "a", "b", "c"]
    (source / "pipe").unlink()
    assert fs9("put", "-r", source, "/tree") == (0, "", "")
    assert client.listdir("/tree") == ["a", "b", "c"]


def test_an_incomplete_get_is_finished_by_the_next_run(
    fs9: Fs9, client: Client, tmp_path: Path
) -> None:
    client.makedirs("/tree/d")
    client.write_file("/tree/d/f", b"x")
    client.write_file("/tree/g", b"y")
    out = tmp_path / "out"
    out.mkdir()
    (out / MARKER).write_text(f"get {client.url} /tree\n")
    (out / "d").write_text("in the way")
    assert fs9("get", "-r", "/tree", out)[0] == 1
    assert sorted(os.listdir(out)) == [MARKER, "d", "g"]
    (out / "d").unlink()
    assert fs9("get", "-r", "/tree", out) == (0, "", "")
    assert sorted(os.listdir(out)) == ["d", "g"]
    assert (out / "d" / "f").read_bytes() == b"x"


def test_a_server_that_is_gone(fs9: Fs9, tmp_path: Path) -> None:
    """7, one line."""
    (tmp_path / "in").mkdir()
    code, _, err = fs9("--url", "http://127.0.0.1:1", "put", "-r", tmp_path / "in", "/x")
    assert code == 7
    assert err.count("cannot reach") == 1


def test_interrupt_while_the_server_is_silent(tmp_path: Path) -> None:
    """Ctrl-C does not wait for an answer that never comes."""
    (tmp_path / "in").mkdir()
    for number in range(20):
        (tmp_path / "in" / str(number)).write_text("x")
    missing = problem(404, "NotFound")
    opened = answer(body=b'{"handle_id":"7","metadata":%s}' % info("/x", file_type="directory"))
    marker = len(f"put {tmp_path / 'in'}\n")
    marked = answer(body=b'{"path":"/x/m","bytes_written":%d}' % marker)
    replies = [missing, opened, answer(204), marked, Reply()]
    with FakeServer(replies) as server:
        process = start(server.url, "put", "-r", str(tmp_path / "in"), "/x")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert len(server.seen) == 5
    assert (process.returncode, err.splitlines()[-1]) == (130, b"fs9: interrupted")
