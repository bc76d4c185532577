"""ls, cat, stat, tree, du: what people read and what programs read."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from fs9.cli.show import human

if TYPE_CHECKING:
    from fs9.client import Client
    from tests.cli.conftest import Fs9


@pytest.fixture(autouse=True)
def files(client: Client) -> None:
    client.makedirs("/d/sub")
    client.write_file("/d/b", b"12345")
    client.write_file("/d/.hidden", b"")
    client.write_file("/d/sub/big", bytes(3000))
    client.symlink("/d/link", "b")
    client.chmod("/d/b", 0o640)
    client.utime("/d/b", mtime_s=0)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0"),
        (1023, "1023"),
        (1024, "1.0K"),
        (10_300, "10K"),
        (1_048_575, "1.0M"),
        (10**19, "8.7E"),
    ],
)
def test_human_sizes(size: int, text: str) -> None:
    assert human(size) == text


def test_ls_gives_a_name_a_line(fs9: Fs9) -> None:
    assert fs9("ls", "/d") == (0, "b\nlink\nsub\n", "")
    assert fs9("ls", "fs9:/d/") == (0, "b\nlink\nsub\n", "")
    assert fs9("ls", "-a", "/d") == (0, ".hidden\nb\nlink\nsub\n", "")
    assert fs9("ls", "/d/b") == (0, "b\n", "")
    assert fs9("ls", "-d", "/d") == (0, "d\n", "")


def test_ls_long(fs9: Fs9) -> None:
    lines = fs9("ls", "-l", "/d")[1].splitlines()
    assert lines[0].startswith("-rw-r----- 0:0")
    assert lines[1].endswith("link -> b")
    assert lines[2].startswith("drwxr-xr-x")
    assert "2.9K" in fs9("ls", "-l", "/d/sub")[1]
    assert "3000" in fs9("ls", "-l", "-b", "/d/sub")[1]


def test_ls_of_several_goes_on_after_a_failure(fs9: Fs9) -> None:
    code, out, err = fs9("ls", "/d/sub", "/missing", "/d/b")
    assert (code, out) == (3, "/d/sub:\nbig\n\n/d/b:\nb\n")
    assert err == "fs9: ls: /missing: not found\n"


def test_ls_json(fs9: Fs9) -> None:
    code, out, _ = fs9("ls", "--json", "/d")
    entries = json.loads(out)
    assert code == 0
    assert [entry["name"] for entry in entries] == ["b", "link", "sub"]
    assert entries[0] | {"atime": "", "ctime": "", "etag": ""} == {
        "path": "/d/b",
        "name": "b",
        "type": "regular",
        "size": 5,
        "mode": "0640",
        "uid": 0,
        "gid": 0,
        "mtime": "1970-01-01T00:00:00Z",
        "atime": "",
        "ctime": "",
        "etag": "",
    }
    assert entries[1]["symlink_target"] == "b"


def test_names_cannot_steer_a_terminal(
    fs9: Fs9, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Escape sequences in names are spelled out on a terminal, and kept in a pipe."""
    client.write_file("/evil\x1b[2J", b"")
    assert "\x1b[2J" in fs9("ls", "/")[1]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    out = fs9("ls", "/")[1]
    assert "\x1b" not in out
    assert "evil\\x1b[2J" in out


def test_cat(fs9: Fs9) -> None:
    assert fs9("cat", "/d/b", "/d/b") == (0, "1234512345", "")
    code, out, err = fs9("cat", "/missing", "/d/b")
    assert (code, out, err) == (3, "12345", "fs9: cat: /missing: not found\n")
    code, _, err = fs9("cat", "/d")
    assert code == 1
    assert "fs9 ls" in err


def test_links_that_are_named_are_followed(fs9: Fs9, client: Client) -> None:
    """cat, ls, tree and du go where a link leads; `ls -l`, `ls -d` and stat show it."""
    client.symlink("/l", "d")
    assert fs9("cat", "/d/link", "/l/b") == (0, "1234512345", "")
    assert fs9("ls", "/l") == (0, "b\nlink\nsub\n", "")
    assert fs9("ls", "-l", "/l")[1].endswith("l -> d\n")
    assert fs9("du", "-s", "/l") == (0, "3005\t/d\n", "")
    assert "└── big" in fs9("tree", "/l")[1]
    assert "/l -> d" in fs9("stat", "/l")[1]


def test_stat(fs9: Fs9) -> None:
    out = fs9("stat", "/d/b", "/d/link")[1]
    assert "mode: 0640 (-rw-r-----)" in out
    assert "path: /d/link -> b" in out
    assert "size: 5 bytes\n" in out
    assert json.loads(fs9("stat", "--json", "/d/b")[1])["size"] == 5
    assert [info["type"] for info in json.loads(fs9("stat", "--json", "/d", "/d/b")[1])] == [
        "directory",
        "regular",
    ]
    assert fs9("stat", "/missing") == (3, "", "fs9: stat: /missing: not found\n")


def test_tree(fs9: Fs9) -> None:
    code, out, _ = fs9("tree", "/d")
    assert code == 0
    assert out.splitlines() == [
        "/d",
        "├── b",
        "├── link -> b",
        "└── sub",
        "    └── big",
        "",
        "1 directories, 3 files",
    ]
    assert "big" not in fs9("tree", "-L", "1", "/d")[1]
    assert ".hidden" in fs9("tree", "-a", "/d")[1]


def test_tree_json(fs9: Fs9) -> None:
    document = json.loads(fs9("tree", "--json", "/d")[1])
    assert document["path"] == "/d"
    assert [child["name"] for child in document["children"]] == ["b", "link", "sub"]
    assert document["children"][2]["children"][0]["size"] == 3000


def test_du(fs9: Fs9) -> None:
    assert fs9("du", "/d") == (0, "3000\t/d/sub\n3005\t/d\n", "")
    assert fs9("du", "-s", "-h", "/d", "/d/b") == (0, "2.9K\t/d\n5\t/d/b\n", "")
    rows = json.loads(fs9("du", "-s", "--json", "/d")[1])
    assert rows == [{"path": "/d", "bytes": 3005, "files": 4}]


def test_watch_tells_what_changed_since(fs9: Fs9, client: Client) -> None:
    """A line each, or JSON with where to go on; a cursor that is none is an error."""
    code, out, _ = fs9("watch", "--json", "-n", "1", "/d")
    first = json.loads(out)
    assert (code, first["type"], first["path"]) == (0, "cursor", "/d")
    client.write_file("/d/new", b"x")
    client.rename("/d/new", "/d/newer")
    client.write_file("/elsewhere", b"x")
    client.remove("/d/newer")
    lines = "upload\t/d/new\nrename\t/d/new -> /d/newer\nremove\t/d/newer\n"
    assert fs9("watch", "-n", "3", "--since", first["cursor"], "/d") == (0, lines, "")
    code, out, error = fs9("watch", "--since", "nonsense", "/d")
    assert (code, out) == (1, "")
    assert "since" in error
