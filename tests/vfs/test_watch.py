"""fs9.vfs.watch: what watchers are told, in which order, and for how long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import (
    BackendUnavailable,
    InvalidArgument,
    NotFound,
    OwnerUnavailable,
    PermissionDenied,
)
from fs9.limits import Limits
from fs9.principal import Principal
from fs9.providers.memfs import MemFs
from fs9.types import MKDIR, REPLACE, OpenFlags, StatChanges
from fs9.vfs import watch
from fs9.vfs.watchview import CREATE, LOST, REMOVE, RENAME, Happened, View
from tests.vfs.fix_watched import EXCLUSIVE, Seen, encode, make, put, rename

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.clock import ManualClock
    from fs9.vfs.namespace import Namespace
    from fs9.vfs.session import Session


async def test_each_kind_of_change_is_told_once_in_order(session: Session):
    """And what changes nothing, or is refused, is not told."""
    await make(session, "/before")
    seen = Seen(session)
    await make(session, "/d", MKDIR)
    await make(session, "/d/f", EXCLUSIVE)
    await put(session, "/d/up")
    await session.wstat("/d/f", StatChanges(mode=0o600))
    await session.wstat("/d/f", StatChanges(size=5))
    await session.wstat("/d/f", StatChanges())
    await session.wstat("/link", StatChanges(symlink_target="d"))
    await rename(session, "/d/f", "/d/g")
    await rename(session, "/d/g", "/d/g")
    with pytest.raises(NotFound):
        await session.remove("/missing")
    await session.remove("/d/g")
    discarded = await session.open_file("/d/up", REPLACE)
    await session.write_file(discarded, 0, b"never")
    await session.discard_file(discarded)
    assert await seen.all() == [
        ("create", "/d"),
        ("create", "/d/f"),
        ("upload", "/d/up"),
        ("chmod", "/d/f"),
        ("write", "/d/f"),
        ("create", "/link"),
        ("rename", "/d/f", "/d/g"),
        ("remove", "/d/g"),
    ]
    assert [each["directory"] for each in seen.events][:2] == [True, False]
    numbers = [each["sequence"] for each in seen.events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_writes_are_told_at_a_bounded_rate_and_the_last_one_in_any_case(
    session: Session, monkeypatch: pytest.MonkeyPatch
):
    """At once, then at intervals, then when nothing more comes; the close by itself."""
    monkeypatch.setattr(watch, "WRITE_INTERVAL_S", 0.05)
    seen = Seen(session)
    handle, _ = await session.open("/f", EXCLUSIVE)
    for offset in range(500):
        await session.write(handle, offset, b"x")
    assert await seen.all() == [("create", "/f"), ("write", "/f")]
    async with asyncio.timeout(60):
        while len(await seen.all()) < 3:  # noqa: ASYNC110 - a timer of the server's
            await asyncio.sleep(0.02)
    await rename(session, "/f", "/g")
    await session.write(handle, 0, b"y")
    await session.close(handle)
    told = await seen.all()
    assert told[:3] == [("create", "/f"), ("write", "/f"), ("write", "/f")]
    assert told[3] == ("rename", "/f", "/g")
    assert told[-1] == ("written", "/g")
    assert len(told) <= 6
    reading, _ = await session.open("/g", OpenFlags(read=True))
    await session.close(reading)
    assert len(await seen.all()) == len(told)


async def test_what_nobody_knows_the_end_of_is_told_as_lost(
    make_namespace: Callable[..., Namespace], limits: Limits, clock: ManualClock
):
    """A provider that fails in the middle, a caller that goes; not what is refused."""
    provider = MemFs(limits, clock)
    session = make_namespace({"/": provider}).attach(Principal("alice", "acme"))
    await make(session, "/f")
    seen = Seen(session)
    removing = provider.remove

    async def fails(*arguments: Any) -> None:
        await removing(*arguments)
        raise BackendUnavailable("gone")

    provider.remove = fails  # type: ignore[method-assign]
    with pytest.raises(BackendUnavailable):
        await session.remove("/f")
    assert await seen.all() == [("lost", "/f")]


async def test_changes_side_by_side_of_one_path_are_told_as_lost_after_them(
    make_namespace: Callable[..., Namespace], limits: Limits, clock: ManualClock
):
    """Their order at the provider is not known: whoever looks after that sees what there is."""
    provider = MemFs(limits, clock)
    session = make_namespace({"/": provider}).attach(Principal("alice", "acme"))
    await make(session, "/d", MKDIR)
    await make(session, "/d/f")
    seen = Seen(session)
    removing, begun, go = provider.remove, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any) -> None:
        await removing(*arguments)
        begun.set()
        await go.wait()

    provider.remove = slow  # type: ignore[method-assign]
    remove = asyncio.create_task(session.remove("/d/f"))
    await begun.wait()
    await make(session, "/d/f", EXCLUSIVE)
    await make(session, "/other", EXCLUSIVE)
    go.set()
    await remove
    assert await seen.all() == [
        ("create", "/d/f"),
        ("lost", "/d/f"),
        ("create", "/other"),
        ("remove", "/d/f"),
        ("lost", "/d/f"),
    ]


async def test_a_change_that_had_begun_before_the_watch_is_told(
    make_namespace: Callable[..., Namespace], limits: Limits, clock: ManualClock
):
    provider = MemFs(limits, clock)
    session = make_namespace({"/": provider}).attach(Principal("alice", "acme"))
    await make(session, "/f")
    removing, begun, go = provider.remove, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any) -> None:
        begun.set()
        await go.wait()
        await removing(*arguments)

    provider.remove = slow  # type: ignore[method-assign]
    remove = asyncio.create_task(session.remove("/f"))
    await begun.wait()
    seen = Seen(session)
    go.set()
    await remove
    assert await seen.all() == [("remove", "/f"), ("lost", "/f")]


# -- views --------------------------------------------------------------------------------------


def tell(view: View, type_: str, path: str, target: str = "") -> tuple[str, ...] | None:
    told = view.tell(Happened(7, 0, type_, path, target))
    if told is None:
        return None
    assert told.sequence == 7
    what = (told.type, told.path, told.target) if told.target else (told.type, told.path)
    return (*what, "moved") if told.moved else what


def test_a_view_of_a_prefix():
    """Names are compared whole; what crosses the border is created or removed."""
    view = View("/a/b", ("/a/b",))
    assert tell(view, CREATE, "/a/bc") is None
    assert tell(view, CREATE, "/a/b/c") == (CREATE, "/a/b/c")
    assert tell(view, CREATE, "/a") is None
    assert tell(view, RENAME, "/a/b/c", "/a/b/d") == (RENAME, "/a/b/c", "/a/b/d")
    assert tell(view, RENAME, "/a/b/c", "/x") == (REMOVE, "/a/b/c")
    assert tell(view, RENAME, "/x", "/a/b/c") == (CREATE, "/a/b/c", "moved")
    assert tell(view, RENAME, "/x", "/y") is None
    assert tell(view, RENAME, "/a", "/y") == (REMOVE, "/a/b")
    assert tell(view, RENAME, "/y", "/a") == (CREATE, "/a/b", "moved")
    assert tell(view, LOST, "/") == (LOST, "/a/b")
    assert tell(view, LOST, "/x") is None


def test_a_view_of_several_roots_tells_one_event_as_one():
    view = View("/", ("/a/b", "/a/c", "/d"))
    assert tell(view, RENAME, "/a/b/1", "/d/1") == (RENAME, "/a/b/1", "/d/1")
    assert tell(view, RENAME, "/a", "/x") == (LOST, "/")
    assert tell(view, LOST, "/a") == (LOST, "/")
    assert tell(view, LOST, "/d") == (LOST, "/d")
    assert tell(view, CREATE, "/e") is None


async def test_a_narrowed_token_is_told_what_it_may_see(namespace: Namespace, session: Session):
    """A rename over its border shows no path from beyond; where it sees nothing, it is refused."""
    narrowed = namespace.attach(
        Principal("bob", "acme", permissions=("read:/in", "list:/in", "create:/drop"))
    )
    for path in ("/in", "/out", "/drop"):
        await make(session, path, MKDIR)
    seen = Seen(narrowed)
    await make(session, "/out/1", EXCLUSIVE)
    await rename(session, "/out/1", "/in/1")
    await make(session, "/drop/1", EXCLUSIVE)
    await rename(session, "/in/1", "/out/2")
    await rename(session, "/in", "/hidden")
    assert await seen.all() == [("create", "/in/1"), ("remove", "/in/1"), ("remove", "/in")]
    assert seen.events[0]["moved"]
    assert not any("out" in str(each) or "hidden" in str(each) for each in seen.events)
    with pytest.raises(NotFound):
        narrowed.watch("/out", None, encode)
    with pytest.raises(PermissionDenied):
        narrowed.watch("/drop", None, encode)


# -- cursors ------------------------------------------------------------------------------------


async def test_whoever_comes_again_misses_nothing_and_gets_nothing_twice(session: Session):
    seen = Seen(session)
    await make(session, "/1", EXCLUSIVE)
    await make(session, "/2", EXCLUSIVE)
    await seen.all()
    middle = seen.events[0]["cursor"]
    seen.close()
    await make(session, "/3", EXCLUSIVE)
    assert await Seen(session, cursor=seen.cursor).all() == [("create", "/3")]
    assert await Seen(session, cursor=middle).all() == [("create", "/2"), ("create", "/3")]
    for wrong in ("x", "12345678", "12345678-", "1234567-1", "12345678-x", "12345678-" + "9" * 30):
        with pytest.raises(InvalidArgument):
            session.watch("/", wrong, encode)


async def test_a_cursor_that_the_log_does_not_reach_back_to_is_told_so(
    make_namespace: Callable[..., Namespace],
):
    """Too old, of another log, or from the future; a slow watcher too. Then it goes on."""
    namespace = make_namespace(limits=Limits(watch_events_max=5))
    session = namespace.attach(Principal("alice", "acme"))
    slow, quick = Seen(session), Seen(session)
    await slow.all()
    first = slow.cursor
    for number in range(12):
        await make(session, f"/{number}", EXCLUSIVE)
        await quick.all()
    epoch = first.partition("-")[0]
    for cursor in (first, f"{epoch}-999", "00000000-3"):
        late = Seen(session, cursor=cursor)
        assert (await late.all(), late.lost) == ([], 1)
        assert late.cursor == quick.cursor
        late.close()
    assert (await slow.all(), slow.lost) == ([], 1)
    assert (len(await quick.all()), quick.lost) == (12, 0)
    await make(session, "/more", EXCLUSIVE)
    assert await slow.all() == [("create", "/more")]
    assert namespace.watch.stats.lost == 4
    slow.close()
    quick.close()
    assert namespace.watch.stats.watchers == 0


async def test_a_log_ends_long_after_its_last_watcher(session: Session, clock: ManualClock):
    """Until then whoever comes again is served; afterwards it is told to list anew."""
    log = session.namespace.watch
    await make(session, "/unwatched", EXCLUSIVE)
    assert not log.active
    seen = Seen(session)
    await seen.all()
    seen.close()
    clock.advance(watch.KEEP_S - 1)
    await make(session, "/f", EXCLUSIVE)
    again = Seen(session, cursor=seen.cursor)
    assert (await again.all(), again.lost) == ([("create", "/f")], 0)
    again.close()
    clock.advance(watch.KEEP_S + 1)
    await make(session, "/g", EXCLUSIVE)
    assert not log.active
    again = Seen(session, cursor=again.cursor)
    assert (await again.all(), again.lost) == ([], 1)


async def test_watchers_end_with_the_namespace(session: Session):
    seen = Seen(session)
    await seen.all()
    waiting = asyncio.create_task(seen.watching.next(60))
    await asyncio.sleep(0)
    await session.namespace.aclose()
    assert await waiting is None
    with pytest.raises(OwnerUnavailable):
        session.watch("/", None, encode)
