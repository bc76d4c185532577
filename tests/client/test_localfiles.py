"""Files of this host: parts, links, directories that are received."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from fs9.client import localfiles
from fs9.client.localfiles import PART_BYTES_MIN, PART_PREFIX, PartFile

if TYPE_CHECKING:
    from pathlib import Path


def test_a_part_has_no_name_until_it_is_committed(tmp_path: Path) -> None:
    part = PartFile.create(tmp_path / "f", "v1")
    part.write(b"one")
    part.write(b"two")
    assert not (tmp_path / "f").exists()
    part.commit(0o640, 5 * 10**9)
    info = (tmp_path / "f").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_mtime) == (0o640, 5)
    assert (tmp_path / "f").read_bytes() == b"onetwo"
    assert os.listdir(tmp_path) == ["f"]


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    (tmp_path / "f").chmod(0o711)
    PartFile.create(tmp_path / "f", "v1").commit(None, None)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o711


def test_a_part_is_found_with_its_etag(tmp_path: Path) -> None:
    """Only when it is large enough to have been kept, and nobody writes to it."""
    part = PartFile.create(tmp_path / "f", "v/1\u00fc")
    part.write(bytes(PART_BYTES_MIN))
    assert PartFile.find(tmp_path / "f") is None  # in use
    part.discard(keep=True)
    assert PartFile.find(tmp_path / "g") is None  # of another file
    found = PartFile.find(tmp_path / "f")
    assert found is not None
    assert (found.etag, found.size) == ("v/1\u00fc", PART_BYTES_MIN)
    found.discard()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("etag", "size"), [("v1", 10), ("", PART_BYTES_MIN), ("e" * 500, 10)])
def test_what_is_not_worth_keeping_is_not_kept(tmp_path: Path, etag: str, size: int) -> None:
    part = PartFile.create(tmp_path / "f", etag)
    part.write(bytes(size))
    part.discard(keep=True)
    assert os.listdir(tmp_path) == []


def test_two_receivers_of_one_version_have_two_parts(tmp_path: Path) -> None:
    first, second = (PartFile.create(tmp_path / "f", "v1") for _ in range(2))
    assert first.path != second.path
    first.write(b"first")
    second.write(b"second")
    second.commit(None, None)
    first.discard()
    assert (tmp_path / "f").read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["f"]


def test_names_of_any_length_have_parts(tmp_path: Path) -> None:
    PartFile.create(tmp_path / ("n" * 255), "e" * 120).commit(None, None)
    assert len(os.listdir(tmp_path)[0]) == 255


def test_a_planted_link_is_not_a_part(tmp_path: Path) -> None:
    """Somebody has put a link where the part would be: it is neither followed nor used."""
    part = PartFile.create(tmp_path / "f", "v1")
    place = part.path
    part.discard()
    (tmp_path / "victim").write_text("precious")
    place.symlink_to(tmp_path / "victim")
    assert PartFile.find(tmp_path / "f") is None
    PartFile.create(tmp_path / "f", "v1").commit(None, None)
    assert (tmp_path / "victim").read_text() == "precious"


def test_links_are_replaced_in_one_step(tmp_path: Path) -> None:
    link = tmp_path / "l"
    for target in ("a", "a", "b"):
        localfiles.make_link(link, target)
        assert os.readlink(link) == target
    (tmp_path / "d").mkdir()
    with pytest.raises(IsADirectoryError):
        localfiles.make_link(tmp_path / "d", "a")
    assert not [name for name in os.listdir(tmp_path) if name.startswith(PART_PREFIX)]


def test_a_received_directory_is_writable_until_it_is_finished(tmp_path: Path) -> None:
    place = tmp_path / "d"
    localfiles.make_directory(place)
    localfiles.finish_directory(place, 0o555, 7 * 10**9)
    assert (stat.S_IMODE(place.stat().st_mode), place.stat().st_mtime) == (0o555, 7)
    localfiles.make_directory(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o755


def test_a_directory_is_not_made_through_a_link_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="not followed"):
        localfiles.make_directory(tmp_path / "link")
    with pytest.raises(FileExistsError):
        localfiles.make_directory(tmp_path / "file")
    localfiles.make_root(tmp_path / "link")  # the target itself is the user's choice


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "l").symlink_to("f")
    with localfiles.open_regular(tmp_path / "l", follow=True) as file:
        assert file.read() == b"x"
    with pytest.raises(OSError, match="symbolic links"):
        localfiles.open_regular(tmp_path / "l", follow=False)
    with pytest.raises(IsADirectoryError):
        localfiles.open_regular(tmp_path, follow=True)
