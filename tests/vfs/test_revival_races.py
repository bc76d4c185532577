"""fs9.vfs.revival: what happens while a handle is reopened."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import (
    InvalidHandle,
    NotFound,
    OwnerUnavailable,
)
from fs9.providers.localfs import LocalFs
from fs9.types import StatChanges
from tests.vfs.fix_owners import CREATE, Owners, owners, put

if TYPE_CHECKING:
    from fs9.vfs.session import Session

__all__ = ["owners"]


async def left_open(owners: Owners) -> tuple[str, Session]:
    """A handle of `/f`, which holds `abc`, whose owner has crashed; and the next owner."""
    first = await owners.next()
    handle_id, _ = await first.open("/f", CREATE)
    await first.write(handle_id, 0, b"abc")
    owners.crash()
    return handle_id, await owners.next()


def slow_opens(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """From now on localfs opens no file before the event is set."""
    go_on = asyncio.Event()
    original = LocalFs.open

    async def slow(self: LocalFs, *args: Any) -> Any:
        await go_on.wait()
        return await original(self, *args)

    monkeypatch.setattr(LocalFs, "open", slow)
    return go_on


async def test_first_uses_at_once_share_one_open(owners: Owners, monkeypatch):
    handle_id, second = await left_open(owners)
    opened = []

    async def counted(self, path: str, *args: Any) -> Any:
        opened.append(path)
        await asyncio.sleep(0.01)
        return await original(self, path, *args)

    original = LocalFs.open
    monkeypatch.setattr(LocalFs, "open", counted)
    reads = [asyncio.create_task(second.read(handle_id, 0, 9)) for _ in range(20)]
    await asyncio.sleep(0)
    reads[0].cancel()  # the others are not
    results = await asyncio.gather(*reads[1:])
    assert {bytes(result) for result in results} == {b"abc"}
    assert opened == ["/f"]
    assert second.namespace.vfs.in_use.files == 1


async def test_a_first_use_during_a_rename_waits_for_its_end(owners: Owners, monkeypatch):
    """Between the rename at the provider and its record the file is at neither path for us."""
    handle_id, second = await left_open(owners)
    renamed, go_on = asyncio.Event(), asyncio.Event()

    async def slow(self, *args: Any) -> None:
        await original(self, *args)
        renamed.set()
        await go_on.wait()

    original = LocalFs.wstat
    monkeypatch.setattr(LocalFs, "wstat", slow)
    renaming = asyncio.create_task(second.wstat("/f", StatChanges(name="/g")))
    await renamed.wait()
    reading = asyncio.create_task(second.read(handle_id, 0, 9))
    await asyncio.sleep(0.03)
    assert not reading.done()
    go_on.set()
    assert bytes(await reading) == b"abc"
    await renaming


async def test_a_first_use_during_a_rename_to_and_fro_finds_the_file(owners: Owners, monkeypatch):
    """The open met the file at its other path; by the time it says so the file is back."""
    handle_id, second = await left_open(owners)
    missed, go_on = asyncio.Event(), asyncio.Event()

    async def slow(self, *args: Any) -> Any:
        try:
            return await original(self, *args)
        except NotFound:
            missed.set()
            await go_on.wait()
            raise

    original = LocalFs.open
    monkeypatch.setattr(LocalFs, "open", slow)
    (owners.path / "files/f").rename(owners.path / "files/away")
    reading = asyncio.create_task(second.read(handle_id, 0, 9))
    await missed.wait()
    (owners.path / "files/away").rename(owners.path / "files/f")
    await second.wstat("/f", StatChanges(name="/g"))
    await second.wstat("/g", StatChanges(name="/f"))
    go_on.set()
    assert bytes(await reading) == b"abc"


async def test_closed_while_it_is_reopened(owners: Owners, monkeypatch):
    """The close wins, and no file stays open."""
    handle_id, second = await left_open(owners)
    go_on = slow_opens(monkeypatch)
    reading = asyncio.create_task(second.read(handle_id, 0, 9))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await second.close(handle_id)
    go_on.set()
    with pytest.raises(InvalidHandle):
        await reading
    assert (len(second.namespace.handles), second.namespace.vfs.in_use.files) == (0, 0)


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("change", ["rename", "remove"])
async def test_a_crash_in_the_middle_of_a_change(owners: Owners, change: str, done: bool):
    """The next owner looks which of the two it was."""
    first = await owners.next()
    handle_id, _ = await first.open("/f", CREATE)
    await first.write(handle_id, 0, b"abc")
    journal = first.namespace.handles.journal
    assert journal is not None
    journal.begin("/f", "/g" if change == "rename" else "")
    owners.crash()
    if done:
        file = owners.path / "files/f"
        file.rename(file.with_name("g")) if change == "rename" else file.unlink()
    second = await owners.next()
    if done and change == "remove":
        await put(second, "/f", b"other")
        with pytest.raises(InvalidHandle):
            await second.read(handle_id, 0, 9)
    else:
        assert bytes(await second.read(handle_id, 0, 9)) == b"abc"


async def test_operations_race_with_changes(owners: Owners):
    """Renames to and fro with first uses in between: never an error, never another file."""
    first = await owners.next()
    ids = {}
    for number in range(20):
        handle_id, _ = await first.open(f"/f{number}", CREATE)
        await first.write(handle_id, 0, b"%d" % number)
        ids[number] = handle_id
    for round_ in range(4):
        owners.crash()
        session = await owners.next()

        async def rename(session: Session, number: int) -> None:
            for source, target in (("f", "g"), ("g", "f")):
                await session.wstat(f"/{source}{number}", StatChanges(name=f"/{target}{number}"))

        async def read(session: Session, number: int) -> bytes:
            return bytes(await session.read(ids[number], 0, 9))

        renames = [rename(session, number) for number in ids]
        results = await asyncio.gather(*renames, *(read(session, number) for number in ids))
        assert results[20:] == [b"%d" % number for number in ids], round_


async def test_given_up_while_a_handle_is_reopened(owners: Owners, monkeypatch):
    """That use ends well or at the next owner; the handle goes on."""
    handle_id, second = await left_open(owners)
    with monkeypatch.context() as patched:
        go_on = slow_opens(patched)
        reading = asyncio.create_task(second.read(handle_id, 0, 9))
        closing = asyncio.create_task(second.close(handle_id, sync=True))
        await asyncio.sleep(0.01)
        leaving = asyncio.create_task(owners.give_up())
        await asyncio.sleep(0.01)
        assert not leaving.done()
        go_on.set()
        await leaving
    with contextlib.suppress(OwnerUnavailable):
        await reading
    with pytest.raises(OwnerUnavailable):
        await closing
    assert bytes(await (await owners.next()).read(handle_id, 0, 9)) == b"abc"
