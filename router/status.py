"""The status of the fleet, as an operator sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.effects import Process
from router.messages import FleetStatus, SlotStatus, Status
from router.ring import Ring
from router.view import SlotState

if TYPE_CHECKING:
    from router.control import BrokerState

_SAMPLES = 4096


class Shares:
    """The share of all namespaces that each slot of the newest ring owns; computed once a ring."""

    def __init__(self) -> None:
        self._serving: tuple[int, ...] = ()
        self._shares: dict[int, float] = {}

    def of(self, serving: tuple[int, ...]) -> dict[int, float]:
        """The share, from a sample of names; off by about 0.01 at most."""
        if self._serving != serving:
            shares = dict.fromkeys(serving, 0.0)
            if serving:
                ring = Ring(serving)
                for sample in range(_SAMPLES):
                    shares[ring.owner(str(sample))] += 1 / _SAMPLES
            self._serving, self._shares = serving, shares
        return self._shares


def fleet_status(broker: BrokerState, shares: Shares, now_s: float) -> FleetStatus:
    """All slots in order, also without a process, unless they were scaled away."""
    share_of = shares.of(broker.view.serving)
    rows = []
    for slot in sorted({*broker.view.slots, *broker.processes}):
        if slot >= broker.workers and broker.view.state(slot) is SlotState.GONE:
            continue
        process = broker.processes.get(slot, Process(0))
        said = process.status or Status(slot, process.pid)
        rows.append(
            SlotStatus(
                slot=slot,
                state=broker.view.state(slot),
                pid=process.pid,
                ready=process.ready,
                namespaces=said.namespaces,
                handles=said.handles,
                in_progress=said.in_progress,
                uptime_s=said.uptime_s,
                silent_s=None if process.heard_s is None else now_s - process.heard_s,
                ring_share=share_of.get(slot, 0.0),
            )
        )
    operation = broker.operation.name if broker.operation else ""
    return FleetStatus(broker.view.number, broker.epoch, broker.workers, operation, tuple(rows))
