"""Local directories: what is unchanged, and which names may come in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fs9.client import localtree
from fs9.types import FileInfo, FileType

if TYPE_CHECKING:
    from pathlib import Path

S = 10**9


def remote(path: str = "/d/f", size: int = 1, mtime_s: int = 100, ctime_s: int = 200) -> FileInfo:
    times = (0, mtime_s * S, ctime_s * S)
    return FileInfo(path, size, FileType.REGULAR, 0o644, 0, 0, *times)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f"
    path.write_text("x")
    os.utime(path, ns=(0, 100 * S + 5))
    return path


@pytest.mark.parametrize(
    ("there", "same"),
    [
        (remote(), True),
        (remote(size=2), False),
        (remote(mtime_s=101), False),
        (remote(ctime_s=102), True),
        (remote(ctime_s=101), False),  # copied too soon after the last change to be sure
    ],
)
def test_unchanged(file: Path, there: FileInfo, same: bool) -> None:
    assert localtree.is_unchanged(localtree.lstat(file), there) is same


def test_unchanged_copy_here(file: Path, tmp_path: Path) -> None:
    """The mode is put right without a transfer; anything but a file is no copy."""
    file.chmod(0o600)
    assert localtree.unchanged_copy(file, remote())
    assert file.stat().st_mode & 0o777 == 0o644
    assert not localtree.unchanged_copy(file, remote(size=2))
    assert not localtree.unchanged_copy(tmp_path / "missing", remote())
    (tmp_path / "l").symlink_to("f")
    assert not localtree.unchanged_copy(tmp_path / "l", remote())


def test_scan_is_sorted_and_sees_links_themselves(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").symlink_to("b")
    first, second = localtree.scan(tmp_path)
    assert (first.name, first.is_symlink, first.link, first.is_dir) == ("a", True, "b", False)
    assert (second.name, second.is_dir) == ("b", True)


@pytest.mark.parametrize("path", ["/d/..", "/d/.", "/d/", "/d", "/e/x", "/d/a/b", "/d/a\0b", "x"])
def test_names_that_are_no_entries(path: str) -> None:
    safe, refused = localtree.check_names("/d", [remote(path), remote("/d/good")])
    assert [name for name, _ in safe] == ["good"]
    assert len(refused) == 1


def test_names_in_the_root() -> None:
    safe, refused = localtree.check_names("/", [remote("/a"), remote("/..x")])
    assert ([name for name, _ in safe], refused) == (["a", "..x"], [])
