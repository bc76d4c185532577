"""The operations that an operator requests and waits for: drain, reload, scale. Pure.

One runs at a time. It is stepped after every event and tick: it looks at the state, does the next
thing through the broker's state, and answers when everything is done or a deadline has passed; a
failed operation undoes what it began. It is a value that the broker saves with its view, so the
next broker goes on with it (`resumed`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import msgspec

from router.messages import Done, Refused
from router.view import SlotState

if TYPE_CHECKING:
    from router.control import BrokerState
    from router.messages import DrainRequest, ReloadRequest, ScaleRequest

_STAYING = (SlotState.READY, SlotState.DRAINING, SlotState.DRAINED)


class Operation(msgspec.Struct, tag=True, tag_field="kind"):
    """Base of all operations; it changes as it goes on."""

    #: As a person would say it: "a reload is under way".
    name: ClassVar[str]

    deadline_s: float
    #: From the beginning of each step to its deadline.
    patience_s: float

    def step(self, broker: BrokerState, now_s: float) -> Done | Refused | None:
        """Do what can be done now; returns the answer if that was the end."""
        raise NotImplementedError

    def resumed(self, now_s: float) -> None:
        """Continue under another broker, with the whole time again."""
        self.deadline_s = now_s + self.patience_s


# -- Drain ----------------------------------------------------------------------------------


def begin_drain(broker: BrokerState, request: DrainRequest, now_s: float) -> Done | Refused | Drain:
    slot = request.slot
    if broker.view.state(slot) is SlotState.DRAINED:
        broker.rest(slot)
        return Done(f"slot {slot} is drained already")
    if broker.view.state(slot) is SlotState.DRAINING:
        broker.rest(slot)
        return Drain(now_s + request.deadline_s, request.deadline_s, slot)
    refusal = broker.view.drain_refusal([slot])
    if refusal is not None:
        return Refused(refusal)
    broker.rest(slot)
    broker.drain([slot], leaving=False)
    return Drain(now_s + request.deadline_s, request.deadline_s, slot)


class Drain(Operation):
    name = "drain"

    slot: int

    def step(self, broker: BrokerState, now_s: float) -> Done | Refused | None:
        state = broker.view.state(self.slot)
        if state is SlotState.DRAINED:
            return Done()
        if state is not SlotState.DRAINING:
            return Refused(f"slot {self.slot} is {state.value} again")
        if now_s < self.deadline_s:
            return None
        broker.undrain([self.slot])
        return Refused(f"slot {self.slot} had not drained by the deadline and serves again")


def undrain(broker: BrokerState, slot: int) -> Done | Refused:
    """Let slots serve again: done at once, or refused; not an operation."""
    state = broker.view.state(slot)
    if slot not in broker.view.slots:
        return Refused(f"there is no slot {slot}")
    if slot in broker.view.leaving or (
        broker.operation is not None and broker.operation.name != "drain"
    ):
        return Refused(f"slot {slot} is in the hands of a reload or a change of the number")
    if state is SlotState.READY:
        return Done(f"slot {slot} serves already")
    if state not in {SlotState.DRAINING, SlotState.DRAINED}:
        return Refused(f"slot {slot} is {state.value}, not drained")
    if slot not in broker.processes:
        return Refused(f"slot {slot} has no process at present")
    broker.undrain([slot])
    return Done()


# -- Reload ---------------------------------------------------------------------------------


def begin_reload(broker: BrokerState, request: ReloadRequest, now_s: float) -> Reload:
    slots = broker.view.within(SlotState.JOINING, *_STAYING)
    deadline_s = now_s + request.deadline_s
    return Reload(deadline_s, request.deadline_s, list(slots), broker.renew())


class Reload(Operation):
    """Loads code and settings, then replaces the process of each slot, one after the other.

    Only when the arbiter has found them good is the first process told to go. The only slot in
    the ring keeps its place: its process exits and the next one takes over, while requests
    wait. A slot that an operator had drained is so afterwards.
    """

    name = "reload"

    waiting: list[int]
    #: What the arbiter is asked to renew; empty when that is done.
    renewal: str
    #: The process that is to go; 0: not told yet.
    old_pid: int = 0
    #: What the operator is to know.
    note: str = ""

    def renewed(self, error: str, note: str, now_s: float) -> Refused | None:
        """The arbiter uses the new code and settings, unless there is an error."""
        if error:
            return Refused(error)
        self.renewal, self.note = "", note
        self.deadline_s = now_s + self.patience_s
        return None

    def step(self, broker: BrokerState, now_s: float) -> Done | Refused | None:
        if self.renewal:
            if now_s < self.deadline_s:
                return None
            return Refused("code and settings were not read anew by the deadline; nothing changed")
        while self.waiting:
            slot = self.waiting[0]
            if not (self._replaced(broker, slot) or self._vanished(broker, slot)):
                self._begin(broker, slot)
                if now_s >= self.deadline_s:
                    return self._give_up(broker, slot)
                return None
            self.waiting.pop(0)
            self.old_pid = 0
            self.deadline_s = now_s + self.patience_s
        return Done(self.note)

    def _replaced(self, broker: BrokerState, slot: int) -> bool:
        process = broker.processes.get(slot)
        after = SlotState.DRAINED if slot in broker.resting else SlotState.READY
        return (
            self.old_pid != 0
            and process is not None
            and process.pid != self.old_pid
            and process.ready
            and broker.view.state(slot) is after
        )

    def _vanished(self, broker: BrokerState, slot: int) -> bool:
        """The process ended before its turn came."""
        return self.old_pid == 0 and broker.view.state(slot) is SlotState.GONE

    def _begin(self, broker: BrokerState, slot: int) -> None:
        process = broker.processes.get(slot)
        if self.old_pid or process is None or not process.ready:
            return
        state = broker.view.state(slot)
        if state in {SlotState.DRAINED, SlotState.DRAINING}:
            broker.leave([slot])
        elif broker.view.serving == (slot,):
            broker.dismiss(slot, process)
        elif state is SlotState.READY:
            broker.drain([slot], leaving=True)
        else:
            return
        self.old_pid = process.pid

    def _give_up(self, broker: BrokerState, slot: int) -> Refused:
        if broker.view.state(slot) is SlotState.DRAINING:
            broker.undrain([slot])
            return Refused(f"slot {slot} had not drained by the deadline and serves again")
        return Refused(f"slot {slot} was not replaced by the deadline")


# -- Scale ----------------------------------------------------------------------------------


def begin_scale(
    broker: BrokerState, request: ScaleRequest, now_s: float
) -> Refused | Grow | Shrink:
    workers, patience_s = request.workers, request.deadline_s
    if workers < 1:
        return Refused("a fleet needs at least one worker")
    victims = [slot for slot in broker.view.within(SlotState.JOINING, *_STAYING) if slot >= workers]
    if not victims:
        grow = Grow(now_s + patience_s, patience_s, broker.workers, workers=workers)
        if grow.ready(broker) == workers:
            grow.note = f"there are {workers} workers already"
        grow.write(broker, workers)
        return grow
    if all(slot in victims for slot in broker.view.serving):
        return Refused(f"none of the slots below {workers} is ready")
    serving = [slot for slot in victims if broker.view.state(slot) is SlotState.READY]
    broker.drain(serving, leaving=False)
    return Shrink(now_s + patience_s, patience_s, victims, serving, workers=workers)


class Scale(Operation, kw_only=True):
    """Base of growing and shrinking. The new number holds once it is in the arbiter's file."""

    name = "change of the number of workers"

    workers: int
    #: Is being written; 0: nothing is.
    writing: int = 0

    def write(self, broker: BrokerState, workers: int) -> None:
        self.writing = workers
        broker.write_workers(workers)

    def on_written(self, broker: BrokerState, error: str) -> Refused | None:
        """The number of workers was written, unless there is an error."""
        raise NotImplementedError


def _unwritten(broker: BrokerState, error: str) -> str:
    return f"the number of workers stays {broker.workers}: {error}"


class Grow(Scale):
    before: int
    #: What the operator is to know.
    note: str = ""
    #: Why the number before is written again.
    failure: str = ""

    def step(self, broker: BrokerState, now_s: float) -> Done | Refused | None:
        if self.writing:
            return None
        ready = self.ready(broker)
        if ready == self.workers:
            return Done(self.note)
        if now_s >= self.deadline_s:
            self.failure = f"only {ready} of {self.workers} workers were ready by the deadline"
            self.write(broker, min(self.before, self.workers))
        return None

    def on_written(self, broker: BrokerState, error: str) -> Refused | None:
        self.writing = 0
        if not self.failure:
            return Refused(_unwritten(broker, error)) if error else None
        number = f"their number is {broker.workers} again"
        return Refused(f"{self.failure}; {_unwritten(broker, error) if error else number}")

    def ready(self, broker: BrokerState) -> int:
        """How many of the wanted workers are there."""
        slots = broker.view.within(*_STAYING)
        return sum(slot < self.workers and slot in broker.processes for slot in slots)


class Shrink(Scale):
    """Drains the highest slots. The number is written before they exit, so none is replaced."""

    victims: list[int]
    drained_here: list[int]
    written: bool = False

    def step(self, broker: BrokerState, now_s: float) -> Done | Refused | None:
        if self.writing:
            return None
        states = {slot: broker.view.state(slot) for slot in self.victims}
        busy = [
            slot for slot, state in states.items() if state in {SlotState.READY, SlotState.DRAINING}
        ]
        if not self.written and not busy:
            self.write(broker, self.workers)
            return None
        if all(state is SlotState.GONE for state in states.values()):
            return Done()
        if now_s < self.deadline_s:
            return None
        if self.written:
            return Refused("the slots have drained, and not all had exited by the deadline")
        broker.undrain(self.drained_here)
        return Refused(f"slots {busy} had not drained by the deadline; all serve again")

    def on_written(self, broker: BrokerState, error: str) -> Refused | None:
        self.writing = 0
        if error:
            broker.undrain(self.drained_here)
            return Refused(f"{_unwritten(broker, error)}; all serve again")
        # From now on the slots count as surplus, and the broker's state dismisses them.
        self.written = True
        return None


AnyOperation = Drain | Reload | Grow | Shrink
