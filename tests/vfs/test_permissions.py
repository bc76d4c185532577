"""fs9.vfs.permissions: what the claims `mounts` and `permissions` leave of the rights."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs9.errors import NotFound, PermissionDenied
from fs9.path import is_within
from fs9.principal import Principal
from fs9.vfs.permissions import RIGHTS, Permissions, permissions_of

NAMES = st.sampled_from(["a", "ab", "b", "é"])
PATHS = st.lists(NAMES, max_size=3).map(lambda names: "/" + "/".join(names))
WORDS = st.one_of(
    st.sampled_from(RIGHTS),
    st.tuples(st.sampled_from([*RIGHTS, "write", ""]), PATHS).map(":".join),
)


def permissions(*words: str, mounts: tuple[str, ...] = ()) -> Permissions:
    return Permissions(mounts, words)


def test_empty_claims_narrow_nothing():
    assert permissions_of(Principal("u", "ns", ("reader",))) is None
    assert permissions_of(Principal("u", "ns", mounts=("/a",))) is not None
    assert permissions_of(Principal("u", "ns", permissions=("?",))) is not None


def test_mounts_leave_all_rights_below_them():
    narrowed = Permissions(("/p/a", "/q/"), ())
    for right in RIGHTS:
        for path in ("/p/a", "/p/a/x", "/q", "/q/x/y"):
            assert narrowed.allows(right, path)
        for path in ("/", "/p", "/p/ab", "/p/b", "/p/a b", "/qq", "/p/A"):
            assert not narrowed.allows(right, path)


def test_a_word_is_one_right_everywhere_or_below_a_path():
    narrowed = permissions("list", "read:/a", "create:/a/in", "create:/b")
    assert narrowed.allows("list", "/")
    assert narrowed.allows("read", "/a/in/x")
    assert not narrowed.allows("read", "/b")
    assert narrowed.allows("create", "/b/x")
    assert not narrowed.allows("create", "/a")
    assert not narrowed.allows("delete", "/a/in")


@pytest.mark.parametrize(
    "word",
    [
        "write",
        "READ",
        "*",
        "",
        ":",
        "read ",
        "read:",
        "read:a",
        "read:*",
        ":/",
        "read:\0",
        "read:/..",
    ],
)
def test_what_is_no_right_gives_nothing(word: str):
    narrowed = permissions(word)
    assert not any(narrowed.allows(right, "/a") for right in RIGHTS)
    assert not narrowed.visible("/")
    with pytest.raises(NotFound):
        narrowed.require("/a", "read")


@pytest.mark.parametrize(
    "mount",
    ["", "a", "./a", "*", "/\0", "/" + "x" * 300, "/..", "/a/..", "/a/../b", "/a/.", "/./a"],
)
def test_what_is_no_path_is_no_mount(mount: str):
    assert not Permissions((mount,), ()).visible("/")


def test_both_claims_must_allow():
    narrowed = permissions("read:/a", "list:/a/b/c", "create", mounts=("/a/b", "/d"))
    assert narrowed.allows("read", "/a/b")
    assert narrowed.allows("list", "/a/b/c")
    assert narrowed.allows("create", "/d/x")
    for right, path in (("read", "/a"), ("read", "/d"), ("list", "/a/b"), ("create", "/a")):
        assert not narrowed.allows(right, path)


def test_hidden_is_not_found_and_visible_is_refused():
    narrowed = permissions("read:/a/b", "create:/a/in")
    assert narrowed.way("/") == ["a"]
    assert narrowed.way("/a") == ["b", "in"]
    assert narrowed.way("/a/b") == []
    for path in ("/a/b/c", "/a/b", "/a", "/"):
        assert narrowed.visible(path)
        with pytest.raises(PermissionDenied, match=r"may not delete at "):
            narrowed.require(path, "delete")
    for path in ("/a/c", "/a/bb", "/ab", "/b"):
        with pytest.raises(NotFound, match=f"^not found: {path}$"):
            narrowed.require(path, "read")
    narrowed.require("/a/b/c", "list", "read")


@given(st.lists(PATHS, max_size=3), st.lists(WORDS, max_size=4), PATHS, st.sampled_from(RIGHTS))
def test_as_the_definition_says(mounts: list[str], words: list[str], path: str, right: str):
    """Compared with the definition, read word by word."""
    if not mounts and not words:
        return
    narrowed = Permissions(tuple(mounts), tuple(words))

    def holds(right: str, path: str) -> bool:
        granted = [word.split(":") for word in words]
        return (not mounts or any(is_within(path, mount) for mount in mounts)) and (
            not words
            or any(item[0] == right and is_within(path, (*item, "/")[1]) for item in granted)
        )

    assert narrowed.allows(right, path) == holds(right, path)
    places = [*mounts, *(word.partition(":")[2] or "/" for word in words), path]
    ends = [end for end in places if any(holds(right, end) for right in RIGHTS)]
    assert narrowed.visible(path) == any(is_within(end, path) for end in ends)
