"""A fleet as the broker sees it, without processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.control import BrokerState
from router.effects import (
    Effect,
    Publish,
    Reply,
    Saved,
    WriteWorkers,
)
from router.messages import (
    Announcement,
    Drained,
    Heartbeat,
    Joined,
    Ready,
    Report,
    Request,
    ViewChanged,
)

if TYPE_CHECKING:
    from router.view import View

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
