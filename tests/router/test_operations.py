"""router.operations: drains, reloads, the number of workers."""

from __future__ import annotations

import msgspec
import pytest

from router.effects import (
    Persist,
    Publish,
    Renew,
    Saved,
    WriteWorkers,
)
from router.messages import (
    Accepted,
    Done,
    Drained,
    DrainRequest,
    Joined,
    LeaveOrder,
    Ready,
    Refused,
    ReloadRequest,
    ReturnOrder,
    ScaleRequest,
    UndrainRequest,
)
from router.view import REJOIN_GRACE_S, SlotState
from tests.router.fleet import OPERATOR, Fleet


def test_draining_is_done_when_the_slot_says_so() -> None:
    fleet = Fleet()
    fleet.take()
    fleet.ask(DrainRequest(1))
    assert fleet.take() == ([LeaveOrder(1, exit=False)], [Accepted()])
    assert fleet.view.serving == (0, 2)
    fleet.report(Drained(1, 101, fleet.view.number - 1))
    assert fleet.view.state(1) is SlotState.DRAINING, "that was for an earlier order"
    fleet.drained(1)
    assert fleet.take() == ([], [Done()])
    assert fleet.view.state(1) is SlotState.DRAINED
    fleet.ask(UndrainRequest(1))
    assert fleet.take() == ([ReturnOrder(1)], [Done()])
    assert fleet.view.serving == (0, 1, 2)


def test_a_drain_that_takes_too_long_is_taken_back() -> None:
    fleet = Fleet()
    fleet.take()
    fleet.ask(DrainRequest(1, deadline_s=2.0))
    fleet.take()
    fleet.wait(1.9)
    assert fleet.take() == ([], [])
    fleet.wait(0.1)
    reason = "slot 1 had not drained by the deadline and serves again"
    assert fleet.take() == ([ReturnOrder(1)], [Refused(reason)])
    assert fleet.view.serving == (0, 1, 2)


def test_what_cannot_be_done_is_refused_with_the_reason() -> None:
    fleet = Fleet(2)
    for request, reason in (
        (DrainRequest(9), "there is no slot 9"),
        (UndrainRequest(9), "there is no slot 9"),
        (ScaleRequest(0), "a fleet needs at least one worker"),
    ):
        fleet.take()
        fleet.ask(request)
        assert fleet.take()[1] == [Refused(reason)]
    fleet.ask(DrainRequest(1))
    fleet.take()
    fleet.ask(ReloadRequest())
    assert fleet.take()[1] == [Refused("a drain is under way")]
    fleet.drained(1)
    fleet.take()
    fleet.ask(DrainRequest(0))
    assert isinstance(fleet.take()[1][0], Refused)
    fleet.die(1)
    fleet.wait(REJOIN_GRACE_S)
    fleet.take()
    fleet.ask(UndrainRequest(1))
    assert fleet.take()[1] == [Refused("slot 1 is gone, not drained")]


def test_what_holds_already_is_success_and_said() -> None:
    """Who asks for a state, by a script perhaps, has it; the fleet does not change."""
    fleet = Fleet(3)
    fleet.ask(DrainRequest(1))
    fleet.drained(1)
    before = fleet.view
    for request, note in (
        (DrainRequest(1), "slot 1 is drained already"),
        (UndrainRequest(0), "slot 0 serves already"),
        (ScaleRequest(3), "there are 3 workers already"),
    ):
        fleet.take()
        fleet.ask(request)
        said, answers = fleet.take()
        assert (said, answers[-1]) == ([], Done(note))
    assert fleet.view is before
    assert fleet.state.resting == {1}


def test_a_reload_replaces_one_slot_after_the_other() -> None:
    fleet = Fleet()
    fleet.take()
    fleet.ask(ReloadRequest())
    for slot in range(3):
        assert fleet.view.within(SlotState.DRAINING) == (slot,)
        fleet.drained(slot)
        assert LeaveOrder(slot, exit=True, pid=fleet.pids[slot]) in fleet.take()[0]
        fleet.die(slot)
        assert fleet.view.state(slot) is SlotState.GONE
        fleet.pids[slot] += 1000
        fleet.report(Joined(slot, fleet.pids[slot]))
        assert not fleet.answers()
        fleet.report(Ready(slot, fleet.pids[slot]))
    assert fleet.answers() == [Done()]
    assert fleet.view.serving == (0, 1, 2)


def test_the_only_slot_is_reloaded_in_its_place() -> None:
    fleet = Fleet(1)
    before = fleet.view
    fleet.take()
    fleet.ask(ReloadRequest())
    assert fleet.take() == ([LeaveOrder(0, exit=True, pid=100)], [Accepted()])
    fleet.replace(0)
    assert fleet.answers() == [Done()]
    assert fleet.view is before


def test_a_reload_stops_where_a_slot_does_not_drain_or_come_back() -> None:
    fleet = Fleet()
    fleet.ask(ReloadRequest(deadline_s=1.0))
    fleet.wait(1.0)
    assert isinstance(fleet.take()[1][-1], Refused)
    assert fleet.view.serving == (0, 1, 2)
    fleet.ask(ReloadRequest(deadline_s=1.0))
    fleet.drained(0)
    fleet.die(0)
    fleet.wait(1.0)
    assert fleet.take()[1][-1] == Refused("slot 0 was not replaced by the deadline")


def test_scaling_down_drains_then_writes_the_number_then_lets_the_slots_exit() -> None:
    fleet = Fleet(4)
    fleet.take()
    fleet.ask(ScaleRequest(2))
    assert fleet.view.within(SlotState.DRAINING) == (2, 3)
    fleet.drained(3)
    assert not [each for each in fleet.effects if isinstance(each, WriteWorkers)]
    fleet.take()
    fleet.drained(2)
    orders = [
        each.message if isinstance(each, Publish) else each
        for each in fleet.effects
        if isinstance(each, WriteWorkers)
        or (isinstance(each, Publish) and isinstance(each.message, LeaveOrder))
    ]
    assert orders[0] == WriteWorkers(2)
    assert orders[1:] == [LeaveOrder(2, True, 102), LeaveOrder(3, True, 103)]
    fleet.die(2)
    assert not fleet.answers()
    fleet.die(3)
    assert fleet.answers() == [Done()]
    assert fleet.view.serving == (0, 1)


def test_scaling_up_is_done_when_all_are_ready() -> None:
    fleet = Fleet(2)
    fleet.take()
    fleet.ask(ScaleRequest(3))
    assert WriteWorkers(3) in fleet.effects
    fleet.pids[2] = 102
    fleet.report(Joined(2, 102))
    assert fleet.answers() == [Accepted()]
    fleet.report(Ready(2, 102))
    assert fleet.answers() == [Accepted(), Done()]


def test_scaling_up_that_takes_too_long_is_taken_back() -> None:
    """Those that came to be ready drain and leave again."""
    fleet = Fleet(2)
    fleet.ask(ScaleRequest(4, deadline_s=2.0))
    fleet.pids[2] = 102
    fleet.report(Joined(2, 102))
    fleet.report(Ready(2, 102))
    fleet.take()
    fleet.wait(2.0)
    assert WriteWorkers(2) in fleet.effects
    reason = "only 3 of 4 workers were ready by the deadline; their number is 2 again"
    assert fleet.take() == ([LeaveOrder(2, exit=False)], [Refused(reason)])
    assert fleet.view.serving == (0, 1)
    fleet.drained(2)
    assert fleet.take()[0] == [LeaveOrder(2, exit=True, pid=102)]


def test_a_number_that_cannot_be_written_is_refused_and_nothing_has_changed() -> None:
    fleet = Fleet(2)
    fleet.take()
    fleet.unwritable = "the disk is full"
    fleet.ask(ScaleRequest(3))
    refusal = Refused("the number of workers stays 2: the disk is full")
    assert fleet.take() == ([], [Accepted(), refusal])
    fleet.ask(ScaleRequest(1))
    fleet.drained(1)
    refusal = Refused("the number of workers stays 2: the disk is full; all serve again")
    assert fleet.take() == ([LeaveOrder(1, exit=False), ReturnOrder(1)], [Accepted(), refusal])
    assert (fleet.view.serving, fleet.state.workers) == ((0, 1), 2)
    fleet.unwritable = ""
    fleet.ask(ScaleRequest(3, deadline_s=1.0))
    fleet.unwritable = "the disk is full"
    fleet.wait(1.0)
    refusal = Refused(
        "only 2 of 3 workers were ready by the deadline;"
        " the number of workers stays 3: the disk is full"
    )
    assert fleet.take()[1][-1] == refusal
    fleet.pids[2] = 102
    fleet.report(Joined(2, 102))
    fleet.report(Ready(2, 102))
    assert fleet.view.serving == (0, 1, 2)


def test_the_next_broker_writes_the_number_that_the_last_one_was_about_to_write() -> None:
    fleet = Fleet(2)
    effects = fleet.state.on_request(OPERATOR, ScaleRequest(1, id="x"), fleet.now_s)
    effects += fleet.state.on_report(b"101", "e", 3, Drained(1, 101, fleet.view.number), 0.0)
    assert WriteWorkers(1) in effects
    saved = [each.saved for each in effects if isinstance(each, Persist)][-1]
    assert saved.workers == 2
    heir = Fleet(2, saved=saved, ready=False)
    assert WriteWorkers(1) in heir.effects
    assert heir.state.workers == 1


def test_a_worker_nobody_wants_any_more_is_sent_away_whenever_it_appears() -> None:
    fleet = Fleet(2)
    fleet.ask(ScaleRequest(1))
    fleet.drained(1)
    fleet.die(1)
    fleet.take()
    fleet.report(Joined(1, 555))
    assert fleet.take()[0] == [LeaveOrder(1, exit=True, pid=555)]


def test_an_order_to_drain_does_not_make_the_order_to_exit_be_forgotten() -> None:
    """Sent away while joining, it became ready all the same."""
    fleet = Fleet(2)
    fleet.ask(ScaleRequest(1))
    fleet.drained(1)
    fleet.die(1)
    fleet.pids[1] = 555
    fleet.report(Joined(1, 555))
    fleet.take()
    fleet.report(Ready(1, 555))
    assert fleet.take()[0] == [LeaveOrder(1, exit=False)]
    fleet.drained(1)
    assert fleet.take()[0] == [LeaveOrder(1, exit=True, pid=555)]


def test_code_and_settings_are_read_anew_before_the_first_process_goes() -> None:
    fleet = Fleet()
    fleet.take()
    fleet.effects += fleet.state.on_request(OPERATOR, ReloadRequest(), fleet.now_s)
    renewals = [each for each in fleet.effects if isinstance(each, Renew)]
    assert renewals == [Renew(fleet.state.renewal)]
    assert fleet.take() == ([], [Accepted()])
    fleet.effects += fleet.state.on_renewed("another", "no", "", fleet.now_s)
    assert fleet.state.renewal, "that was the answer to somebody else"
    fleet.renewed("", "server.port: at the next start")
    assert fleet.view.within(SlotState.DRAINING) == (0,)
    for slot in range(3):
        fleet.drained(slot)
        fleet.replace(slot)
    assert fleet.answers() == [Done("server.port: at the next start")]


def test_what_cannot_be_used_refuses_the_reload_and_changes_nothing() -> None:
    fleet = Fleet()
    before = fleet.view
    fleet.effects += fleet.state.on_request(OPERATOR, ReloadRequest(), fleet.now_s)
    fleet.renewed("fs9.yaml:3: unknown key")
    assert fleet.answers() == [Accepted(), Refused("fs9.yaml:3: unknown key")]
    assert fleet.view is before
    fleet.effects += fleet.state.on_request(OPERATOR, ReloadRequest(1.0), fleet.now_s)
    fleet.wait(1.0)
    assert isinstance(fleet.take()[1][-1], Refused), "the arbiter did not answer"
    assert fleet.view is before


def test_a_reload_leaves_drained_what_an_operator_has_drained() -> None:
    fleet = Fleet()
    fleet.ask(DrainRequest(1))
    fleet.drained(1)
    fleet.take()
    fleet.ask(ReloadRequest())
    fleet.drained(0)
    fleet.replace(0)
    assert LeaveOrder(1, exit=True, pid=101) in fleet.take()[0]
    fleet.replace(1)
    assert fleet.view.state(1) is SlotState.DRAINED
    assert LeaveOrder(1, exit=False) in fleet.take()[0]
    fleet.drained(2)
    fleet.replace(2)
    assert fleet.answers() == [Done()]
    assert fleet.view.serving == (0, 2)
    fleet.ask(UndrainRequest(1))
    fleet.replace(1)
    assert fleet.view.serving == (0, 1, 2)


@pytest.mark.parametrize("request_", [DrainRequest(1, id="x"), ReloadRequest(id="x")])
def test_the_next_broker_ends_what_the_last_one_began_and_who_asks_again_hears_it(
    request_: DrainRequest | ReloadRequest,
) -> None:
    fleet = Fleet(2)
    fleet.ask(request_)
    saved = [each.saved for each in fleet.effects if isinstance(each, Persist)][-1]
    saved = msgspec.json.decode(msgspec.json.encode(saved), type=Saved)
    heir = Fleet(2, saved=saved, ready=False)
    for slot in range(2):
        heir.report(Joined(slot, heir.pids[slot]))
        heir.report(Ready(slot, heir.pids[slot]))
    heir.ask(request_)
    assert heir.answers() == [Accepted()]
    slots = [1] if isinstance(request_, DrainRequest) else [0, 1]
    for slot in slots:
        heir.drained(slot)
        if isinstance(request_, ReloadRequest):
            heir.replace(slot)
    assert heir.answers() == [Accepted(), Done()]
    heir.ask(request_)
    assert heir.answers()[-1] == Done(), "also when it is over"
