"""fs9.changes: what the store knows is applied, from the beginning and ever after."""

from __future__ import annotations

import asyncio

from fs9.changes import ChangeFeed
from fs9.errors import BackendUnavailable, NotSupported
from fs9.meta.announce import Change, NamespaceChanged, Revoked
from fs9.meta.models import Changes, Revocation


def revocation(number: int) -> Revocation:
    return Revocation("jti", str(number), None, 9, 1, "root", id=number)


class Records:
    """Answers one after the other; the last one again and again. `said`: those to who waits."""

    def __init__(self, *answers: Changes | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []
        self.done = asyncio.Event()
        self.said: asyncio.Queue[bool | Exception] = asyncio.Queue()
        self.waited_for: list[int] = []

    async def wait_change(self, change_id: int, wait_s: float) -> bool:
        self.waited_for.append(change_id)
        answer = await self.said.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

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
    loaded: list[str] = []
    feed = ChangeFeed(records, applied.append, lambda: [*loaded, f"{len(records.asked)} asked"])
    await feed.catch_up()
    applied.clear()
    loaded += ["a", "b"]
    await feed.catch_up()
    assert records.asked == [0, 5, 0]
    names = ("a", "b", "3 asked")
    assert applied == [*map(NamespaceChanged, names), Revoked((revocation(1),))]


async def test_what_was_loaded_before_the_first_answer_is_read_anew() -> None:
    """Its first answer names no namespace, for who starts is thought to know none; but while the
    store answered nothing, or only other questions, some may have been read, and changed since."""
    applied: list[Change] = []
    records = Records(BackendUnavailable("down"), Changes(0), Changes(0), Changes(7), Changes(7))
    feed = ChangeFeed(records, applied.append, lambda: ["a"])
    await feed.try_catch_up()
    for _ in range(2):
        await feed.catch_up()
        assert applied == [], "nothing has ever changed, or the store tells no changes"
    for _ in range(2):
        await feed.catch_up()
        assert applied == [NamespaceChanged("a")]


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


async def test_what_the_store_says_is_heeded_at_once() -> None:
    """The timer is far away, and waiting failed before: it is tried again."""
    applied: list[Change] = []
    heard = asyncio.Event()

    def apply(change: Change) -> None:
        applied.append(change)
        heard.set()

    records = Records(Changes(7), Changes(8, ("a",)), Changes(9, ("b",)))
    feed = ChangeFeed(records, apply, list)
    await feed.catch_up()
    task = asyncio.create_task(feed.follow(3_600))
    for answer in (BackendUnavailable("down"), NotSupported("waiting"), False, True):
        records.said.put_nowait(answer)
    await asyncio.wait_for(heard.wait(), 30)
    heard.clear()
    assert applied == [NamespaceChanged("a")]
    records.said.put_nowait(True)
    await asyncio.wait_for(heard.wait(), 30)
    task.cancel()
    assert applied[1:] == [NamespaceChanged("b")]
    assert records.waited_for[:5] == [7, 7, 7, 7, 8]


async def test_a_service_that_says_nothing_is_not_waited_for() -> None:
    """By who starts; it is asked again later."""
    hanging = Records()
    hanging.changes_since = hang  # type: ignore[method-assign]
    feed = ChangeFeed(hanging, [].append, list)
    await asyncio.wait_for(feed.try_catch_up(0.01), 30)
    refusing = ChangeFeed(Records(BackendUnavailable("down")), [].append, list)
    await refusing.try_catch_up(30)
    answering = ChangeFeed(Records(Changes(1)), [].append, list)
    await answering.try_catch_up(30)
    assert (feed.caught_up, refusing.caught_up, answering.caught_up) == (0, 0, 1)


async def hang(change_id: int, limit: int = 10_000) -> Changes:
    await asyncio.Event().wait()
    raise AssertionError
