"""router.control and router.operations: reports, deaths, drains, reloads, the number of workers."""

from __future__ import annotations

import msgspec
import pytest

from router.control import HEARTBEAT_LAGGING_S, HEARTBEAT_S, SILENCE_S, BrokerState
from router.effects import (
    Effect,
    Kill,
    Persist,
    Publish,
    Renew,
    Reply,
    Saved,
    Watch,
    WriteWorkers,
)
from router.messages import (
    Accepted,
    Acknowledged,
    Announcement,
    Done,
    Drained,
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
    Refused,
    ReloadRequest,
    Report,
    Request,
    ReturnOrder,
    Revoked,
    ScaleRequest,
    Snapshot,
    SnapshotRequest,
    Status,
    StatusRequest,
    UndrainRequest,
    ViewChanged,
)
from router.view import REJOIN_GRACE_S, SlotState, View

OPERATOR = b"operator"


class Fleet:
    """A `BrokerState`, and what came out of it."""

    def __init__(self, workers: int = 3, *, saved: Saved | None = None, ready: bool = True) -> None:
        self.now_s = 0.0
        self.state = BrokerState("e", saved, workers, 0.0)
        self.effects: list[Effect] = []
        #: Why nothing can be written for the arbiter.
        self.unwritable = ""
        self.do(self.state.start())
        self.numbers: dict[int, int] = {}
        self.pids = {slot: 100 + slot for slot in range(workers)}
        if ready:
            for slot in range(workers):
                self.report(Joined(slot, self.pids[slot]))
                self.report(Ready(slot, self.pids[slot]))

    def do(self, effects: list[Effect]) -> None:
        self.effects += effects
        for each in effects:
            if isinstance(each, WriteWorkers):
                self.do(self.state.on_written(each.workers, self.unwritable, self.now_s))

    def report(self, message: Report) -> None:
        pid = getattr(message, "pid", 0)
        number = self.numbers[pid] = self.numbers.get(pid, 0) + 1
        client = b"%d" % pid
        self.do(self.state.on_report(client, "e", number, message, self.now_s))

    def ask(self, request: Request) -> None:
        """The arbiter finds code and settings good at once."""
        self.do(self.state.on_request(OPERATOR, request, self.now_s))
        if self.state.renewal:
            self.renewed("")

    def renewed(self, error: str, note: str = "") -> None:
        renewal = self.state.renewal
        self.do(self.state.on_renewed(renewal, error, note, self.now_s))

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.do(self.state.on_tick(self.now_s))

    def die(self, slot: int) -> None:
        self.do(self.state.on_died(slot, self.pids[slot], self.now_s))

    def drained(self, slot: int) -> None:
        self.report(Drained(slot, self.pids[slot], self.view.number))

    def replace(self, slot: int) -> None:
        self.die(slot)
        self.pids[slot] += 1000
        self.report(Joined(slot, self.pids[slot]))
        self.report(Ready(slot, self.pids[slot]))

    @property
    def view(self) -> View:
        return self.state.view

    def said(self) -> list[Announcement | Heartbeat]:
        """What was announced since the last call, but for views and heartbeats."""
        found = [each.message for each in self.effects if isinstance(each, Publish)]
        return [each for each in found if not isinstance(each, ViewChanged | Heartbeat)]

    def answers(self) -> list[object]:
        """What the operator was told since the last call."""
        found = [
            each.message
            for each in self.effects
            if isinstance(each, Reply) and each.client == OPERATOR
        ]
        return found

    def take(self) -> tuple[list[Announcement | Heartbeat], list[object]]:
        said, answers = self.said(), self.answers()
        self.effects.clear()
        return said, answers


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
