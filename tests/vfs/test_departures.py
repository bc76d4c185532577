"""fs9.vfs.departures: watchers hear of keys that expire, once, whoever owns the namespace.

And of files whose time in a trash is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fs9.limits import Limits
from fs9.principal import Principal
from fs9.providers import kvfs
from fs9.providers.kvexpiry import Expiry
from fs9.providers.pagefs import backends
from fs9.providers.registry import ProviderContext
from fs9.types import MountSpec, StatChanges
from fs9.vfs.building import begin_watch
from fs9.vfs.departures import Departures
from fs9.vfs.watchfile import WatchFiles
from tests.vfs.fix_watched import EXCLUSIVE, Seen, make, put

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.threads import BlockingPool
    from fs9.vfs.namespace import Namespace
    from fs9.vfs.session import Session

#: Provider -> how it is made, and its settings.
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "kvfs": (kvfs.create, {"ttl_s": 5}),
    "pagefs": (backends.create, {"trash_retention_secs": 5}),
}


@pytest.fixture
def owner(
    tmp_path: Path,
    pool: BlockingPool,
    clock: ManualClock,
    make_namespace: Callable[..., Namespace],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], Any]:
    """Makes the next owner of a namespace, with one mount; the timer of a kvfs stands still."""
    monkeypatch.setattr(Expiry, "_wait_for", lambda *_: None)

    async def take(path: str = "/kv", kind: str = "kvfs") -> Session:
        context = ProviderContext("acme", tmp_path, Limits(), clock, pool, mount=path)
        create, config = KINDS[kind]
        namespace = make_namespace({path: await create(config, context)})
        specs = (MountSpec(path, kind),)
        await begin_watch(WatchFiles(tmp_path / "watch", pool), namespace, specs)
        return namespace.attach(Principal("alice", "acme"))

    return take


async def sweep(session: Session) -> None:
    (mount,) = session.namespace.vfs.mounts
    await mount.provider._expiry.sweep()  # type: ignore[attr-defined]


async def test_expiries_are_removals_in_the_log(owner: Callable[[], Any], clock: ManualClock):
    """In order with all else, and with cursors that reach over them; in directories that moved."""
    session = await owner()
    seen = Seen(session)
    await put(session, "/kv/a")
    clock.advance(1)
    await put(session, "/kv/b")
    clock.advance(5)
    await sweep(session)
    await put(session, "/kv/c")
    clock.advance(6)
    await make(session, "/kv/c", EXCLUSIVE)
    await sweep(session)
    told = [
        ("upload", "/kv/a"),
        ("upload", "/kv/b"),
        ("remove", "/kv/a"),
        ("remove", "/kv/b"),
        ("upload", "/kv/c"),
        ("remove", "/kv/c"),
        ("create", "/kv/c"),
    ]
    assert await seen.all() == told
    middle = Seen(session, cursor=seen.events[3]["cursor"])
    assert (await middle.all(), middle.lost) == (told[4:], 0)
    await session.namespace.aclose()


async def test_a_mount_that_lost_its_files_is_told_at_its_path(owner: Callable[[], Any]):
    session = await owner()
    seen = Seen(session)
    vfs = session.namespace.vfs
    (mount,) = vfs.mounts
    Departures(vfs, mount).lost()
    assert await seen.all() == [("lost", "/kv")]
    await session.namespace.aclose()


async def test_what_expires_between_two_owners_is_told_by_the_next_one(
    owner: Callable[[], Any], clock: ManualClock
):
    """Once: what the first one told is not told again."""
    one = await owner()
    seen = Seen(one)
    await put(one, "/kv/a")
    clock.advance(6)
    await sweep(one)
    await put(one, "/kv/b")
    await seen.all()
    await one.namespace.aclose()
    clock.advance(6)
    two = await owner()
    await two.wstat("/kv", StatChanges(mode=0o700))
    again = Seen(two, cursor=seen.cursor)
    await sweep(two)
    assert (await again.all(), again.lost) == ([("chmod", "/kv"), ("remove", "/kv/b")], 0)
    await two.namespace.aclose()


async def test_what_leaves_a_trash_in_time_is_told(owner: Callable[..., Any], clock: ManualClock):
    """Once: before the change that it made way for, or by the next owner."""
    one = await owner("/p", "pagefs")
    seen = Seen(one)
    for name in "abc":
        await put(one, f"/p/{name}")
    await one.remove("/p/a")
    clock.advance(6)
    await one.remove("/p/b")
    *_, before, told = await seen.all()
    assert (before[0], before[1].endswith("~a")) == ("remove", True)
    assert told == ("remove", "/p/b")
    assert sum(".trash" in event["path"] for event in seen.events) == 1
    await one.namespace.aclose()
    clock.advance(6)
    two = await owner("/p", "pagefs")
    again = Seen(two, cursor=seen.cursor)
    (mount,) = two.namespace.vfs.mounts
    await mount.provider.core.settle()
    ((kind, path),) = await again.all()
    assert (kind, path.endswith("~b"), again.lost) == ("remove", True, 0)
    await two.namespace.aclose()
