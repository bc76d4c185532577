"""fs9.path: one clean form, and nothing that no file can have."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given

from fs9.errors import InvalidArgument
from fs9.path import NAME_BYTES_MAX, PATH_BYTES_MAX, clean, is_within, join, split

names = st.sampled_from(["a", "b", ".", "..", "", " ", "...", ".x", "é", "a b", "~"])
paths = st.lists(names, max_size=8).flatmap(
    lambda parts: st.sampled_from(["/" + "/".join(parts), "/".join(parts)])
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "/"),
        ("/", "/"),
        ("//", "/"),
        (".", "/"),
        ("..", "/"),
        ("/..", "/"),
        ("a", "/a"),
        ("/a/", "/a"),
        ("a//b", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/../../b", "/b"),
        ("/a/b/../../c/.", "/c"),
        ("/...", "/..."),
        ("/.hidden/..x", "/.hidden/..x"),
        ("/ a ", "/ a "),
        (" ", "/ "),
        ("/a\nb", "/a\nb"),
        ("/é/ü", "/é/ü"),
        ("/a%2Fb", "/a%2Fb"),
    ],
)
def test_clean(path: str, expected: str):
    """Dots and empty names go, blanks stay, the root has no parent."""
    assert clean(path) == expected


@given(paths)
def test_clean_is_idempotent(path: str):
    """Invariant tested: clean(clean(p)) = clean(p)."""
    assert clean(clean(path)) == clean(path)


@given(paths)
def test_a_clean_path_has_only_real_names(path: str):
    """Invariant tested: absolute, and no name is empty, "." or ".."."""
    cleaned = clean(path)
    assert cleaned.startswith("/")
    if cleaned != "/":
        assert not {"", ".", ".."} & set(cleaned[1:].split("/"))


@given(st.text(max_size=60))
def test_any_text_is_cleaned_or_refused(text: str):
    """Invariant tested: what is not refused can be encoded and has no NUL."""
    try:
        cleaned = clean(text)
    except InvalidArgument:
        assume(False)
    assert b"\0" not in cleaned.encode()


@given(paths, paths)
def test_cleaning_is_lexical(path: str, other: str):
    """Invariant tested: a path, cleaned first or as the start of a longer one, ends the same."""
    assert clean(clean(path) + "/" + other) == clean("/" + path + "/" + other)


@pytest.mark.parametrize("path", ["/a\0b", "\0", "/\ud800", "/a/\udfff/.."])
def test_impossible_characters(path: str):
    """NUL and lone surrogates are refused, wherever they stand in what remains."""
    if clean_or_none(path) is not None:
        assert clean(path) == "/a"  # `..` took the bad name away
    else:
        with pytest.raises(InvalidArgument):
            clean(path)


def clean_or_none(path: str) -> str | None:
    try:
        return clean(path)
    except InvalidArgument:
        return None


def test_lengths_are_in_bytes():
    """The longest name and path of Linux pass; a byte more, in UTF-8, does not."""
    assert clean("/" + "x" * NAME_BYTES_MAX)
    assert clean("/" + "é" * (NAME_BYTES_MAX // 2))
    for name in ("x" * (NAME_BYTES_MAX + 1), "é" * (NAME_BYTES_MAX // 2 + 1)):
        with pytest.raises(InvalidArgument, match="name in the path is too long"):
            clean("/" + name)
    longest = "/abc" * (PATH_BYTES_MAX // 4)
    assert len(longest) == PATH_BYTES_MAX
    assert clean(longest) == longest
    with pytest.raises(InvalidArgument, match="path is too long"):
        clean(longest + "c")
    assert clean("/" + "./" * PATH_BYTES_MAX) == "/"  # only what remains counts


@pytest.mark.parametrize(
    ("path", "parent", "name"),
    [("/", "/", ""), ("/a", "/", "a"), ("/a/b", "/a", "b"), ("/a/b/c d", "/a/b", "c d")],
)
def test_split_and_join(path: str, parent: str, name: str):
    assert split(path) == (parent, name)
    if name:
        assert join(parent, name) == path


def test_is_within():
    """A path is within itself and its ancestors; a common beginning of names is not enough."""
    for path, ancestor in (("/", "/"), ("/a", "/"), ("/a", "/a"), ("/a/b", "/a")):
        assert is_within(path, ancestor)
    for path, ancestor in (("/", "/a"), ("/ab", "/a"), ("/a", "/a/b")):
        assert not is_within(path, ancestor)
