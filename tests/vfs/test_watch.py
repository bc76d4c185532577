"""fs9.vfs.watch: what watchers are told, in which order, and what becomes of it with the owner."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from fs9.errors import (
    BackendUnavailable,
    InvalidArgument,
    NotFound,
    OwnerUnavailable,
    PermissionDenied,
)
from fs9.limits import Limits
from fs9.path import is_within
from fs9.principal import Principal
from fs9.providers.memfs import MemFs
from fs9.types import MKDIR, REPLACE, OpenFlags, StatChanges
from fs9.vfs import watch, watchfile
from fs9.vfs.watchfile import WatchFiles
from fs9.vfs.watchview import CREATE, LOST, REMOVE, RENAME, Happened, View

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.threads import BlockingPool
    from fs9.vfs.follow import Following
    from fs9.vfs.namespace import Namespace
    from fs9.vfs.session import Session

NEW = OpenFlags(write=True, create=True)
EXCLUSIVE = OpenFlags(write=True, create=True, exclusive=True)


def encode(told: Happened, cursor: str) -> bytes:
    return msgspec.json.encode({"cursor": cursor, **msgspec.structs.asdict(told)})


class Seen:
    """A watcher and what it was told."""

    def __init__(self, session: Session, path: str = "/", cursor: str | None = None) -> None:
        self.watching: Following = session.watch(path, cursor, encode)
        self.lost = 0
        self.events: list[dict[str, Any]] = []
        self.cursor = cursor or ""

    async def all(self) -> list[tuple[str, ...]]:
        """Everything up to now, as (type, path) or (type, path, target)."""
        for _ in range(2):  # the first delivery says where it begins
            while (delivery := await self.watching.next(0)) is not None:
                self.cursor = delivery.cursor
                self.lost += delivery.lost != 0
                self.events += [msgspec.json.decode(each.data) for each in delivery.messages]
                if not delivery.messages:
                    break
        return [
            (each["type"], each["path"], each["target"])
            if each["target"]
            else (each["type"], each["path"])
            for each in self.events
        ]

    def close(self) -> None:
        self.watching.close()


async def make(session: Session, path: str, flags: OpenFlags = NEW) -> None:
    await session.commit_file(await session.open_file(path, flags))


async def put(session: Session, path: str, content: bytes = b"x") -> None:
    file = await session.open_file(path, REPLACE)
    await session.write_file(file, 0, content)
    await session.commit_file(file)


async def rename(session: Session, path: str, target: str) -> None:
    await session.wstat(path, StatChanges(name=target))


# -- what is told -------------------------------------------------------------------------------


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
    async with asyncio.timeout(20):
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


# -- owners -------------------------------------------------------------------------------------


class Kept(MemFs):
    """A tree that several owners see one after the other, as one on a disk."""

    volatile = False


@pytest.fixture
def owner(
    tmp_path: Path,
    pool: BlockingPool,
    make_namespace: Callable[..., Namespace],
    limits: Limits,
    clock: ManualClock,
) -> Callable[..., Any]:
    tree = Kept(limits, clock)

    async def take(
        mounts: str = "same", provider: MemFs = tree, limits: Limits = limits
    ) -> Session:
        namespace = make_namespace({"/": provider}, limits=limits)
        file, left = await WatchFiles(tmp_path / "watch", pool).load("acme")
        volatile = [each.path for each in namespace.vfs.mounts if each.provider.volatile]
        namespace.watch.go_on(file, left, mounts, volatile)
        return namespace.attach(Principal("alice", "acme"))

    return take


async def test_the_next_owner_goes_on_with_the_log(owner: Callable[..., Any]):
    """After an end in order, and after none: what was answered is told, once, with its number."""
    one = await owner()
    seen = Seen(one)
    await make(one, "/1", EXCLUSIVE)
    await seen.all()
    await make(one, "/2", EXCLUSIVE)
    one.namespace.watch.close()
    two = await owner()
    await make(two, "/3", EXCLUSIVE)  # and `two` is killed
    three = await owner()
    again = Seen(three, cursor=seen.cursor)
    assert (await again.all(), again.lost) == ([("create", "/2"), ("create", "/3")], 0)
    await rename(three, "/3", "/4")
    assert (await again.all())[-1] == ("rename", "/3", "/4")


async def test_what_was_on_its_way_when_the_owner_died_is_told_as_lost(
    owner: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    """Of an open file that was written to it is a write, at the path where it is then."""
    one = await owner()
    seen = Seen(one)
    await make(one, "/d", MKDIR)
    file = await one.open_file("/d/f", EXCLUSIVE)
    await one.write_file(file, 0, b"1")
    await one.write_file(file, 0, b"2")  # is told of later, by the timer
    await rename(one, "/d", "/e")
    provider = file.mount.provider
    with monkeypatch.context() as patch:
        never = asyncio.Event()

        async def stuck(*_: Any) -> None:
            await never.wait()

        patch.setattr(provider, "wstat", stuck)
        dying = asyncio.create_task(rename(one, "/e/f", "/e/g"))
        await asyncio.sleep(0)
        await seen.all()
        two = await owner()
        again = Seen(two, cursor=seen.cursor)
        assert await again.all() == [("write", "/e/f"), ("lost", "/e/g"), ("lost", "/e/f")]
        three = await owner()
        last = Seen(three, cursor=again.cursor)
        assert (await last.all(), last.lost) == ([], 0)
        dying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dying
    one.namespace.watch.close()


async def test_an_owner_with_other_mounts_or_a_new_memory_tells_so(
    owner: Callable[..., Any], limits: Limits, clock: ManualClock
):
    one = await owner()
    seen = Seen(one)
    await seen.all()
    two = await owner("others")
    assert await Seen(two, cursor=seen.cursor).all() == [("lost", "/")]
    three = await owner("others", MemFs(limits, clock))
    assert await Seen(three, cursor=seen.cursor).all() == [("lost", "/"), ("lost", "/")]


async def test_the_log_on_disk_is_bounded_and_can_be_gone_on_with(
    owner: Callable[..., Any], tmp_path: Path
):
    """Over many segments, whoever comes for the last events gets them from the next owner."""
    limits = Limits(watch_events_max=10)
    session = await owner(limits=limits)
    seen = Seen(session)
    for number in range(100):
        await make(session, f"/{number}", EXCLUSIVE)
        await seen.all()
    files = list((tmp_path / "watch").iterdir())
    assert {each.name for each in files} == {"acme", "acme.old"}
    assert sum(len(each.read_bytes().splitlines()) for each in files) <= 100
    cursor = seen.events[-6]["cursor"]
    for _ in range(2):
        session = await owner(limits=limits)
        told = await Seen(session, cursor=cursor).all()
        assert told == [("create", f"/{number}") for number in range(95, 100)]
    assert Seen(session, cursor=seen.events[0]["cursor"])


async def test_a_torn_last_line_was_never_told_and_what_is_no_log_is_no_end(
    owner: Callable[..., Any], tmp_path: Path
):
    """A crash in the middle of a write; a file that something else has written to."""
    session = await owner()
    seen = Seen(session)
    await make(session, "/1", EXCLUSIVE)
    await seen.all()
    path = tmp_path / "watch" / "acme"
    with path.open("ab") as file:
        file.write(b'["e",2,17000')
    again = Seen(await owner(), cursor=seen.cursor)
    assert (await again.all(), again.lost) == ([], 0)
    path.write_bytes(b"something else\n")
    anew = Seen(await owner(), cursor=seen.cursor)
    assert (await anew.all(), anew.lost) == ([], 1)


async def test_a_full_disk_ends_the_cursors_and_not_the_changes(
    owner: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    """Those who watch are told to list anew, and are told what comes."""
    session = await owner()
    seen = Seen(session)
    await seen.all()

    def full(*_: Any) -> int:
        raise OSError(28, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(watchfile, "_write", full)
        await make(session, "/1", EXCLUSIVE)
    await seen.all()
    assert seen.lost == 1
    await make(session, "/2", EXCLUSIVE)
    assert (await seen.all())[-1] == ("create", "/2")
    again = Seen(await owner(), cursor=seen.cursor)
    assert (await again.all(), again.lost) == ([], 1)


# -- the model ----------------------------------------------------------------------------------


class Replica:
    """A tree built of events alone; it looks only where it is told `lost`, as late as it can, and
    where that was renamed to."""

    def __init__(self, session: Session, paths: set[str]) -> None:
        self.seen = Seen(session)
        self.paths = set(paths)
        self.lost: list[str] = []
        self.numbers: list[int] = []

    def apply(self, event: dict[str, Any]) -> None:
        kind, path, target = event["type"], event["path"], event["target"]
        self.numbers.append(event["sequence"])
        if kind in {"create", "upload"}:
            self.paths.add(path)
        elif kind == "remove":
            self.paths.discard(path)
        elif kind == "rename":
            moved = {each for each in self.paths if (each + "/").startswith(path + "/")}
            self.paths -= moved
            self.paths -= {each for each in self.paths if (each + "/").startswith(target + "/")}
            self.paths |= {target + each[len(path) :] for each in moved}
            if any(is_within(path, each) or is_within(each, path) for each in self.lost):
                self.lost.append(target)
        elif kind == "lost":
            self.lost.append(path)

    async def catch_up(self) -> None:
        done = len(self.seen.events)
        await self.seen.all()
        for event in self.seen.events[done:]:
            self.apply(event)

    async def look(self, session: Session) -> None:
        """List anew what was lost; nothing changes meanwhile."""
        real = await tree_of(session)
        for path in self.lost:
            prefix = path.rstrip("/") + "/"
            self.paths = {each for each in self.paths if not (each + "/").startswith(prefix)}
            self.paths |= {each for each in real if (each + "/").startswith(prefix)}
        self.lost.clear()

    def reconnect(self, session: Session) -> None:
        self.seen.close()
        self.seen = Seen(session, cursor=self.seen.cursor)


async def tree_of(session: Session) -> set[str]:
    paths: set[str] = set()
    pending = ["/"]
    while pending:
        for info in await session.readdir(pending.pop()):
            paths.add(info.path)
            if info.is_dir:
                pending.append(info.path)
    return paths


class Slow(Kept):
    """Its changes take a while, before and after they are done, so that they run side by side."""

    dice = random.Random(1)

    async def _dawdle(self) -> None:
        for _ in range(self.dice.randrange(4)):
            await asyncio.sleep(0)

    async def open(self, *arguments: Any) -> Any:
        await self._dawdle()
        opened = await super().open(*arguments)
        await self._dawdle()
        return opened

    async def wstat(self, *arguments: Any) -> None:
        await self._dawdle()
        await super().wstat(*arguments)
        await self._dawdle()

    async def remove(self, *arguments: Any) -> None:
        await self._dawdle()
        await super().remove(*arguments)
        await self._dawdle()


async def change_something(session: Session, dice: random.Random) -> None:
    """One change of a small tree, where most names meet others."""
    names = ["/a", "/b", "/a/x", "/b/x", "/a/y", "/a/x/1", "/b/x/1", "/c"]
    path, target = dice.choice(names), dice.choice(names)
    try:
        match dice.randrange(6):
            case 0:
                await make(session, path, MKDIR)
            case 1:
                await make(session, path, dice.choice([NEW, EXCLUSIVE]))
            case 2:
                await put(session, path)
            case 3 | 4:
                await session.remove(path)
            case _:
                await rename(session, path, target)
    except (OSError, NotFound, InvalidArgument, PermissionDenied):
        return
    except Exception as error:
        if type(error).__name__ not in {
            "AlreadyExists",
            "NotDirectory",
            "IsDirectory",
            "DirectoryNotEmpty",
            "Conflict",
        }:
            raise


@pytest.mark.parametrize("seed", range(60))
async def test_replicas_of_several_clients_are_the_tree(
    seed: int, owner: Callable[..., Any], limits: Limits, clock: ManualClock
):
    """Whatever runs side by side, breaks off, comes again or dies: each replica is the real tree,
    each got every event once, and one client alone makes nothing that is told as lost."""
    dice = random.Random(seed)
    Slow.dice = random.Random(seed)
    provider = Slow(limits, clock)
    clients = 1 if seed < 8 else dice.randrange(2, 6)
    session = await owner(provider=provider)
    replicas = [Replica(session, set()) for _ in range(4)]
    for replica in replicas:
        await replica.catch_up()  # so that it knows where it began
    for _ in range(40):
        await asyncio.gather(
            *(change_something(session, dice) for _ in range(dice.randrange(1, clients + 1)))
        )
        for replica in replicas:
            if dice.random() < 0.5:
                await replica.catch_up()
            if dice.random() < 0.2:
                replica.reconnect(session)
        if dice.random() < 0.1:  # another owner, after an end in order or none at all
            if dice.random() < 0.5:
                session.namespace.watch.close()
            session = await owner(provider=provider)
            for replica in replicas:
                replica.reconnect(session)
        if dice.random() < 0.1:
            for replica in replicas:
                await replica.catch_up()
                await replica.look(session)
                assert replica.paths == await tree_of(session)
    for replica in replicas:
        await replica.catch_up()
        if clients == 1:
            assert not replica.lost
        await replica.look(session)
        assert replica.paths == await tree_of(session)
        assert replica.seen.lost == 0
        numbers = replica.numbers
        assert numbers == list(range(1, len(numbers) + 1))
