"""Rules of `router.control` that depend only on the current state: what is due now.

Each rule looks at the whole fleet and is applied again until nothing is left to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.view import Event, SlotState

if TYPE_CHECKING:
    from router.control import BrokerState
    from router.gathering import Gathering


def let_serve(broker: BrokerState, gathering: Gathering, now_s: float) -> None:
    """Let ready slots join the ring, except those that operators drained."""
    ready = {slot for slot, process in broker.processes.items() if process.ready}
    admitted = gathering.admitted(broker.view, ready - broker.resting, now_s)
    broker.change([(slot, Event.READIED) for slot in admitted])


def drain_surplus(broker: BrokerState) -> None:
    """Drain slots beyond the wanted number, however they came to be there."""
    for slot in [slot for slot in broker.view.slots if slot >= broker.workers]:
        process, state = broker.processes.get(slot), broker.view.state(slot)
        if process is None:
            broker.change([(slot, Event.EXPIRED)])
        elif state is SlotState.JOINING and not process.dismissed:
            broker.dismiss(slot, process)
        elif state is SlotState.READY and broker.view.drain_refusal([slot]) is None:
            broker.drain([slot], leaving=True)
        elif state in {SlotState.DRAINING, SlotState.DRAINED}:
            broker.leave([slot])


def dismiss_drained(broker: BrokerState) -> None:
    """Order drained slots that must leave to exit."""
    for slot in broker.view.leaving:
        process = broker.processes.get(slot)
        if broker.view.state(slot) is not SlotState.DRAINED:
            continue
        if process is None:
            broker.change([(slot, Event.LEFT)])
        elif not process.dismissed:
            broker.dismiss(slot, process)
