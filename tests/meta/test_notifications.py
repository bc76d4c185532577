"""Who waits for changes is woken by the one watch of its process, however that fares."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from fs9.errors import BackendUnavailable, Overloaded
from fs9.meta import notifications
from fs9.meta.notifications import ChangeNotifications

if TYPE_CHECKING:
    from collections.abc import Callable

LONG_S = 300.0
PATIENCE_S = 30.0


class Database:
    """Its watch calls back with what it is given, and fails when that is an error."""

    def __init__(self) -> None:
        self.watches = 0
        self.said: asyncio.Queue[int | Exception] = asyncio.Queue()

    async def watch(self, heard: Callable[[int], None]) -> None:
        self.watches += 1
        while True:
            what = await self.said.get()
            if isinstance(what, Exception):
                raise what
            heard(what)


@pytest.fixture
def database() -> Database:
    return Database()


async def test_those_are_woken_whom_it_concerns(database: Database) -> None:
    """One watch serves all of them; who knows of the change already goes on waiting."""
    waits = ChangeNotifications(database.watch)
    behind = [asyncio.create_task(waits.wait(known, LONG_S)) for known in (0, 3, 4)]
    level = asyncio.create_task(waits.wait(5, LONG_S))
    database.said.put_nowait(5)
    assert await asyncio.wait_for(asyncio.gather(*behind), PATIENCE_S) == [True, True, True]
    assert not level.done()
    assert await waits.wait(4, LONG_S), "at once, for what is known"
    assert not await waits.wait(5, 0.001)
    database.said.put_nowait(6)
    assert await asyncio.wait_for(level, PATIENCE_S)
    assert database.watches == 1
    await waits.aclose()


@pytest.mark.parametrize("error", [BackendUnavailable("gone"), ValueError("garbage")])
async def test_a_watch_that_fails_is_begun_again(
    database: Database, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Those who wait do not notice."""
    monkeypatch.setattr(notifications, "_AGAIN_S", 0.001)
    waits = ChangeNotifications(database.watch)
    waiting = asyncio.create_task(waits.wait(0, LONG_S))
    for said in (error, error, 1):
        database.said.put_nowait(said)
    assert await asyncio.wait_for(waiting, PATIENCE_S)
    assert database.watches == 3
    await waits.aclose()


async def test_a_process_that_ends_lets_them_go(database: Database) -> None:
    """They hear that nothing has changed, and later ones that they cannot wait here."""
    waits = ChangeNotifications(database.watch)
    waiting = asyncio.create_task(waits.wait(0, LONG_S))
    await asyncio.sleep(0)
    waits.end_waits()
    assert not await asyncio.wait_for(waiting, PATIENCE_S)
    with pytest.raises(Overloaded):
        await waits.wait(0, LONG_S)
    await waits.aclose()


async def test_no_more_wait_than_are_allowed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is refused; when one has gone there is room again."""
    monkeypatch.setattr(notifications, "_WAITING_MAX", 1)
    waits = ChangeNotifications(database.watch)
    first = asyncio.create_task(waits.wait(0, LONG_S))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await waits.wait(0, LONG_S)
    first.cancel()
    await asyncio.wait([first])
    assert not await waits.wait(0, 0.001)
    await waits.aclose()
