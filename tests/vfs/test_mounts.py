"""fs9.vfs.mounts: the longest prefix by whole names, and what hangs where."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from fs9.errors import AlreadyExists, NotFound
from fs9.path import is_within
from fs9.provider import BaseProvider
from fs9.vfs.mounts import Mount, MountTable


def table(*paths: str) -> MountTable:
    return MountTable(Mount.of(path, BaseProvider()) for path in paths)


def where(mounts: MountTable, path: str) -> tuple[str, str]:
    mount, relative = mounts.resolve(path)
    return mount.path, relative


def test_root_passes_paths_unchanged():
    """At the root mount the provider's path is the namespace's."""
    mounts = table("/")
    assert where(mounts, "/") == ("/", "/")
    assert where(mounts, "/a/b") == ("/", "/a/b")


def test_exact_mount_path_is_the_providers_root():
    """The mount point itself is "/" to its provider."""
    assert where(table("/", "/m"), "/m") == ("/m", "/")


def test_three_deep_nesting():
    """The deepest mount that contains the path wins, at any depth."""
    mounts = table("/", "/a", "/a/b/c")
    assert where(mounts, "/a/b") == ("/a", "/b")
    assert where(mounts, "/a/b/c/d") == ("/a/b/c", "/d")
    assert where(mounts, "/x/b/c") == ("/", "/x/b/c")


def test_names_are_compared_whole():
    """/c and /c-x do not shadow each other."""
    mounts = table("/", "/c", "/c-x")
    assert where(mounts, "/c-x/f") == ("/c-x", "/f")
    assert where(mounts, "/c/f") == ("/c", "/f")
    assert where(mounts, "/cc") == ("/", "/cc")


def test_without_a_root_mount_other_paths_are_not_found():
    """The error names the path that was asked for."""
    with pytest.raises(NotFound, match="not found: /other/f"):
        table("/m").resolve("/other/f")
    with pytest.raises(NotFound):
        table().find("/")


def test_one_mount_a_path():
    """A path is taken once, whatever the provider."""
    mounts = table("/", "/m")
    with pytest.raises(AlreadyExists, match="/m"):
        mounts.with_mount(Mount.of("/m", BaseProvider()))
    with pytest.raises(AlreadyExists):
        table("/m", "/m")


def test_a_change_leaves_the_old_table_as_it_was():
    """with_mount and without give new tables; holders of the old one see nothing."""
    old = table("/")
    new = old.with_mount(Mount.of("/m", BaseProvider()))
    assert where(old, "/m/f") == ("/", "/m/f")
    assert where(new, "/m/f") == ("/m", "/f")
    assert where(new.without("/m"), "/m/f") == ("/", "/m/f")
    assert len(new) == 2


def test_without_an_outer_mount_the_inner_stays():
    mounts = table("/a", "/a/b").without("/a")
    assert where(mounts, "/a/b/f") == ("/a/b", "/f")
    with pytest.raises(NotFound):
        mounts.find("/a")
    with pytest.raises(NotFound):
        mounts.without("/a")


def test_children_name_mount_points_and_the_way_to_them():
    """Each directory on the way to a mount point lists the next name, once and sorted."""
    mounts = table("/", "/b/x/1", "/b/x/2", "/b/y", "/a")
    assert mounts.children("/") == ["a", "b"]
    assert mounts.children("/b") == ["x", "y"]
    assert mounts.children("/b/x") == ["1", "2"]
    assert mounts.children("/a") == []
    assert [path for path in ("/", "/a", "/b", "/b/x", "/b/y") if mounts.holds_mounts(path)] == [
        "/",
        "/b",
        "/b/x",
    ]


def test_mounts_are_listed_by_path():
    assert [mount.path for mount in table("/z", "/", "/a/b", "/a")] == ["/", "/a", "/a/b", "/z"]


def test_paths_go_back_and_forth():
    """absolute undoes relative."""
    for mount_path, path in (("/", "/"), ("/", "/a"), ("/m", "/m"), ("/m", "/m/a/b")):
        mount = Mount.of(mount_path, BaseProvider())
        assert mount.absolute(mount.relative(path)) == path


paths = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=5).map(
    lambda names: "/" + "/".join(names)
)


@given(st.sets(paths, max_size=8), paths)
def test_find_is_the_longest_containing_path(mounted: set[str], path: str):
    """Invariant tested: find gives the longest mounted path that contains the path."""
    containing = [mount for mount in mounted if is_within(path, mount)]
    if containing:
        assert table(*mounted).find(path).path == max(containing, key=len)
    else:
        with pytest.raises(NotFound):
            table(*mounted).find(path)
