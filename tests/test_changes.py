"""fs9.changes: what the store knows is applied, from the beginning and ever after."""

from __future__ import annotations

import asyncio

from fs9.changes import ChangeFeed
from fs9.errors import BackendUnavailable
from fs9.meta.announce import Change, NamespaceChanged, Revoked
from fs9.meta.models import Changes, Revocation


def revocation(number: int) -> Revocation:
    return Revocation("jti", str(number), None, 9, 1, "root", id=number)


class Records:
    """Answers one after the other; the last one again and again."""

    def __init__(self, *answers: Changes | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []
        self.done = asyncio.Event()

    async def changes_since(self, change_id: int, limit: int = 10_000) -> Changes:
        self.asked.append(change_id)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if len(self.answers) == 1:
            self.done.set()
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_all_there_is_is_applied_in_order() -> None:
    """Answers in parts are read to the end; the next question goes on from there."""
    applied: list[Change] = []
    records = Records(
        Changes(5, ("a",), (revocation(1),), more=True), Changes(9, ("b",)), Changes(9)
    )
    feed = ChangeFeed(records, applied.append, list)
    await feed.catch_up()
    await feed.catch_up()
    assert records.asked == [0, 5, 9]
    assert applied == [Revoked((revocation(1),)), NamespaceChanged("a"), NamespaceChanged("b")]


async def test_after_a_gap_everything_is_read_anew() -> None:
    """What is loaded, and all revocations from the beginning."""
    applied: list[Change] = []
    records = Records(Changes(5), Changes(99, complete=False), Changes(99, (), (revocation(1),)))
    feed = ChangeFeed(records, applied.append, lambda: ["a", "b"])
    await feed.catch_up()
    await feed.catch_up()
    assert records.asked == [0, 5, 0]
    expected = [NamespaceChanged("a"), NamespaceChanged("b"), Revoked((revocation(1),))]
    assert applied == expected


async def test_an_outage_is_waited_out() -> None:
    """The feed asks again until it is answered, at once when it is told to hurry."""
    applied: list[Change] = []
    records = Records(BackendUnavailable("down"), Changes(1, ("a",)))
    feed = ChangeFeed(records, applied.append, list)
    task = asyncio.create_task(feed.follow(0.001))
    await asyncio.wait_for(records.done.wait(), 30)
    feed.hurry()
    await asyncio.sleep(0.01)
    task.cancel()
    assert NamespaceChanged("a") in applied
