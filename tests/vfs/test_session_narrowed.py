"""fs9.vfs.session with a narrowed token: every operation asks for its right at its path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import (
    AlreadyExists,
    Fs9Error,
    InvalidHandle,
    NotDirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from fs9.observe.audit import EventFilter
from fs9.principal import Principal
from fs9.providers.memfs import MemFs
from fs9.types import MKDIR, READ, REPLACE, WRITE, Condition, OpenFlags, StatChanges

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fs9.vfs.namespace import Namespace
    from fs9.vfs.session import Session

CREATE = OpenFlags(write=True, create=True)
APPEND = OpenFlags(write=True, append=True)
BOTH = OpenFlags(read=True, write=True)


async def put(session: Session, path: str, content: bytes = b"") -> None:
    file = await session.open_file(path, REPLACE)
    await session.write_file(file, 0, content)
    await session.commit_file(file)


async def make_tree(session: Session) -> None:
    for path in ("/p", "/p/a", "/p/a/d", "/p/b", "/q"):
        await session.close((await session.open(path, MKDIR))[0])
    for path in ("/p/a/f", "/p/b/f", "/p/f", "/f", "/p/ab"):
        await put(session, path, b"content")


@pytest.fixture
async def tree(session: Session) -> Session:
    await make_tree(session)
    return session


@pytest.fixture
def narrow(namespace: Namespace) -> Callable[..., Session]:
    """A session of the same user with some rights, below some paths."""

    def make(*permissions: str, mounts: tuple[str, ...] = (), roles: tuple[str, ...] = ()) -> Any:
        principal = Principal("alice", "acme", roles, None, mounts, permissions)
        return namespace.attach(principal)

    return make


async def outcome(operation: Coroutine[Any, Any, Any]) -> str:
    try:
        await operation
    except Fs9Error as error:
        return error.kind
    return "ok"


def operations(session: Session, path: str) -> list[Coroutine[Any, Any, Any]]:
    """Every operation on a path."""
    return [
        session.stat(path),
        session.readdir(path),
        session.readdir(path, limit=5),
        session.statfs(path),
        session.open(path, READ),
        session.open(path, OpenFlags()),
        session.open(path, WRITE),
        session.open(path, APPEND),
        session.open(path, CREATE),
        session.open(path, MKDIR),
        session.open_file(path, REPLACE),
        session.wstat(path, StatChanges(mode=0o600)),
        session.wstat(path, StatChanges(size=0)),
        session.wstat(path, StatChanges(symlink_target="x")),
        session.wstat(path, StatChanges(name="/p/a/new")),
        session.wstat("/p/a/f", StatChanges(name=path)),
        session.remove(path),
    ]


@pytest.mark.parametrize("path", ["/q", "/q/x", "/p/b", "/p/b/f", "/p/ab", "/p/f", "/f", "/none"])
async def test_outside_the_mounts_there_is_nothing(tree: Session, narrow: Any, path: str):
    """404 for all, whether it exists or not, in the same words; and nothing has changed."""
    narrowed = narrow(mounts=("/p/a",))
    before = await tree.readdir("/p")
    for operation in operations(narrowed, path):
        with pytest.raises(NotFound, match=f"^not found: {path}$"):
            await operation
    with pytest.raises(NotFound):
        narrowed.capabilities(path)
    assert await tree.readdir("/p") == before


async def test_a_listing_above_shows_only_the_way(tree: Session, narrow: Any):
    narrowed = narrow(mounts=("/p/a", "/p/b/f", "/p/none", "/f"))
    assert [info.path for info in await narrowed.readdir("/")] == ["/f", "/p"]
    assert [info.path for info in await narrowed.readdir("/p")] == ["/p/a", "/p/b"]
    assert [info.path for info in await narrowed.readdir("/p", after="a", limit=1)] == ["/p/b"]
    assert [info.path for info in await narrowed.readdir("/p/a")] == ["/p/a/d", "/p/a/f"]
    assert (await narrowed.stat("/p")).is_dir
    assert await narrowed.statfs("/")
    with pytest.raises(NotDirectory):
        await narrow(mounts=("/f/x",)).readdir("/f")
    outcomes = [await outcome(operation) for operation in operations(narrowed, "/p")]
    assert outcomes == ["ok"] * 4 + ["PermissionDenied"] * 13


async def test_within_the_mounts_all_is_as_ever(tree: Session, narrow: Any):
    narrowed = narrow(mounts=("/p/a",))
    await put(narrowed, "/p/a/new", b"x")
    handle_id, _ = await narrowed.open("/p/a/new", BOTH)
    assert await narrowed.write(handle_id, 1, b"y") == 1
    assert await narrowed.read(handle_id, 0, 9) == b"xy"
    await narrowed.close(handle_id)
    await narrowed.wstat("/p/a/new", StatChanges(name="/p/a/d/new"))
    await narrowed.remove("/p/a/d/new")


#: What each right alone opens, on the existing file "/p/a/f" and on the new path "/p/a/n".
NEEDS: list[tuple[set[str], Callable[[Session], Coroutine[Any, Any, Any]]]] = [
    ({"list", "read"}, lambda s: s.stat("/p/a/f")),
    ({"list"}, lambda s: s.readdir("/p/a")),
    ({"read"}, lambda s: s.open("/p/a/f", READ)),
    ({"read"}, lambda s: s.open("/p/a/f", OpenFlags())),
    ({"overwrite"}, lambda s: s.open("/p/a/f", WRITE)),
    ({"overwrite"}, lambda s: s.open("/p/a/f", OpenFlags(write=True, truncate=True))),
    ({"overwrite", "append"}, lambda s: s.open("/p/a/f", APPEND)),
    ({"overwrite"}, lambda s: s.open("/p/a/f", OpenFlags(write=True, append=True, truncate=True))),
    ({"create"}, lambda s: s.open("/p/a/n", CREATE)),
    ({"overwrite"}, lambda s: s.open("/p/a/f", CREATE)),
    ({"create"}, lambda s: s.open("/p/a/n", OpenFlags(create=True, write=True, append=True))),
    ({"create"}, lambda s: s.open("/p/a/n", MKDIR)),
    ({"create"}, lambda s: put(s, "/p/a/n", b"x")),
    ({"overwrite"}, lambda s: put(s, "/p/a/f", b"x")),
    ({"overwrite"}, lambda s: s.wstat("/p/a/f", StatChanges(mode=0o600))),
    ({"overwrite"}, lambda s: s.wstat("/p/a/f", StatChanges(size=1))),
    ({"create"}, lambda s: s.wstat("/p/a/n", StatChanges(symlink_target="x"))),
    ({"rename"}, lambda s: s.wstat("/p/a/f", StatChanges(name="/p/a/n"))),
    ({"delete"}, lambda s: s.remove("/p/a/f")),
]


@pytest.mark.parametrize("right", ["list", "read", "create", "overwrite", "append", "delete"])
@pytest.mark.parametrize("scoped", [False, True])
async def test_each_right_opens_its_operations_alone(make_namespace: Any, right: str, scoped: bool):
    for needed, operate in NEEDS:
        namespace = make_namespace()
        await make_tree(namespace.attach(Principal("alice", "acme")))
        word = f"{right}:/p/a" if scoped else right
        session = namespace.attach(Principal("alice", "acme", permissions=(word,)))
        expected = "ok" if right in needed else "PermissionDenied"
        assert await outcome(operate(session)) == expected, (needed, right)


async def test_creating_never_overwrites_and_overwriting_never_creates(tree: Session, narrow: Any):
    creator, overwriter = narrow("create"), narrow("overwrite")
    with pytest.raises(PermissionDenied, match="may not overwrite"):
        await creator.open("/f", CREATE)
    with pytest.raises(AlreadyExists):
        await creator.open("/f", OpenFlags(write=True, create=True, exclusive=True))
    with pytest.raises(AlreadyExists):
        await creator.open("/p", MKDIR)
    # An exclusive open makes a file or fails.
    with pytest.raises(PermissionDenied, match="may not create"):
        await overwriter.open("/f", OpenFlags(write=True, create=True, exclusive=True))
    with pytest.raises(PermissionDenied, match="may not create"):
        await overwriter.open("/new", CREATE)
    with pytest.raises(PreconditionFailed):
        await overwriter.open_file("/f", REPLACE, Condition(if_none_match=("*",)))
    # Somebody is faster: the upload began when there was nothing, and ends when there is.
    file = await creator.open_file("/new", REPLACE)
    await creator.write_file(file, 0, b"late")
    await put(tree, "/new", b"early")
    with pytest.raises(AlreadyExists):
        await creator.commit_file(file)
    assert (await tree.stat("/new")).size == 5


async def test_what_a_token_made_it_may_fill(tree: Session, narrow: Any):
    """With the right to create alone, by the handle that made the file."""
    creator = narrow("create:/q", "list:/q")
    handle_id, _ = await creator.open("/q/new", CREATE)
    assert await creator.write(handle_id, 0, b"abc") == 3
    assert await creator.write(handle_id, 0, b"xy") == 2
    await creator.close(handle_id)
    with pytest.raises(PermissionDenied):
        await creator.open("/q/new", WRITE)
    wide, _ = await tree.open("/q/new", WRITE)
    with pytest.raises(PermissionDenied):
        await creator.write(wide, 0, b"x")


async def test_a_handle_of_a_wider_token_does_not_help(tree: Session, narrow: Any):
    """Each use asks for the right at the path; where that is hidden there is no such handle."""
    inside, _ = await tree.open("/p/a/f", BOTH)
    outside, _ = await tree.open("/p/b/f", BOTH)
    reader = narrow("read:/p/a")
    assert await reader.read(inside, 0, 9) == b"content"
    file = await reader.wake_file(inside)
    assert await reader.read_file(file, 0, 9) == b"content"
    for operation in (
        reader.write(inside, 0, b"x"),
        reader.write(inside, 0, b""),
        reader.write_file(file, 0, b"x"),
        reader.write_whole(file, 0, b"x"),
        reader.commit_file(file),
    ):
        with pytest.raises(PermissionDenied):
            await operation
    for operation in (
        reader.read(outside, 0, 1),
        reader.write(outside, 0, b"x"),
        reader.close(outside),
        reader.close(outside, sync=True),
        reader.wake_file(outside),
    ):
        with pytest.raises(InvalidHandle, match=f"^invalid handle: {outside}$"):
            await operation
    appender = narrow("append")
    both, _ = await tree.open("/f", APPEND)
    assert await appender.write(both, 0, b"!") == 1
    with pytest.raises(PermissionDenied):
        await appender.write(inside, 0, b"x")
    with pytest.raises(PermissionDenied):
        await appender.read(inside, 0, 1)
    await reader.close(inside)


async def test_a_handle_is_where_its_file_is_now(tree: Session, narrow: Any):
    """Renamed out of sight, by itself or with a directory, it is out of reach, and back again."""
    narrowed = narrow(mounts=("/p/a",))
    handle_id, _ = await narrowed.open("/p/a/f", READ)
    file = await narrowed.open_file("/p/a/f", READ)
    for source, target in (("/p/a/f", "/q/f"), ("/p/a", "/q/a")):
        await tree.wstat(source, StatChanges(name=target))
        with pytest.raises(InvalidHandle):
            await narrowed.read(handle_id, 0, 1)
        with pytest.raises(InvalidHandle):
            await narrowed.read_file(file, 0, 1)
        assert await tree.read(handle_id, 0, 1) == b"c"
        await tree.wstat(target, StatChanges(name=source))
        assert await narrowed.read(handle_id, 0, 1) == b"c"
        assert await narrowed.read_file(file, 0, 1) == b"c"
    await tree.wstat("/p/b/f", StatChanges(name="/p/a/g"))
    outside, _ = await tree.open("/q", READ)
    await tree.wstat("/q", StatChanges(name="/p/a/q"))
    await narrowed.close(outside)


async def test_a_rename_needs_the_right_at_both_ends(tree: Session, narrow: Any):
    narrowed = narrow("rename:/p/a", "list:/p")
    for source, target in (("/p/a/f", "/p/b/g"), ("/p/b/f", "/p/a/g")):
        with pytest.raises(PermissionDenied):
            await narrowed.wstat(source, StatChanges(name=target))
    for source, target in (("/p/a/f", "/q/g"), ("/f", "/p/a/g")):
        with pytest.raises(NotFound):
            await narrowed.wstat(source, StatChanges(name=target))
    await narrowed.wstat("/p/a/f", StatChanges(name="/p/a/d/f"))


async def test_mounts_and_events_are_filtered(make_namespace: Any, limits: Any, clock: Any):
    namespace = make_namespace({path: MemFs(limits, clock) for path in ("/", "/m", "/n/o")})
    wide = namespace.attach(Principal("alice", "acme"))
    await put(wide, "/m/f")
    await put(wide, "/secret")
    await wide.wstat("/m/f", StatChanges(name="/m/g"))
    await wide.wstat("/secret", StatChanges(name="/other"))

    def attach(*mounts: str) -> Session:
        return namespace.attach(Principal("alice", "acme", mounts=mounts))

    assert [path for path, _ in wide.mounts()] == ["/", "/m", "/n/o"]
    assert [path for path, _ in attach("/m").mounts()] == ["/", "/m"]
    assert [path for path, _ in attach("/n").mounts()] == ["/", "/n/o"]
    events = await attach("/m/f").events(EventFilter())
    assert [(event.event_type, event.path, event.details) for event in events] == [
        ("rename", "/m/f", {}),
        ("upload", "/m/f", {"bytes": 0}),
    ]
    events = await attach("/m").events(EventFilter())
    assert [event.details.get("target") for event in events] == ["/m/g", None]
    events = await attach("/m").events(EventFilter(), limit=1, offset=1)
    assert events[0].event_type == "upload"
    assert len(await wide.events(EventFilter())) == 4
    with pytest.raises(PermissionDenied, match="audit trail"):
        await attach("/m").links(0, 10)
    assert len(await wide.links(0, 10)) == 0
    await namespace.audit.flush(everything=True)
    assert len(await wide.links(0, 10)) == 4
    assert attach("/m").sees("/m/x")
    assert not attach("/m").sees("/")
    assert wide.sees("/")


async def test_rights_never_exceed_the_roles(tree: Session, narrow: Any):
    reader = narrow("read", "overwrite", "delete", roles=("read-only",))
    with pytest.raises(PermissionDenied, match="read-only"):
        await reader.remove("/f")
    assert (await reader.open("/f", READ))[1].size == 7
