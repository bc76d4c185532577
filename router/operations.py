"""What an operator asks for and waits for: drain, reload, scale. Pure, one at a time.

An operation is stepped after every event and tick. It looks at what is, does the next thing
through the broker's state, and answers when all is done or a deadline has passed; what a
refused operation began is taken back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from router.messages import Done, Refused
from router.view import SlotState

if TYPE_CHECKING:
    from router.control import BrokerState
    from router.messages import Answer, DrainRequest, ReloadRequest, ScaleRequest

_STAYING = (SlotState.READY, SlotState.DRAINING, SlotState.DRAINED)


class Operation(Protocol):
    #: As a person would say it: "a reload is under way".
    name: str

    def step(self, broker: BrokerState, now_s: float) -> Answer | None:
        """Go on; the answer, if this was the end."""


# -- Drain ----------------------------------------------------------------------------------


def begin_drain(broker: BrokerState, request: DrainRequest, now_s: float) -> Answer | Operation:
    slot = request.slot
    if broker.view.state(slot) in {SlotState.DRAINING, SlotState.DRAINED}:
        return Drain(slot, now_s + request.deadline_s)
    refusal = broker.view.drain_refusal([slot])
    if refusal is not None:
        return Refused(refusal)
    broker.drain([slot], leaving=False)
    return Drain(slot, now_s + request.deadline_s)


class Drain:
    name = "drain"

    def __init__(self, slot: int, deadline_s: float) -> None:
        self._slot = slot
        self._deadline_s = deadline_s

    def step(self, broker: BrokerState, now_s: float) -> Answer | None:
        state = broker.view.state(self._slot)
        if state is SlotState.DRAINED:
            return Done()
        if state is not SlotState.DRAINING:
            return Refused(f"slot {self._slot} is {state.value} again")
        if now_s < self._deadline_s:
            return None
        broker.undrain([self._slot])
        return Refused(f"slot {self._slot} had not drained by the deadline and serves again")


# -- Reload ---------------------------------------------------------------------------------


def begin_reload(broker: BrokerState, request: ReloadRequest, now_s: float) -> Answer | Operation:
    slots = broker.view.within(SlotState.JOINING, *_STAYING)
    return Reload(slots, request.deadline_s, now_s)


class Reload:
    """One slot after the other drains, exits and comes back.

    The only slot in the ring keeps its place: its process exits and the next one takes over,
    while requests wait. A slot that an operator had drained is ready afterwards.
    """

    name = "reload"

    def __init__(self, slots: tuple[int, ...], patience_s: float, now_s: float) -> None:
        self._waiting = list(slots)
        self._patience_s = patience_s
        self._deadline_s = now_s + patience_s
        #: The process that is to go; 0: not told yet.
        self._old_pid = 0

    def step(self, broker: BrokerState, now_s: float) -> Answer | None:
        while self._waiting:
            slot = self._waiting[0]
            if not (self._replaced(broker, slot) or self._vanished(broker, slot)):
                self._begin(broker, slot)
                if now_s >= self._deadline_s:
                    return self._give_up(broker, slot)
                return None
            self._waiting.pop(0)
            self._old_pid = 0
            self._deadline_s = now_s + self._patience_s
        return Done()

    def _replaced(self, broker: BrokerState, slot: int) -> bool:
        process = broker.processes.get(slot)
        return (
            self._old_pid != 0
            and process is not None
            and process.pid != self._old_pid
            and process.ready
            and broker.view.state(slot) is SlotState.READY
        )

    def _vanished(self, broker: BrokerState, slot: int) -> bool:
        """It was gone before its turn came."""
        return self._old_pid == 0 and broker.view.state(slot) is SlotState.GONE

    def _begin(self, broker: BrokerState, slot: int) -> None:
        process = broker.processes.get(slot)
        if self._old_pid or process is None or not process.ready:
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
        self._old_pid = process.pid

    def _give_up(self, broker: BrokerState, slot: int) -> Answer:
        if broker.view.state(slot) is SlotState.DRAINING:
            broker.undrain([slot])
            return Refused(f"slot {slot} had not drained by the deadline and serves again")
        return Refused(f"slot {slot} was not replaced by the deadline")


# -- Scale ----------------------------------------------------------------------------------


def begin_scale(broker: BrokerState, request: ScaleRequest, now_s: float) -> Answer | Operation:
    workers, deadline_s = request.workers, now_s + request.deadline_s
    if workers < 1:
        return Refused("a fleet needs at least one worker")
    victims = [slot for slot in broker.view.within(SlotState.JOINING, *_STAYING) if slot >= workers]
    if not victims:
        broker.write_workers(workers)
        return Grow(workers, deadline_s)
    if all(slot in victims for slot in broker.view.serving):
        return Refused(f"none of the slots below {workers} is ready")
    serving = [slot for slot in victims if broker.view.state(slot) is SlotState.READY]
    broker.drain(serving, leaving=False)
    return Shrink(workers, victims, serving, deadline_s)


class Grow:
    name = "change of the number of workers"

    def __init__(self, workers: int, deadline_s: float) -> None:
        self._workers = workers
        self._deadline_s = deadline_s

    def step(self, broker: BrokerState, now_s: float) -> Answer | None:
        there = [
            slot
            for slot in broker.view.within(*_STAYING)
            if slot < self._workers and slot in broker.processes
        ]
        if len(there) == self._workers:
            return Done()
        if now_s < self._deadline_s:
            return None
        return Refused(f"only {len(there)} of {self._workers} workers were ready by the deadline")


class Shrink:
    """The highest slots drain; the number is written before they exit: nobody replaces them."""

    name = "change of the number of workers"

    def __init__(
        self, workers: int, victims: list[int], drained_here: list[int], deadline_s: float
    ) -> None:
        self._workers = workers
        self._victims = victims
        self._drained_here = drained_here
        self._deadline_s = deadline_s
        self._written = False

    def step(self, broker: BrokerState, now_s: float) -> Answer | None:
        states = {slot: broker.view.state(slot) for slot in self._victims}
        busy = [
            slot for slot, state in states.items() if state in {SlotState.READY, SlotState.DRAINING}
        ]
        if not self._written and not busy:
            # From now on the slots count as surplus, and the broker's state dismisses them.
            self._written = True
            broker.write_workers(self._workers)
            return None
        if all(state is SlotState.GONE for state in states.values()):
            return Done()
        if now_s < self._deadline_s:
            return None
        if self._written:
            return Refused("the slots have drained, and not all had exited by the deadline")
        broker.undrain(self._drained_here)
        return Refused(f"slots {busy} had not drained by the deadline; all serve again")
