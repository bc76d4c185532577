"""The view: which slot of the fleet is in which state. Pure values; no clock, no IO.

The broker (`router.control`) alone makes new views; every worker gets each of them whole and
builds its ring of `View.serving`, so equal views give equal owners everywhere.

`TRANSITIONS` is the whole life of a slot. An event that is not listed for a state changes nothing,
because reports may arrive late or twice. A slot whose process dies keeps its state, and with it its
place in the ring, until its grace period is over (EXPIRED), because the arbiter replaces the
process within a moment.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: How long a slot without a process that serves keeps its place in the ring.
REJOIN_GRACE_S = 2.0


class SlotState(enum.Enum):
    JOINING = "joining"  # has a process that does not serve yet; not in the ring
    READY = "ready"  # in the ring
    DRAINING = "draining"  # out of the ring, still giving up what it has
    DRAINED = "drained"  # out of the ring, owns nothing
    GONE = "gone"  # no process within the grace, or left as ordered


class Event(enum.Enum):
    JOINED = enum.auto()  # a process reports for the first time, or to a new broker
    READIED = enum.auto()  # it can serve
    DRAIN = enum.auto()  # somebody wants it out of the ring
    DRAINED = enum.auto()  # it owns nothing any more
    UNDRAIN = enum.auto()  # somebody wants it back
    DIED = enum.auto()  # its process ended
    LEFT = enum.auto()  # its process ended as it had been ordered to
    EXPIRED = enum.auto()  # the grace is over


_S, _E = SlotState, Event
TRANSITIONS: Mapping[SlotState, Mapping[Event, SlotState]] = {
    _S.JOINING: {
        _E.READIED: _S.READY,
        _E.DRAINED: _S.DRAINED,  # told to a broker that has lost its view
        _E.EXPIRED: _S.GONE,
    },
    _S.READY: {
        _E.DRAIN: _S.DRAINING,
        _E.EXPIRED: _S.GONE,
    },
    _S.DRAINING: {
        _E.DRAINED: _S.DRAINED,
        _E.UNDRAIN: _S.READY,
        _E.DIED: _S.DRAINED,  # the kernel has freed its locks
        _E.LEFT: _S.GONE,
        _E.EXPIRED: _S.GONE,
    },
    _S.DRAINED: {
        _E.UNDRAIN: _S.READY,
        _E.LEFT: _S.GONE,
        _E.EXPIRED: _S.GONE,
    },
    _S.GONE: {
        _E.JOINED: _S.JOINING,
    },
}


class View(msgspec.Struct, frozen=True):
    """The state of every slot, as all workers see it. Immutable: `after` makes another view."""

    #: Grows by one with each change, also across brokers.
    number: int = 0
    #: Of the broker that made it.
    epoch: str = ""
    slots: dict[int, SlotState] = {}
    #: Slots that drain in order to exit and be replaced, or not.
    leaving: frozenset[int] = frozenset()

    @property
    def serving(self) -> tuple[int, ...]:
        """The slots of the ring; empty only before the first one was ready."""
        return self.within(SlotState.READY)

    def within(self, *states: SlotState) -> tuple[int, ...]:
        """The slots in one of these states, in order."""
        return tuple(sorted(slot for slot, state in self.slots.items() if state in states))

    def state(self, slot: int) -> SlotState:
        """The state of a slot; GONE also for one that never existed."""
        return self.slots.get(slot, SlotState.GONE)

    def after(self, slot: int, event: Event) -> View:
        """The next view; the same one when the event means nothing to the slot.

        The last slot in the ring never expires: nobody is there to take over.
        """
        return self.after_all([(slot, event)])

    def after_all(self, events: Iterable[tuple[int, Event]]) -> View:
        """The next view, after all events in one step, so that a namespace moves only once."""
        slots, leaving = dict(self.slots), set(self.leaving)
        for slot, event in events:
            old = slots.get(slot, SlotState.GONE)
            new = TRANSITIONS[old].get(event, old)
            if event is Event.EXPIRED and old is SlotState.READY and _ready(slots) == {slot}:
                continue
            slots[slot] = new
            if new in {SlotState.READY, SlotState.JOINING, SlotState.GONE}:
                leaving.discard(slot)
        return self._replaced(slots, frozenset(leaving))

    def with_leaving(self, slots: Iterable[int]) -> View:
        return self._replaced(self.slots, self.leaving | set(slots))

    def with_epoch(self, epoch: str) -> View:
        """The same view for a new broker, with its epoch."""
        return View(self.number + 1, epoch, self.slots, self.leaving)

    def _replaced(self, slots: dict[int, SlotState], leaving: frozenset[int]) -> View:
        if slots == self.slots and leaving == self.leaving:
            return self
        return View(self.number + 1, self.epoch, slots, leaving)

    def drain_refusal(self, slots: Iterable[int]) -> str | None:
        """Why these slots cannot be drained together, or None."""
        wanted = set(slots)
        for slot in sorted(wanted):
            if slot not in self.slots:
                return f"there is no slot {slot}"
            if self.state(slot) is not SlotState.READY:
                return f"slot {slot} is {self.state(slot).value}, not ready"
        if wanted >= set(self.serving):
            return "nobody would serve: the last ready slot cannot be drained"
        return None


def _ready(slots: Mapping[int, SlotState]) -> set[int]:
    return {slot for slot, state in slots.items() if state is SlotState.READY}


def starting(epoch: str, workers: int) -> View:
    """The view of a fleet that begins."""
    return View(1, epoch, dict.fromkeys(range(workers), SlotState.JOINING))
