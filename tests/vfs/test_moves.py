"""fs9.vfs.moves: open files are followed through renames, or it is known that they are lost."""

from __future__ import annotations

import asyncio

import pytest

from fs9.errors import NotFound, Transient
from fs9.vfs import moves as module
from fs9.vfs.moves import Moves


@pytest.fixture
def moves() -> Moves:
    moves = Moves()
    moves.keep()
    return moves


def test_a_file_follows_its_directories(moves: Moves):
    moves.add("/a", "/b")
    since = moves.count
    moves.add("/b/d", "/c")
    moves.add("/bb", "/x")
    moves.add("/c", "/a/d")
    assert moves.follow("/b/d/f", since) == "/a/d/f"
    assert moves.follow("/b/dd", since) == "/b/dd"
    assert moves.follow("/a/d/f", 0) == "/a/d/f"  # there and back again
    assert moves.follow("/a/f", since) == "/a/f"


def test_what_is_not_kept_is_not_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MOVES_MAX", 3)
    moves = Moves()
    moves.add("/x", "/y")
    moves.keep()
    moves.keep()
    assert moves.follow("/a", 0) == ""
    assert moves.follow("/a", 1) == "/a"
    for number in range(3):
        moves.add(f"/{number}", f"/{number + 1}")
    assert moves.follow("/0", 1) == "/3"
    moves.add("/3", "/4")
    assert moves.follow("/0", 1) == ""
    assert moves.concerned("/z", 1)
    monkeypatch.setattr(module, "_CHARACTERS_MAX", 10)
    moves.add("/" + "x" * 20, "/y")
    assert moves.follow("/a", moves.count - 1) == ""


@pytest.mark.parametrize(
    ("error", "known"), [(NotFound(), "/a"), (Transient(), ""), (asyncio.CancelledError(), "")]
)
def test_a_rename_that_failed(moves: Moves, error: BaseException, known: str):
    """Refused, nothing moved; cut off, nobody knows."""
    with pytest.raises(type(error)), moves.renaming("/a", "/b"):
        raise error
    assert moves.follow("/a", 0) == known
    assert moves.follow("/c", 0) == "/c"


def test_what_was_opened_during_a_rename(moves: Moves):
    """It may have been at either end of it."""
    with moves.renaming("/a", "/b"):
        pass
    for path in ("/a", "/a/f", "/b", "/b/f"):
        assert moves.concerned(path, 0)
        assert not moves.concerned(path, 1)
    assert not moves.concerned("/c", 0)
