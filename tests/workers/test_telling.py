"""workers.telling: who tells something learns when all know it, whatever is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from fs9.meta import announce
from fs9.meta.models import Revocation
from router.messages import NamespaceChanged
from workers.changes import from_message, to_message
from workers.telling import Telling

if TYPE_CHECKING:
    from router.messages import Told


class Broker:
    """What was reported to it."""

    def __init__(self) -> None:
        self.heard: list[Told] = []
        self.telling = Telling(self.heard.append)


async def begun(broker: Broker) -> asyncio.Task[bool]:
    broker.telling.on_broker("e1")
    task = asyncio.create_task(broker.telling.tell(NamespaceChanged("n"), 30.0))
    await asyncio.sleep(0)
    return task


async def test_it_is_told_once_all_have_acknowledged() -> None:
    """Not at its own announcement, nor when others were acknowledged before it."""
    broker = Broker()
    task = await begun(broker)
    broker.telling.acknowledged("e1", 100)
    broker.telling.heard(broker.heard[0], "e1", 7)
    broker.telling.acknowledged("e1", 6)
    broker.telling.acknowledged("e2", 9)
    await asyncio.sleep(0)
    assert not task.done()
    broker.telling.acknowledged("e1", 7)
    assert await task


async def test_another_broker_is_told_again() -> None:
    """The first one may have died with it; its numbers count no more."""
    broker = Broker()
    task = await begun(broker)
    broker.telling.heard(broker.heard[0], "e1", 7)
    broker.telling.on_broker("e2")
    assert broker.heard[1] == broker.heard[0]
    broker.telling.acknowledged("e1", 7)
    broker.telling.heard(broker.heard[1], "e2", 2)
    broker.telling.acknowledged("e2", 2)
    assert await task


async def test_after_its_time_it_gives_up() -> None:
    """Without a broker, say; and what comes later is nothing to it."""
    broker = Broker()
    assert not await broker.telling.tell(NamespaceChanged("n"), 0.001)
    broker.telling.heard(broker.heard[0], "e1", 1)
    broker.telling.on_broker("e1")
    assert len(broker.heard) == 1


@pytest.mark.parametrize(
    "change",
    [
        announce.NamespaceChanged("acme"),
        announce.Revoked((Revocation("user", "ann", None, 9, 1, "root", 5, 3),)),
    ],
)
def test_a_change_comes_back_from_the_bus_as_it_was(change: announce.Change) -> None:
    assert from_message(to_message(change)) == change
