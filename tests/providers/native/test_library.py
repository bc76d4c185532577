"""What is not a plugin of this version is refused with a reason, and nothing of it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.errors import InvalidArgument
from fs9.providers.native.library import Library
from tests.fix_plugins import compiled

if TYPE_CHECKING:
    from pathlib import Path


def test_a_plugin_says_its_name() -> None:
    library = Library(compiled("memory"))
    assert (library.name, library.version) == ("memory", "1.0")


@pytest.mark.parametrize(
    ("define", "reason"),
    [
        ("VERSION=1", "version 1 of the interface, not 2"),
        ("VERSION=3", "version 3 of the interface, not 2"),
        ("TABLE_VERSION=1", "version 1 of the interface, not 2"),
        ("NO_VERSION", "no symbol fs9_plugin_version"),
        ("NO_TABLE", "no table"),
        ("NO_REMOVE", "no function remove"),
        ('NAME=""', "no name"),
        ('NAME="caf\\xe9"', "the name is not UTF-8"),
    ],
)
def test_what_does_not_fit_is_refused(define: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        Library(compiled("odd", define))


def test_other_files_are_refused(tmp_path: Path) -> None:
    """Also a library that is no plugin."""
    text = tmp_path / "text.so"
    text.write_text("not a library")
    for path in (text, tmp_path / "missing.so"):
        with pytest.raises(InvalidArgument, match="cannot load"):
            Library(path)


def test_one_file_may_be_loaded_twice() -> None:
    assert Library(compiled("memory")).table == Library(compiled("memory")).table
