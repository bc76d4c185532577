"""router.gathering: who joins the ring when."""

from __future__ import annotations

from router.gathering import TOGETHER_S, Gathering
from router.view import Event, View, starting


def view(workers: int, *events: tuple[int, Event]) -> View:
    return starting("e", workers).after_all(events)


def test_the_first_ones_join_together() -> None:
    gathering = Gathering()
    for ready in ({2}, {0, 2}):
        assert gathering.admitted(view(3), ready, 1.0) == []
    assert gathering.admitted(view(3), {0, 1, 2}, 2.0) == [0, 1, 2]


def test_nobody_waits_for_one_that_is_late_for_ever() -> None:
    gathering = Gathering()
    assert gathering.admitted(view(2), set(), 50.0) == []
    assert gathering.admitted(view(2), {1}, 100.0) == []
    assert gathering.admitted(view(2), {1}, 100.0 + TOGETHER_S) == [1]


def test_one_that_is_given_up_is_not_waited_for() -> None:
    gathering = Gathering()
    assert gathering.admitted(view(2), {1}, 0.0) == []
    assert gathering.admitted(view(2, (0, Event.EXPIRED)), {1}, 0.1) == [1]


def test_later_ones_join_at_once() -> None:
    """A slot that was replaced, or that a larger fleet has more."""
    gathering = Gathering()
    serving = view(3, (0, Event.READIED))
    assert gathering.admitted(serving, {0}, 0.0) == []
    assert gathering.admitted(serving, {0, 2}, 0.0) == [2]
