"""router.view: the life of a slot, and what makes another view."""

from __future__ import annotations

import itertools

import pytest

from router.view import TRANSITIONS, Event, SlotState, View, starting


def view_of(**states: SlotState) -> View:
    return View(7, "e", {int(name[1:]): state for name, state in states.items()})


def test_a_slot_joins_serves_drains_and_comes_back() -> None:
    view = starting("e", 2).after(0, Event.READIED)
    assert view.serving == (0,)
    story = [
        (Event.READIED, SlotState.READY, (0, 1)),
        (Event.DRAIN, SlotState.DRAINING, (0,)),
        (Event.DRAINED, SlotState.DRAINED, (0,)),
        (Event.UNDRAIN, SlotState.READY, (0, 1)),
        (Event.EXPIRED, SlotState.GONE, (0,)),
        (Event.JOINED, SlotState.JOINING, (0,)),
    ]
    for event, state, serving in story:
        number = view.number
        view = view.after(1, event)
        assert (view.state(1), view.serving, view.number) == (state, serving, number + 1)


@pytest.mark.parametrize("state", SlotState)
def test_an_event_that_the_table_does_not_list_changes_nothing(state: SlotState) -> None:
    view = view_of(s0=SlotState.READY, s1=state)
    for event in Event:
        after = view.after(1, event)
        if event not in TRANSITIONS[state]:
            assert after is view
        else:
            assert after.state(1) is TRANSITIONS[state][event]


def test_every_state_can_be_left_and_every_one_leads_to_ready() -> None:
    for state in SlotState:
        reached, new = {state}, {state}
        while new:
            new = {to for each in new for to in TRANSITIONS[each].values()} - reached
            reached |= new
        assert SlotState.READY in reached - {state} or state is SlotState.READY
        assert SlotState.GONE in reached


def test_a_death_keeps_the_place_in_the_ring() -> None:
    view = view_of(s0=SlotState.READY, s1=SlotState.READY)
    assert view.after(1, Event.DIED) is view


def test_the_last_ready_slot_never_expires() -> None:
    view = view_of(s0=SlotState.READY, s1=SlotState.READY, s2=SlotState.DRAINED)
    after = view.after_all([(0, Event.EXPIRED), (1, Event.EXPIRED), (2, Event.EXPIRED)])
    assert after.slots == {0: SlotState.GONE, 1: SlotState.READY, 2: SlotState.GONE}


def test_whatever_happens_somebody_serves_once_somebody_did() -> None:
    """Orders are checked by `drain_refusal`, as the broker does."""
    for events in itertools.product(Event, repeat=4):
        view = view_of(s0=SlotState.READY, s1=SlotState.READY)
        for slot, event in zip((0, 1, 0, 1), events, strict=True):
            if event is not Event.DRAIN or view.drain_refusal([slot]) is None:
                view = view.after(slot, event)
            assert view.serving, events


def test_the_last_ready_slots_cannot_be_drained_and_the_reason_says_so() -> None:
    view = view_of(s0=SlotState.READY, s1=SlotState.READY, s2=SlotState.DRAINING)
    assert view.drain_refusal([0]) is None
    assert view.drain_refusal([0, 1]) == (
        "nobody would serve: the last ready slot cannot be drained"
    )
    assert view.drain_refusal([2]) == "slot 2 is draining, not ready"
    assert view.drain_refusal([9]) == "there is no slot 9"


def test_who_leaves_is_forgotten_once_it_is_gone_or_back() -> None:
    for event in (Event.LEFT, Event.UNDRAIN, Event.EXPIRED):
        view = view_of(s0=SlotState.READY, s1=SlotState.DRAINED).with_leaving([1])
        assert view.leaving == {1}
        assert not view.after(1, event).leaving


def test_a_view_is_never_changed() -> None:
    view = view_of(s0=SlotState.READY, s1=SlotState.READY)
    before = dict(view.slots)
    view.after(0, Event.DRAIN).with_leaving([0]).with_epoch("f")
    assert view.slots == before


def test_a_new_broker_goes_on_counting() -> None:
    view = view_of(s0=SlotState.READY)
    after = view.with_epoch("f")
    assert (after.number, after.epoch, after.slots) == (8, "f", view.slots)
