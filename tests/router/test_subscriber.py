"""router.subscriber: in order, once, nothing missing; reports arrive once and in order."""

from __future__ import annotations

import random

from router.messages import (
    Acknowledged,
    Drained,
    Heartbeat,
    Joined,
    LeaveOrder,
    NamespaceChanged,
    Numbered,
    Ready,
    Snapshot,
    SnapshotRequest,
    Status,
)
from router.subscriber import (
    RECONCILE_S,
    RETRY_S,
    SILENCE_S,
    Adopt,
    Deliver,
    Output,
    Reporter,
    Send,
    Subscriber,
)
from router.view import View

VIEW = View(1, "e", {})
PID = 77


def change(number: int) -> NamespaceChanged:
    return NamespaceChanged(f"n{number}")


def requests(outputs: list[Output]) -> list[SnapshotRequest]:
    sent = [each.message for each in outputs if isinstance(each, Send)]
    return [each for each in sent if isinstance(each, SnapshotRequest)]


def delivered(outputs: list[Output]) -> list[object]:
    return [each.message for each in outputs if isinstance(each, Deliver)]


def in_sync(last: int = 10) -> Subscriber:
    subscriber = Subscriber(0, PID)
    (asked,) = requests(subscriber.on_announcement("e", last, Heartbeat(0), 0.0))
    assert asked.since == -1
    outputs = subscriber.on_snapshot("e", Snapshot(asked.nonce, -1, last, VIEW, False, ()), 0.0)
    assert outputs[0] == Adopt(VIEW, "e")
    assert subscriber.in_sync(0.0)
    return subscriber


def test_before_the_first_word_nothing_is_asked() -> None:
    """The subscription may not be in force, and what is said meanwhile would be lost."""
    subscriber = Subscriber(0, PID)
    assert subscriber.on_tick(100.0) == []
    assert not subscriber.in_sync(100.0)


def test_what_arrives_before_the_snapshot_is_kept_and_what_is_older_dropped() -> None:
    subscriber = Subscriber(0, PID)
    (asked,) = requests(subscriber.on_announcement("e", 4, change(4), 0.0))
    for number in (5, 6, 7):
        assert not delivered(subscriber.on_announcement("e", number, change(number), 0.0))
    order = Numbered(2, LeaveOrder(3, exit=False))
    snapshot = Snapshot(asked.nonce, -1, 5, VIEW, False, (order,))
    outputs = subscriber.on_snapshot("e", snapshot, 0.0)
    assert outputs[0] == Adopt(VIEW, "e")
    assert delivered(outputs) == [order.message, change(6), change(7)]
    assert Send(Acknowledged("e", 7, 0), "e", 0) in outputs
    assert subscriber.gaps == 0


def test_a_gap_is_filled_from_what_the_broker_remembers() -> None:
    subscriber = in_sync(10)
    outputs = subscriber.on_announcement("e", 13, change(13), 0.0)
    (asked,) = requests(outputs)
    assert (delivered(outputs), asked.since, subscriber.gaps) == ([], 10, 1)
    assert not subscriber.in_sync(0.0)
    missed = tuple(Numbered(number, change(number)) for number in (11, 12, 13))
    outputs = subscriber.on_snapshot("e", Snapshot(asked.nonce, 10, 13, VIEW, True, missed), 0.0)
    assert delivered(outputs) == [change(11), change(12), change(13)]
    assert not any(isinstance(each, Adopt) for each in outputs)
    assert subscriber.in_sync(0.0)


def test_a_heartbeat_shows_that_the_last_announcement_was_lost() -> None:
    subscriber = in_sync(10)
    assert requests(subscriber.on_announcement("e", 11, Heartbeat(10), 0.0))


def test_a_snapshot_that_does_not_come_is_asked_for_again() -> None:
    subscriber = in_sync(10)
    subscriber.on_announcement("e", 12, Heartbeat(10), 0.0)
    assert not subscriber.on_tick(RETRY_S / 2)
    assert requests(subscriber.on_tick(RETRY_S))


def test_an_answer_to_an_earlier_question_is_good_too() -> None:
    """When the answers take longer than the patience, all would be late for ever otherwise."""
    subscriber = in_sync(10)
    (first,) = requests(subscriber.on_announcement("e", 11, Heartbeat(10), 0.0))
    assert requests(subscriber.on_tick(RETRY_S))
    missed = (Numbered(11, change(11)),)
    outputs = subscriber.on_snapshot("e", Snapshot(first.nonce, 10, 11, VIEW, True, missed), 0.1)
    assert delivered(outputs) == [change(11)]


def test_another_broker_is_believed_and_the_answers_of_the_old_one_are_not() -> None:
    subscriber = in_sync(10)
    (old,) = requests(subscriber.on_announcement("e", 11, Heartbeat(10), 0.0))
    (asked,) = requests(subscriber.on_announcement("f", 1, change(1), 0.0))
    assert asked.since == -1
    assert subscriber.on_snapshot("e", Snapshot(old.nonce, 10, 11, VIEW, True, ()), 0.0) == []
    other = View(2, "f", {})
    outputs = subscriber.on_snapshot("f", Snapshot(asked.nonce, -1, 0, other, False, ()), 0.0)
    assert outputs[0] == Adopt(other, "f")
    assert delivered(outputs) == [change(1)]


def test_the_order_to_leave_does_not_reach_the_next_process_of_the_slot() -> None:
    subscriber = in_sync(10)
    assert not delivered(subscriber.on_announcement("e", 11, LeaveOrder(0, True, PID + 1), 0.0))
    assert delivered(subscriber.on_announcement("e", 12, LeaveOrder(0, True, PID), 0.0))


def test_a_heartbeat_that_shows_somebody_late_is_acknowledged_again() -> None:
    subscriber = in_sync(10)
    again = Send(Acknowledged("e", 10, 0), "e", 0)
    assert again in subscriber.on_announcement("e", 10, Heartbeat(9), 0.0)
    assert again not in subscriber.on_announcement("e", 10, Heartbeat(10), 0.0)


def test_silence_and_time_are_noticed() -> None:
    subscriber = in_sync(10)
    assert not subscriber.in_sync(SILENCE_S)
    assert subscriber.lag_s(SILENCE_S) == SILENCE_S
    (asked,) = requests(subscriber.on_tick(RECONCILE_S))
    assert asked.since == 10
    outputs = subscriber.on_snapshot("e", Snapshot(asked.nonce, 10, 10, VIEW, True, ()), 5.0)
    assert outputs == []
    assert subscriber.in_sync(5.0)


def test_any_order_any_loss_and_any_copies_deliver_all_in_order_and_once() -> None:
    """The broker's part is played here: it remembers everything."""
    for seed in range(300):
        dice = random.Random(seed)
        subscriber = in_sync(0)
        said = [Numbered(number, change(number)) for number in range(1, 40)]
        stream = [each for each in said for _ in range(dice.randrange(3))]
        stream.sort(key=lambda each: each.sequence + dice.uniform(0, 6))
        got: list[object] = []
        questions: list[SnapshotRequest] = []
        for each in stream:
            outputs = subscriber.on_announcement("e", each.sequence, each.message, 0.0)
            got += delivered(outputs)
            questions += requests(outputs)
            if questions and dice.random() < 0.3:
                asked = questions.pop(dice.randrange(len(questions)))
                upto = dice.randint(each.sequence, len(said))
                snapshot = Snapshot(
                    asked.nonce, asked.since, upto, VIEW, True, tuple(said[asked.since : upto])
                )
                outputs = subscriber.on_snapshot("e", snapshot, 0.0)
                got += delivered(outputs)
                questions += requests(outputs)
        outputs = subscriber.on_announcement("e", len(said), Heartbeat(0), 0.0)
        for asked in requests(outputs) + questions:
            rest = Snapshot(
                asked.nonce, asked.since, len(said), VIEW, True, tuple(said[asked.since :])
            )
            outputs += subscriber.on_snapshot("e", rest, 0.0)
        got += delivered(outputs)
        assert got == [each.message for each in said], f"seed {seed}"


# -- Reports --------------------------------------------------------------------------------


def sent(outputs: list[Output]) -> list[tuple[str, int, object]]:
    return [(each.epoch, each.number, each.message) for each in outputs if isinstance(each, Send)]


def test_reports_wait_for_a_broker_and_then_go_in_order() -> None:
    reporter = Reporter()
    assert not reporter.report(Joined(0, PID), 0.0)
    assert not reporter.report(change(1), 0.0)
    assert not reporter.report(Status(0, PID), 0.0)
    assert sent(reporter.on_broker("e", 0.0)) == [("e", 1, Joined(0, PID)), ("e", 2, change(1))]
    assert sent(reporter.report(Ready(0, PID), 0.0)) == [("e", 3, Ready(0, PID))]


def test_the_unconfirmed_goes_again_until_it_is_confirmed() -> None:
    reporter = Reporter()
    reporter.on_broker("e", 0.0)
    for number in (1, 2, 3):
        reporter.report(change(number), 0.0)
    reporter.on_received("e", 1)
    reporter.on_received("d", 3)
    assert not reporter.on_tick(RETRY_S / 2)
    assert [each[1] for each in sent(reporter.on_tick(RETRY_S))] == [2, 3]
    reporter.on_received("e", 3)
    assert reporter.outstanding == 0
    assert not reporter.on_tick(1.0)


def test_another_broker_hears_what_the_worker_is_and_not_what_it_was() -> None:
    reporter = Reporter()
    reporter.on_broker("e", 0.0)
    for message in (Joined(0, PID), Ready(0, PID), Drained(0, PID, 4), change(1)):
        reporter.report(message, 0.0)
    reporter.on_received("e", 3)
    assert sent(reporter.on_broker("f", 0.0)) == [
        ("f", 1, Joined(0, PID)),
        ("f", 2, Drained(0, PID, 4)),
        ("f", 3, change(1)),
    ]


def test_a_status_is_sent_once() -> None:
    reporter = Reporter()
    reporter.on_broker("e", 0.0)
    assert sent(reporter.report(Status(0, PID), 0.0)) == [("e", 0, Status(0, PID))]
    assert reporter.outstanding == 0
