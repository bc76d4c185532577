"""fs9.vfs.watchfile: what the next owner of a namespace knows of what its watchers were told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fs9.limits import Limits
from fs9.providers.memfs import MemFs
from fs9.types import MKDIR
from fs9.vfs import watchfile
from tests.vfs.fix_watched import EXCLUSIVE, Seen, make, owner, rename

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fs9.clock import ManualClock

__all__ = ["owner"]


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
