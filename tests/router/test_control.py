"""router.control: reports, deaths, snapshots, what a new broker goes on with."""

from __future__ import annotations

from router.control import HEARTBEAT_LAGGING_S, HEARTBEAT_S, SILENCE_S
from router.effects import (
    Effect,
    Kill,
    Persist,
    Publish,
    Reply,
    Saved,
    Watch,
)
from router.messages import (
    Acknowledged,
    DrainRequest,
    FleetStatus,
    Heartbeat,
    Introduce,
    Joined,
    LeaveOrder,
    LogLevel,
    LogLevelRequest,
    NamespaceChanged,
    Ready,
    Received,
    Revoked,
    ScaleRequest,
    Snapshot,
    SnapshotRequest,
    Status,
    StatusRequest,
    ViewChanged,
)
from router.view import REJOIN_GRACE_S, SlotState, View
from tests.router.fleet import Fleet


def test_a_fleet_joins_and_every_view_is_saved_before_it_is_told() -> None:
    fleet = Fleet()
    assert fleet.view.serving == (0, 1, 2)
    saved = 0
    for effect in fleet.effects:
        if isinstance(effect, Persist):
            saved = effect.saved.view.number
        if isinstance(effect, Publish) and isinstance(effect.message, ViewChanged):
            assert saved == effect.message.view.number
    assert [each for each in fleet.effects if isinstance(each, Watch)] == [
        Watch(0, 100),
        Watch(1, 101),
        Watch(2, 102),
    ]


def test_reports_count_once_and_in_order() -> None:
    fleet = Fleet(2)
    fleet.take()
    state = fleet.state
    late = state.on_report(b"100", "e", 4, NamespaceChanged("b"), 0.0)
    assert late == [Reply(b"100", Received(2))]
    first = state.on_report(b"100", "e", 3, NamespaceChanged("a"), 0.0)
    assert [each.message for each in first if isinstance(each, Publish)] == [NamespaceChanged("a")]
    again = state.on_report(b"100", "e", 3, NamespaceChanged("a"), 0.0)
    assert again == [Reply(b"100", Received(3))]
    assert state.on_report(b"100", "other", 4, NamespaceChanged("b"), 0.0) == []


def test_a_slot_that_is_replaced_in_time_keeps_its_place() -> None:
    fleet = Fleet()
    before = fleet.view
    fleet.die(1)
    fleet.wait(REJOIN_GRACE_S * 0.9)
    fleet.pids[1] = 201
    fleet.report(Joined(1, 201))
    fleet.wait(REJOIN_GRACE_S * 0.9)
    fleet.report(Ready(1, 201))
    fleet.wait(100)
    assert fleet.view is before


def test_a_slot_that_is_not_replaced_goes_and_comes_back() -> None:
    fleet = Fleet()
    fleet.die(1)
    fleet.wait(REJOIN_GRACE_S)
    assert fleet.view.serving == (0, 2)
    fleet.pids[1] = 201
    fleet.report(Joined(1, 201))
    assert fleet.view.state(1) is SlotState.JOINING
    fleet.report(Ready(1, 201))
    assert fleet.view.serving == (0, 1, 2)


def test_a_late_word_of_a_dead_process_changes_nothing() -> None:
    fleet = Fleet()
    fleet.die(1)
    fleet.effects += fleet.state.on_report(b"101", "e", 1, Ready(1, 101), 0.0)
    assert 1 not in fleet.state.processes


def test_a_new_broker_goes_on_with_the_view_and_forgets_who_keeps_silent() -> None:
    view = View(
        9,
        "old",
        {0: SlotState.READY, 1: SlotState.READY, 2: SlotState.DRAINED, 3: SlotState.GONE},
    )
    saved = Saved(view, 3, {0: 100, 1: 101, 2: 102}, "debug")
    fleet = Fleet(3, saved=saved, ready=False)
    assert (fleet.view.number, fleet.view.slots) == (10, view.slots)
    assert fleet.said() == [LeaveOrder(2, exit=False), LogLevel("debug")]
    assert [each for each in fleet.effects if isinstance(each, Watch)] == [
        Watch(0, 100),
        Watch(1, 101),
        Watch(2, 102),
    ]
    fleet.report(Joined(0, 100))
    fleet.report(Ready(0, 100))
    fleet.report(Joined(2, 102))
    fleet.wait(REJOIN_GRACE_S)
    assert fleet.view.slots == {
        0: SlotState.READY,
        1: SlotState.GONE,
        2: SlotState.DRAINED,
        3: SlotState.GONE,
    }


def test_a_new_broker_ends_what_the_old_one_began() -> None:
    view = View(9, "old", {0: SlotState.READY, 1: SlotState.DRAINING}, frozenset({1}))
    fleet = Fleet(2, saved=Saved(view, 2, {0: 100, 1: 101}), ready=False)
    fleet.report(Joined(1, 101))
    fleet.take()
    fleet.drained(1)
    assert fleet.take()[0] == [LeaveOrder(1, exit=True, pid=101)]
    fleet.replace(1)
    assert fleet.view.serving == (0, 1)


def test_a_snapshot_has_what_was_missed_or_what_still_holds() -> None:
    fleet = Fleet(2)
    fleet.ask(LogLevelRequest("debug"))
    for number in range(3):
        fleet.report(NamespaceChanged(f"n{number}"))
    last = fleet.state.sequence

    def snapshot(epoch: str, since: int) -> Snapshot:
        (reply,) = fleet.state.on_snapshot_request(b"c", SnapshotRequest(5, epoch, since))
        assert isinstance(reply, Reply)
        assert isinstance(reply.message, Snapshot)
        return reply.message

    some = snapshot("e", last - 2)
    assert some.complete
    assert [each.message for each in some.messages] == [
        NamespaceChanged("n1"),
        NamespaceChanged("n2"),
    ]
    assert snapshot("e", last).messages == ()
    for whole in (snapshot("e", -1), snapshot("other", last), snapshot("e", last + 1)):
        assert not whole.complete
        assert whole.view is fleet.view
        assert [each.message for each in whole.messages] == [LogLevel("debug")]


def test_what_is_too_old_to_be_remembered_is_not_called_complete() -> None:
    fleet = Fleet(1)
    since = fleet.state.sequence
    for _ in range(1100):
        fleet.report(NamespaceChanged("n"))
    (reply,) = fleet.state.on_snapshot_request(b"c", SnapshotRequest(1, "e", since))
    assert isinstance(reply, Reply)
    assert isinstance(reply.message, Snapshot)
    assert not reply.message.complete


def test_heartbeats_come_faster_while_somebody_lags() -> None:
    fleet = Fleet(1)
    last = fleet.state.sequence
    assert fleet.state.acknowledged == 0
    assert fleet.state.next_tick_s(0.0) == HEARTBEAT_LAGGING_S
    fleet.state.on_acknowledged(Acknowledged("e", last, 0))
    assert fleet.state.acknowledged == last
    assert fleet.state.next_tick_s(0.0) == HEARTBEAT_S
    fleet.take()
    fleet.wait(HEARTBEAT_S)
    assert fleet.effects == [Publish(last, Heartbeat(last))]


def test_the_status_tells_of_every_slot() -> None:
    fleet = Fleet(2)
    fleet.effects += fleet.state.on_report(b"", "e", 0, Status(1, 101, 4, 5, 6, 7.0), 0.0)
    fleet.take()
    fleet.ask(StatusRequest())
    (status,) = fleet.answers()
    assert isinstance(status, FleetStatus)
    first, second = status.slots
    assert (second.slot, second.pid, second.namespaces, second.handles) == (1, 101, 4, 5)
    assert abs(first.ring_share + second.ring_share - 1) < 1e-9
    assert 0.4 < first.ring_share < 0.6


def test_slots_that_were_scaled_away_are_not_told_of_but_those_that_are_missing() -> None:
    fleet = Fleet(3)
    fleet.ask(ScaleRequest(2))
    fleet.drained(2)
    fleet.die(2)
    fleet.die(1)
    fleet.wait(REJOIN_GRACE_S)
    fleet.take()
    fleet.ask(StatusRequest())
    (status,) = fleet.answers()
    assert isinstance(status, FleetStatus)
    states = [(each.slot, each.state) for each in status.slots]
    assert states == [(0, SlotState.READY), (1, SlotState.GONE)]


def introduced(effects: list[Effect]) -> bool:
    return any(isinstance(each, Reply) and each.message == Introduce() for each in effects)


def test_a_worker_that_was_taken_for_dead_is_asked_who_it_is() -> None:
    """A word of the process before it arrives late, and seems to be that of its successor."""
    fleet = Fleet(2)
    status = Status(1, 101)
    assert not introduced(fleet.state.on_report(b"101", "e", 0, status, 0.0))
    fleet.effects += fleet.state.on_report(b"late", "e", 1, Joined(1, 55), 0.0)
    fleet.effects += fleet.state.on_died(1, 55, 0.0)
    assert 1 not in fleet.state.processes
    assert introduced(fleet.state.on_report(b"101", "e", 0, status, 0.0))
    fleet.report(Joined(1, 101))
    fleet.report(Ready(1, 101))
    assert fleet.state.processes[1].pid == 101


def test_who_hangs_is_killed_once_but_not_who_owns_nothing() -> None:
    fleet = Fleet(3)
    fleet.ask(DrainRequest(2))
    fleet.drained(2)
    for _ in range(int(SILENCE_S * 2) + 2):
        fleet.wait(0.5)
        fleet.report(Status(1, fleet.pids[1]))
    fleet.wait(0.5)
    assert [each for each in fleet.effects if isinstance(each, Kill)] == [Kill(0, 100)]


def test_a_broker_that_was_away_does_not_take_the_others_for_hanging() -> None:
    fleet = Fleet(2)
    fleet.wait(SILENCE_S * 3)
    fleet.wait(0.2)
    assert not [each for each in fleet.effects if isinstance(each, Kill)]


def test_all_hear_at_once_that_all_know_what_a_worker_has_told() -> None:
    """Who told it waits; of what nobody told, the next heartbeat says so."""
    fleet = Fleet(1)
    fleet.report(Revoked(b"packed", "ticket"))
    last = fleet.state.sequence
    assert fleet.state.on_acknowledged(Acknowledged("e", last - 1, 0)) == []
    (effect,) = fleet.state.on_acknowledged(Acknowledged("e", last, 0))
    assert effect == Publish(last, Heartbeat(last))
    assert fleet.state.on_acknowledged(Acknowledged("e", last, 0)) == []
