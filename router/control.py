"""The broker's mind: the view, the processes, what was announced, what operators wait for.

Pure: events come in with the time (`on_…`), `Effect`s come out in the order in which they are
to happen; `workers.broker` brings the events and does the effects. Whatever the broker must
know after its own death is in `Saved`, which is written before anyone hears of it.

All rules but those of one report are by level: after each event `_settle` looks at what is,
orders what is due and lets the operation under way (`router.operations`) take its next step.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from router.messages import (
    Accepted,
    Acknowledged,
    Announcement,
    Answer,
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
    Numbered,
    Ready,
    Received,
    Refused,
    ReloadRequest,
    Report,
    Request,
    ReturnOrder,
    ScaleRequest,
    SlotStatus,
    Snapshot,
    SnapshotRequest,
    Status,
    StatusRequest,
    UndrainRequest,
    ViewChanged,
)
from router.operations import begin_drain, begin_reload, begin_scale
from router.ring import Ring
from router.view import REJOIN_GRACE_S, Event, SlotState, View, starting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from router.operations import Operation

HEARTBEAT_S = 0.2
#: While somebody has not acknowledged, and for so long after the last announcement.
HEARTBEAT_LAGGING_S = 0.02
_LAGGING_S = 2.0
#: Announcements kept for those that missed a few; who missed more gets what still holds.
_HISTORY_MAX = 1024
_SHARE_SAMPLES = 4096
#: Clients whose numbers are remembered, the dead among them.
_CLIENTS_MAX = 4096


class Saved(msgspec.Struct, frozen=True):
    """What a broker leaves to the next one."""

    view: View
    #: How many workers are wanted.
    workers: int
    pids: dict[int, int] = {}
    log_level: str = ""


class Publish(NamedTuple):
    sequence: int
    message: Announcement | Heartbeat


class Reply(NamedTuple):
    client: bytes
    message: Answer | Snapshot | Received | Introduce


class Persist(NamedTuple):
    saved: Saved


class Watch(NamedTuple):
    """Call `on_died(slot, pid)` when the process ends, or at once when there is none."""

    slot: int
    pid: int


class WriteWorkers(NamedTuple):
    """The arbiter is to keep so many workers."""

    workers: int


Effect = Publish | Reply | Persist | Watch | WriteWorkers


class Process(msgspec.Struct):
    """The process of a slot."""

    pid: int
    client: bytes = b""
    #: Has it said, to this broker, that it can serve?
    ready: bool = False
    heard_s: float | None = None
    applied: int = 0
    status: Status | None = None
    #: Was it told to leave?
    dismissed: bool = False


class BrokerState:
    def __init__(self, epoch: str, saved: Saved | None, workers: int, now_s: float) -> None:
        self.epoch = epoch
        self.sequence = 0
        self.processes: dict[int, Process] = {}
        self.operation: Operation | None = None
        self._operator = b""
        self._numbers: dict[bytes, int] = {}
        self._died: dict[int, int] = {}
        #: When a slot loses its place.
        self._expiry: dict[int, float] = {}
        self._drained_by: dict[int, int] = {}
        self._history: deque[Numbered] = deque(maxlen=_HISTORY_MAX)
        #: The announcements that hold until another takes their place.
        self._standing: dict[int | str, Numbered] = {}
        self._now_s = self._announced_s = self._beat_s = now_s
        self._effects: list[Effect] = []
        self._shares: tuple[tuple[int, ...], dict[int, float]] = ((), {})
        self.workers = workers
        self.log_level = ""
        self.view = starting(epoch, workers)
        if saved is not None:
            self._go_on_from(saved, now_s)

    def _go_on_from(self, saved: Saved, now_s: float) -> None:
        self.view = saved.view.with_epoch(self.epoch)
        self.workers, self.log_level = saved.workers, saved.log_level
        for slot, state in self.view.slots.items():
            if state is not SlotState.GONE:
                self._expiry[slot] = now_s + REJOIN_GRACE_S
        for slot, pid in saved.pids.items():
            self._watch(slot, pid)

    def start(self) -> list[Effect]:
        """What to do first, after the sockets are there."""
        self._publish_view()
        for slot in self.view.within(SlotState.DRAINING, SlotState.DRAINED):
            self.announce(LeaveOrder(slot, exit=False))
        if self.log_level:
            self.announce(LogLevel(self.log_level))
        return self._settle()

    # -- Events -----------------------------------------------------------------------------

    def on_report(
        self, client: bytes, epoch: str, number: int, message: Report, now_s: float
    ) -> list[Effect]:
        """A report meant for another broker comes again, once its sender knows us."""
        self._now_s = now_s
        if epoch != self.epoch:
            return []
        if isinstance(message, Status):
            return self._note_status(client, message)
        if number == self._numbers.get(client, 0) + 1:
            self._remember_number(client, number)
            self._take(client, message)
        self._effects.append(Reply(client, Received(self._numbers.get(client, 0))))
        return self._settle()

    def on_acknowledged(self, message: Acknowledged) -> None:
        process = self.processes.get(message.slot)
        if process is not None and message.epoch == self.epoch:
            process.applied = max(process.applied, message.sequence)

    def on_snapshot_request(self, client: bytes, message: SnapshotRequest) -> list[Effect]:
        missing = self.sequence - message.since
        complete = message.epoch == self.epoch and message.since >= 0 and missing >= 0
        complete = complete and missing <= len(self._history)
        if complete:
            first = len(self._history) - missing
            messages = tuple(list(self._history)[first:])
        else:
            messages = tuple(sorted(self._standing.values(), key=lambda each: each.sequence))
        snapshot = Snapshot(
            message.nonce, message.since, self.sequence, self.view, complete, messages
        )
        return [Reply(client, snapshot)]

    def on_request(self, client: bytes, request: Request, now_s: float) -> list[Effect]:
        self._now_s = now_s
        match request:
            case StatusRequest():
                answer: Answer | Operation = self._fleet_status(now_s)
            case LogLevelRequest(level):
                self.log_level = level
                self._persist()
                self.announce(LogLevel(level))
                answer = Done()
            case UndrainRequest(slot):
                answer = self._undrain_wanted(slot)
            case _ if self.operation is not None:
                answer = Refused(f"a {self.operation.name} is under way")
            case DrainRequest():
                answer = begin_drain(self, request, now_s)
            case ReloadRequest():
                answer = begin_reload(self, request, now_s)
            case ScaleRequest():
                answer = begin_scale(self, request, now_s)
        if isinstance(answer, Answer):
            self._effects.append(Reply(client, answer))
        else:
            self.operation, self._operator = answer, client
            self._effects.append(Reply(client, Accepted()))
        return self._settle()

    def on_died(self, slot: int, pid: int, now_s: float) -> list[Effect]:
        self._now_s = now_s
        process = self.processes.get(slot)
        if process is not None and process.pid == pid:
            self._bury(slot, process)
        return self._settle()

    def on_subscribed(self, now_s: float) -> list[Effect]:
        """Somebody listens now: let it hear something at once."""
        return [self._heartbeat(now_s)]

    def on_tick(self, now_s: float) -> list[Effect]:
        self._now_s = now_s
        expired = [slot for slot, at_s in self._expiry.items() if at_s <= now_s]
        self.change([(slot, Event.EXPIRED) for slot in expired])
        for slot in expired:
            if self.view.state(slot) is SlotState.GONE:
                del self._expiry[slot]
            else:
                self._expiry[slot] = now_s + REJOIN_GRACE_S
        effects = self._settle()
        if now_s >= self._beat_due_s(now_s):
            effects.append(self._heartbeat(now_s))
        return effects

    def next_tick_s(self, now_s: float) -> float:
        """When `on_tick` has something to do, at the latest."""
        return min([self._beat_due_s(now_s), *self._expiry.values()])

    @property
    def acknowledged(self) -> int:
        """Every process that has reported has applied the announcements up to here."""
        return min((each.applied for each in self.processes.values()), default=self.sequence)

    # -- What events and operations do ------------------------------------------------------

    def change(self, events: Iterable[tuple[int, Event]]) -> None:
        """Make the next view known, if it is another."""
        self._replace_view(self.view.after_all(events))

    def drain(self, slots: Iterable[int], *, leaving: bool) -> None:
        slots = list(slots)
        view = self.view.after_all((slot, Event.DRAIN) for slot in slots)
        self._replace_view(view.with_leaving(slots) if leaving else view)
        for slot in slots:
            self._drained_by[slot] = self.view.number
            if slot in self.processes:
                # This order takes the place of an earlier one to exit, which comes again.
                self.processes[slot].dismissed = False
            self.announce(LeaveOrder(slot, exit=False))

    def undrain(self, slots: Iterable[int]) -> None:
        """Those of them that drain or are drained, and were not told to leave."""
        for slot in slots:
            if self.view.state(slot) in {SlotState.DRAINING, SlotState.DRAINED}:
                self.change([(slot, Event.UNDRAIN)])
                self.announce(ReturnOrder(slot))

    def leave(self, slots: Iterable[int]) -> None:
        """Drained slots are to exit: `_settle` tells them."""
        self._replace_view(self.view.with_leaving(slots))

    def dismiss(self, slot: int, process: Process) -> None:
        process.dismissed = True
        self.announce(LeaveOrder(slot, exit=True, pid=process.pid))

    def write_workers(self, workers: int) -> None:
        self.workers = workers
        self._persist()
        self._effects.append(WriteWorkers(workers))

    def announce(self, message: Announcement) -> None:
        self.sequence += 1
        numbered = Numbered(self.sequence, message)
        self._history.append(numbered)
        if isinstance(message, LeaveOrder | ReturnOrder):
            self._standing[message.slot] = numbered
        elif isinstance(message, LogLevel):
            self._standing["log level"] = numbered
        self._announced_s = self._now_s
        self._effects.append(Publish(self.sequence, message))

    # -- Reports ----------------------------------------------------------------------------

    def _note_status(self, client: bytes, status: Status) -> list[Effect]:
        """A worker that is not known here was taken for dead: a late word of an earlier process
        of its slot can do that."""
        process = self.processes.get(status.slot)
        if process is not None and process.pid == status.pid:
            process.status, process.heard_s = status, self._now_s
            if self.view.state(status.slot) is not SlotState.GONE:
                return []
        return [Reply(client, Introduce())]

    def _remember_number(self, client: bytes, number: int) -> None:
        self._numbers[client] = number
        if len(self._numbers) > _CLIENTS_MAX:
            del self._numbers[next(iter(self._numbers))]

    def _take(self, client: bytes, message: Report) -> None:
        if isinstance(message, NamespaceChanged):
            self.announce(message)
            return
        if self._died.get(message.slot) == message.pid:
            return
        process = self._process(message.slot, message.pid)
        process.client, process.heard_s = client, self._now_s
        slot = message.slot
        if self.view.state(slot) is SlotState.GONE:
            self.change([(slot, Event.JOINED)])
        if isinstance(message, Joined):
            if self.view.state(slot) is not SlotState.READY:
                self._expiry.pop(slot, None)
        elif isinstance(message, Ready):
            process.ready = True
            self._expiry.pop(slot, None)
            self.change([(slot, Event.READIED)])
        elif isinstance(message, Drained):
            # Also when it drained for an order that was taken back: it serves by the view.
            process.ready = True
            self._expiry.pop(slot, None)
            if message.view >= self._drained_by.get(slot, 0):
                self.change([(slot, Event.DRAINED)])

    def _process(self, slot: int, pid: int) -> Process:
        process = self.processes.get(slot)
        if process is not None and process.pid == pid:
            return process
        if process is not None:
            self._bury(slot, process)
        if slot in self._expiry:
            self._expiry[slot] = self._now_s + REJOIN_GRACE_S
        process = self._watch(slot, pid)
        self._persist()
        return process

    def _watch(self, slot: int, pid: int) -> Process:
        process = self.processes[slot] = Process(pid)
        self._effects.append(Watch(slot, pid))
        return process

    def _bury(self, slot: int, process: Process) -> None:
        del self.processes[slot]
        self._died[slot] = process.pid
        if process.dismissed:
            self._standing.pop(slot, None)
        left = slot in self.view.leaving
        self.change([(slot, Event.LEFT if left else Event.DIED)])
        if self.view.state(slot) is SlotState.GONE:
            self._expiry.pop(slot, None)
        else:
            self._expiry[slot] = self._now_s + REJOIN_GRACE_S

    # -- Bookkeeping ------------------------------------------------------------------------

    def _replace_view(self, view: View) -> None:
        """The number grows by one, however many steps led here."""
        if view is not self.view:
            self.view = View(self.view.number + 1, self.epoch, view.slots, view.leaving)
            self._publish_view()

    def _publish_view(self) -> None:
        self._persist()
        self.announce(ViewChanged(self.view))

    def _persist(self) -> None:
        pids = {slot: process.pid for slot, process in self.processes.items()}
        self._effects.append(Persist(Saved(self.view, self.workers, pids, self.log_level)))

    def _settle(self) -> list[Effect]:
        before = -1
        while before != len(self._effects):
            before = len(self._effects)
            self._drain_surplus()
            self._dismiss_drained()
            answer = self.operation.step(self, self._now_s) if self.operation else None
            if answer is not None:
                self.operation = None
                self._effects.append(Reply(self._operator, answer))
        effects, self._effects = self._effects, []
        return effects

    def _drain_surplus(self) -> None:
        """Slots beyond the wanted number go, however they came to be there."""
        for slot in [slot for slot in self.view.slots if slot >= self.workers]:
            process, state = self.processes.get(slot), self.view.state(slot)
            if process is None:
                self.change([(slot, Event.EXPIRED)])
            elif state is SlotState.JOINING and not process.dismissed:
                self.dismiss(slot, process)
            elif state is SlotState.READY and self.view.drain_refusal([slot]) is None:
                self.drain([slot], leaving=True)
            elif state in {SlotState.DRAINING, SlotState.DRAINED}:
                self.leave([slot])

    def _dismiss_drained(self) -> None:
        for slot in self.view.leaving:
            process = self.processes.get(slot)
            if self.view.state(slot) is not SlotState.DRAINED:
                continue
            if process is None:
                self.change([(slot, Event.LEFT)])
            elif not process.dismissed:
                self.dismiss(slot, process)

    def _beat_due_s(self, now_s: float) -> float:
        lagging = self.acknowledged < self.sequence and now_s - self._announced_s < _LAGGING_S
        return self._beat_s + (HEARTBEAT_LAGGING_S if lagging else HEARTBEAT_S)

    def _heartbeat(self, now_s: float) -> Publish:
        self._beat_s = now_s
        return Publish(self.sequence, Heartbeat(self.acknowledged))

    def _undrain_wanted(self, slot: int) -> Answer:
        state = self.view.state(slot)
        if slot in self.view.leaving or (
            self.operation is not None and self.operation.name != "drain"
        ):
            return Refused(f"slot {slot} is in the hands of a reload or a change of the number")
        if state not in {SlotState.DRAINING, SlotState.DRAINED}:
            return Refused(f"slot {slot} is {state.value}, not drained")
        if slot not in self.processes:
            return Refused(f"slot {slot} has no process at present")
        self.undrain([slot])
        return Done()

    def _fleet_status(self, now_s: float) -> FleetStatus:
        shares = self._ring_shares()
        rows = []
        for slot in sorted({*self.view.slots, *self.processes}):
            process = self.processes.get(slot, Process(0))
            said = process.status or Status(slot, process.pid)
            rows.append(
                SlotStatus(
                    slot=slot,
                    state=self.view.state(slot),
                    pid=process.pid,
                    ready=process.ready,
                    namespaces=said.namespaces,
                    handles=said.handles,
                    in_progress=said.in_progress,
                    uptime_s=said.uptime_s,
                    silent_s=None if process.heard_s is None else now_s - process.heard_s,
                    ring_share=shares.get(slot, 0.0),
                )
            )
        operation = self.operation.name if self.operation else ""
        return FleetStatus(self.view.number, self.epoch, self.workers, operation, tuple(rows))

    def _ring_shares(self) -> dict[int, float]:
        """By a sample of names: to about a hundredth."""
        serving = self.view.serving
        if self._shares[0] != serving:
            shares = dict.fromkeys(serving, 0.0)
            if serving:
                ring = Ring(serving)
                for sample in range(_SHARE_SAMPLES):
                    shares[ring.owner(str(sample))] += 1 / _SHARE_SAMPLES
            self._shares = (serving, shares)
        return self._shares[1]
