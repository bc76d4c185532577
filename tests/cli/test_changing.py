"""mkdir, rm, mv, cp: changes on the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.cli.trees import MARKER

if TYPE_CHECKING:
    from fs9.client import Client
    from tests.cli.conftest import Fs9


@pytest.fixture(autouse=True)
def files(client: Client) -> None:
    client.makedirs("/d/sub")
    client.write_file("/d/f", b"content")
    client.write_file("/f", b"other")


def test_mkdir(fs9: Fs9, client: Client) -> None:
    assert fs9("mkdir", "/new", "-m", "700") == (0, "", "")
    assert client.stat("/new").mode == 0o700
    code, _, err = fs9("mkdir", "/x/y")
    assert code == 3
    assert "-p" in err
    code, _, err = fs9("mkdir", "/d")
    assert code == 5
    assert fs9("mkdir", "-p", "/d", "/x/y")[0] == 0
    assert client.is_dir("/x/y")


def test_rm(fs9: Fs9, client: Client) -> None:
    code, _, err = fs9("rm", "/d", "/missing", "/f")
    assert code == 1
    assert "-r" in err
    assert not client.exists("/f")
    assert fs9("rm", "-f", "/missing") == (0, "", "")
    assert fs9("rm", "-r", "/d") == (0, "", "")
    assert not client.exists("/d")


def test_mv(fs9: Fs9, client: Client) -> None:
    assert fs9("mv", "/f", "/g") == (0, "", "")
    assert fs9("mv", "/g", "/d/sub") == (0, "", "")
    assert client.read_file("/d/sub/g") == b"other"
    assert fs9("mv", "/d/f", "/d/sub/g", "/d/sub/")[0] == 0
    assert client.listdir("/d/sub") == ["f", "g"]
    code, _, err = fs9("mv", "/d/sub/f", "/d/sub/g", "/nowhere")
    assert code == 2
    assert "mkdir" in err
    assert fs9("mv", "/missing", "/x")[0] == 3


def test_mv_between_mounts(fs9: Fs9, client: Client) -> None:
    """Files and trees are copied, then removed."""
    assert fs9("mv", "/f", "/d", "/local") == (0, "", "")
    assert client.read_file("/local/f") == b"other"
    assert client.read_file("/local/d/f") == b"content"
    assert not client.exists("/f")
    assert not client.exists("/d")


def test_mv_into_itself(fs9: Fs9, client: Client) -> None:
    assert fs9("mv", "/d", "/d/sub")[0] == 1
    assert client.exists("/d/f")


def test_cp(fs9: Fs9, client: Client) -> None:
    assert fs9("cp", "/f", "fs9:/g") == (0, "", "")
    assert client.read_file("/g") == b"other"
    assert fs9("cp", "/f", "/d/f", "/d/sub")[0] == 0
    assert client.read_file("/d/sub/f") == b"content"
    assert fs9("cp", "/f", "/f")[0] == 1
    assert fs9("cp", "/missing", "/x")[0] == 3
    code, _, err = fs9("cp", "/d", "/e")
    assert code == 2
    assert "-r" in err


def test_cp_follows_a_link_that_is_named(fs9: Fs9, client: Client) -> None:
    """Without -r the file behind it is copied, with -r the link."""
    client.symlink("/l", "d/f")
    assert fs9("cp", "/l", "/copy")[0] == 0
    assert client.read_file("/copy") == b"content"
    assert fs9("cp", "-r", "/l", "/link")[0] == 0
    assert client.stat("/link").symlink_target == "d/f"


def test_cp_trees(fs9: Fs9, client: Client) -> None:
    """Into a directory that exists, as that directory where there is none, or with -T."""
    assert fs9("cp", "-r", "/d", "/e") == (0, "", "")
    assert client.listdir("/e") == ["f", "sub"]
    assert fs9("cp", "-r", "/d", "/e")[0] == 0
    assert client.listdir("/e") == ["d", "f", "sub"]
    assert fs9("cp", "-r", "-T", "/d", "/e")[0] == 0
    assert client.listdir("/e") == ["d", "f", "sub"]
    assert fs9("cp", "-r", "/d", "/d/sub/x")[0] == 1


def test_an_interrupted_copy_is_finished_by_the_next_run(fs9: Fs9, client: Client) -> None:
    """The marker of the same command is there: the target is the copy, not its parent."""
    client.mkdir("/e")
    client.write_file(f"/e/{MARKER}", b"cp /d\n")
    assert fs9("cp", "-r", "/d", "/e")[0] == 0
    assert client.listdir("/e") == ["f", "sub"]
