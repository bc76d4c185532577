"""Over plugins that keep less, what every provider promises is kept all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    Internal,
    InvalidArgument,
    NotDirectory,
    NotFound,
    NotSupported,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
)
from fs9.providers.native import frames
from fs9.providers.native import tree as tree_module
from fs9.providers.native.calls import Instance
from fs9.providers.native.library import Library
from fs9.providers.native.tree import Tree
from fs9.types import (
    ALWAYS,
    MKDIR,
    READ,
    REPLACE,
    Condition,
    OpenFlags,
    StatChanges,
)
from tests.fix_plugins import compiled

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE_BYTES_MAX = 1 << 20
_RW = OpenFlags(read=True, write=True, create=True)


@pytest.fixture(params=["sloppy", "flat"])
def tree(request: pytest.FixtureRequest) -> Iterator[Tree]:
    """`sloppy` is as the reference's kv and pagefs are, `flat` as its hellofs."""
    instance = Instance(Library(compiled("odd")), request.param.encode())
    yield Tree(instance, _FILE_BYTES_MAX)
    instance.destroy()


@pytest.fixture
def sloppy() -> Iterator[Tree]:
    instance = Instance(Library(compiled("odd")), b"sloppy")
    yield Tree(instance, _FILE_BYTES_MAX)
    instance.destroy()


def ask(tree: Tree, request: frames.Request, data: bytes = b"") -> frames.Answer:
    return tree.handle(request, data)[0]


def make(tree: Tree, path: str, content: bytes = b"", flags: OpenFlags = _RW) -> None:
    opened = tree.open(path, flags, ALWAYS)
    if content:
        assert tree.write(opened.handle, 0, content) == len(content)
    tree.close(opened.handle, sync=False, discard=False)


def names(tree: Tree, path: str = "/") -> list[str]:
    return [info.path for info in tree.readdir(path, "", 100).entries]


def test_a_plugin_without_directories_makes_none() -> None:
    """The ordinary file that it makes instead is gone again."""
    instance = Instance(Library(compiled("odd")), b"flat")
    tree = Tree(instance, _FILE_BYTES_MAX)
    with pytest.raises(NotSupported, match="directories"):
        tree.open("/d", MKDIR, ALWAYS)
    assert names(tree) == []
    instance.destroy()


def test_a_directory_is_made_once(sloppy: Tree) -> None:
    make(sloppy, "/d", flags=MKDIR)
    make(sloppy, "/f")
    for path in ("/d", "/f", "/"):
        with pytest.raises(AlreadyExists, match=path):
            sloppy.open(path, MKDIR, ALWAYS)


def test_a_directory_that_is_not_empty_is_said_to_be(sloppy: Tree) -> None:
    """The plugin says -9 without a text."""
    make(sloppy, "/d", flags=MKDIR)
    make(sloppy, "/d/f")
    with pytest.raises(DirectoryNotEmpty, match="/d"):
        sloppy.remove("/d", ALWAYS)
    with pytest.raises(PermissionDenied, match="cannot remove root"):
        sloppy.remove("/", ALWAYS)


def test_truncate_truncates(tree: Tree) -> None:
    make(tree, "/f", b"long content")
    opened = tree.open("/f", OpenFlags(write=True, truncate=True), ALWAYS)
    assert opened.info.size == 0
    tree.close(opened.handle, sync=False, discard=False)
    assert tree.stat("/f").size == 0


def test_a_rename_looks_first(sloppy: Tree) -> None:
    """What would lose the file in some plugins is refused, and the file is there."""
    make(sloppy, "/f", b"kept")
    make(sloppy, "/d", flags=MKDIR)
    for target, kind in (("/gone/f", NotFound), ("/f/x", NotDirectory)):
        with pytest.raises(kind, match=target):
            ask(sloppy, frames.Wstat("/f", StatChanges(name=target), ALWAYS))
    with pytest.raises(InvalidArgument, match="into itself"):
        sloppy.wstat("/d", StatChanges(name="/d/e"), ALWAYS)
    with pytest.raises(PermissionDenied):
        sloppy.wstat("/", StatChanges(name="/x"), ALWAYS)
    assert names(sloppy) == ["/d", "/f"]


def test_a_message_whose_newline_is_not_counted_is_whole(tree: Tree) -> None:
    """Written again, the newline would be a message of its own."""
    opened = tree.open("/topic", OpenFlags(write=True), ALWAYS)
    assert tree.write(opened.handle, 0, b"one\n") == 4
    assert tree.write(opened.handle, 0, b"\n") == 1
    assert tree.write(opened.handle, 0, b"two") == 3
    assert tree.write(opened.handle, 0, b"") == 0


def test_a_write_of_nothing_is_an_error(tree: Tree) -> None:
    opened = tree.open("/const", OpenFlags(write=True), ALWAYS)
    with pytest.raises(Internal, match="/const: the plugin wrote nothing"):
        tree.write(opened.handle, 0, b"abc")


def test_a_short_write_is_told(tree: Tree) -> None:
    opened = tree.open("/f", _RW, ALWAYS)
    assert tree.write(opened.handle, 0, bytes(100_000)) == 70_000


def test_huge_offsets_do_not_reach_the_plugin(tree: Tree) -> None:
    """Many allocate, and abort."""
    opened = tree.open("/f", _RW, ALWAYS)
    for offset in (_FILE_BYTES_MAX, 2**62, 2**63 - 1):
        with pytest.raises(QuotaExceeded):
            tree.write(opened.handle, offset, b"x")
    for size in (_FILE_BYTES_MAX + 1, 2**62):
        with pytest.raises(QuotaExceeded):
            tree.wstat("/f", StatChanges(size=size), ALWAYS)
    assert tree.read(opened.handle, 2**63 - 1, 2**63 - 1) == b""
    assert tree.read(opened.handle, 1, 2**63 - 1) == b""
    tree.close(opened.handle, sync=True, discard=False)


def test_a_listing_leaves_out_what_cannot_be_a_name(tree: Tree) -> None:
    """Dots, names twice, names that are not UTF-8; those are counted."""
    listed = tree.readdir("/odd", "", 10)
    assert [info.path for info in listed.entries] == ["/odd/a", "/odd/b"]
    assert listed.unreadable == 1
    assert [info.path for info in tree.readdir("/odd", "a", 1).entries] == ["/odd/b"]


def test_a_listing_keeps_no_more_than_is_asked_for(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many entries the plugin gives; a NUL and 256 bytes are no name."""
    held: list[int] = []
    monkeypatch.setattr(tree_module, "_LISTED_AHEAD", 100)
    smallest = tree_module.nsmallest

    def watched(count: int, names: Any) -> list[str]:
        held.append(len(names))
        return smallest(count, names)

    monkeypatch.setattr(tree_module, "nsmallest", watched)
    listed = tree.readdir("/many", "01000", 10)
    assert [info.path for info in listed.entries] == [f"/many/0{1001 + n}" for n in range(10)]
    assert listed.unreadable == 2
    assert max(held) <= 111


def test_a_replacement_is_hidden_until_it_is_there(sloppy: Tree) -> None:
    """Clients can neither see nor name where it is written."""
    opened = sloppy.open("/f", REPLACE, ALWAYS)
    sloppy.write(opened.handle, 0, b"new")
    assert names(sloppy) == []
    for call in (
        lambda: sloppy.stat("/.fs9-tmp-1"),
        lambda: sloppy.open("/.fs9-tmp-1", READ, ALWAYS),
        lambda: sloppy.remove("/.fs9-tmp-1", ALWAYS),
        lambda: sloppy.wstat("/x", StatChanges(name="/.fs9-tmp-1"), ALWAYS),
    ):
        with pytest.raises(InvalidArgument, match="reserved"):
            call()
    info = sloppy.close(opened.handle, sync=True, discard=False)
    assert info is not None
    assert (info.path, info.size) == ("/f", 3)


def test_conditions_know_only_whether_there_is_a_file(sloppy: Tree) -> None:
    """No plugin has versions: a tag never matches."""
    make(sloppy, "/f")
    with pytest.raises(PreconditionFailed):
        sloppy.open("/f", _RW, Condition(if_none_match=("*",)))
    with pytest.raises(PreconditionFailed):
        sloppy.remove("/f", Condition(if_match=("1",)))
    with pytest.raises(PreconditionFailed):
        sloppy.wstat("/f", StatChanges(mode=0), Condition(if_match=("1",)))
    sloppy.remove("/f", Condition(if_match=("*",)))


def test_errors_of_the_plugin_arrive_as_kinds(tree: Tree) -> None:
    with pytest.raises(DirectoryNotEmpty, match="directory not empty: /code-7"):
        ask(tree, frames.Stat("/code-7"))
    with pytest.raises(Internal, match="/code-9: plugin error code: -9"):
        ask(tree, frames.Stat("/code-9"))
