"""The broker's state and decisions: the view, processes, announcements, operators' requests.

Pure: events come in with the time (`on_…`), `Effect`s come out in the order in which they must
happen; `workers.broker` delivers the events and performs the effects. What the next broker must
know when this one dies is in `Saved`, which is written before anybody hears of it.

Rules depend on the current state, not on the event that led to it (except those about a single
report): after each event `_settle` looks at the state, orders what is due, and lets the operation
under way (`router.operations`) take its next step.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from router.effects import (
    Effect,
    Kill,
    Persist,
    Process,
    Publish,
    Renew,
    Reply,
    Saved,
    Watch,
    Work,
    WriteWorkers,
)
from router.gathering import Gathering
from router.messages import (
    Accepted,
    Acknowledged,
    Announcement,
    Answer,
    Done,
    Drained,
    DrainRequest,
    Heartbeat,
    Introduce,
    Joined,
    LeaveOrder,
    LogLevel,
    LogLevelRequest,
    Numbered,
    Ready,
    Received,
    Refused,
    ReloadRequest,
    Report,
    Request,
    ReturnOrder,
    ScaleRequest,
    Snapshot,
    SnapshotRequest,
    Status,
    StatusRequest,
    Told,
    UndrainRequest,
    ViewChanged,
)
from router.operations import Reload, Scale, begin_drain, begin_reload, begin_scale, undrain
from router.settling import dismiss_drained, drain_surplus, let_serve
from router.status import Shares, fleet_status
from router.view import REJOIN_GRACE_S, Event, SlotState, View, starting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from router.operations import AnyOperation

HEARTBEAT_S = 0.2
#: While a worker has not acknowledged, and for this long after the last announcement.
HEARTBEAT_LAGGING_S = 0.02
_LAGGING_S = 2.0
#: Announcements kept for workers that missed a few; one that missed more gets a snapshot.
_HISTORY_MAX = 1024
#: A worker that is silent for this long is killed; it reports every second.
SILENCE_S = 10.0
#: If the broker itself was away for longer than this, nobody was silent meanwhile.
_AWAY_S = 1.0
#: Clients whose report numbers are remembered, including dead ones.
_CLIENTS_MAX = 4096


class BrokerState:
    def __init__(
        self,
        epoch: str,
        saved: Saved | None,
        workers: int,
        now_s: float,
        silence_s: float = SILENCE_S,
    ) -> None:
        """`silence_s`: a worker that is silent for this long is killed."""
        self.epoch = epoch
        #: The latest announcement, and the latest one that a worker reported.
        self.sequence = self._told = 0
        self.processes: dict[int, Process] = {}
        #: Slots that an operator has drained.
        self.resting: set[int] = set()
        self.work = Work()
        self._operator = b""
        self._silence_s = silence_s
        self._saved_work = b""
        self._renewals = 0
        self._numbers: dict[bytes, int] = {}
        self._died: dict[int, int] = {}
        #: When a slot without a process loses its place.
        self._expiry: dict[int, float] = {}
        self._drained_by: dict[int, int] = {}
        self._history: deque[Numbered] = deque(maxlen=_HISTORY_MAX)
        #: Announcements that hold until the next of their kind, by kind.
        self._standing: dict[int | str, Numbered] = {}
        self._now_s = self._announced_s = self._beat_s = self._ticked_s = now_s
        self._effects: list[Effect] = []
        self._shares = Shares()
        self._gathering = Gathering()
        self.workers = workers
        self.log_level = ""
        self.view = starting(epoch, workers)
        if saved is not None:
            self._go_on_from(saved, now_s)

    def _go_on_from(self, saved: Saved, now_s: float) -> None:
        self.view = saved.view.with_epoch(self.epoch)
        self.workers, self.log_level = saved.workers, saved.log_level
        self.resting, self.work = set(saved.resting), saved.work
        if saved.work.operation is not None:
            saved.work.operation.resumed(now_s)
        for slot, state in self.view.slots.items():
            if state is not SlotState.GONE:
                self._expiry[slot] = now_s + REJOIN_GRACE_S
        for slot, pid in saved.pids.items():
            self._watch(slot, pid)

    def start(self) -> list[Effect]:
        """The first effects, once the sockets are open."""
        self._publish_view()
        for slot in self.view.within(SlotState.DRAINING, SlotState.DRAINED):
            self.announce(LeaveOrder(slot, exit=False))
        if self.log_level:
            self.announce(LogLevel(self.log_level))
        if self.renewal:
            # The arbiter may not have heard of it; it reads once for each id.
            self._effects.append(Renew(self.renewal))
        if isinstance(self.operation, Scale) and self.operation.writing:
            self.write_workers(self.operation.writing)
        return self._settle()

    @property
    def operation(self) -> AnyOperation | None:
        """The operation that is in progress."""
        return self.work.operation

    @property
    def renewal(self) -> str:
        """The id of the reload that the arbiter is working on; empty when there is none."""
        return self.operation.renewal if isinstance(self.operation, Reload) else ""

    # -- Events -----------------------------------------------------------------------------

    def on_report(
        self, client: bytes, epoch: str, number: int, message: Report, now_s: float
    ) -> list[Effect]:
        """A report. One meant for another broker is sent again once its sender knows us."""
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

    def on_acknowledged(self, message: Acknowledged) -> list[Effect]:
        """When all have applied a worker's report, it is told at once: a caller waits."""
        process, before = self.processes.get(message.slot), self.acknowledged
        if process is not None and message.epoch == self.epoch:
            process.applied = max(process.applied, message.sequence)
        known = before < self._told <= self.acknowledged
        return [self._heartbeat(self._now_s)] if known else []

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
            case DrainRequest(id=id) | ReloadRequest(id=id) | ScaleRequest(id=id) if (
                id and id == self.work.id
            ):
                self._operator = client
                answer: Answer | AnyOperation = self.work.answer or Accepted()
            case StatusRequest():
                answer = fleet_status(self, self._shares, now_s)
            case LogLevelRequest(level):
                self.log_level = level
                self._persist()
                self.announce(LogLevel(level))
                answer = Done()
            case UndrainRequest(slot):
                answer = undrain(self, slot)
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
            self.work, self._operator = Work(getattr(request, "id", ""), answer), client
            self._effects.append(Reply(client, Accepted()))
        return self._settle()

    def on_renewed(self, renewal: str, error: str, note: str, now_s: float) -> list[Effect]:
        """The arbiter's answer to `Renew`; with an error it keeps the code and settings it had."""
        self._now_s = now_s
        operation = self.operation
        if isinstance(operation, Reload) and operation.renewal == renewal:
            self._end(operation.renewed(error, note, now_s))
        return self._settle()

    def on_written(self, workers: int, error: str, now_s: float) -> list[Effect]:
        """The result of `WriteWorkers`; with an error the arbiter keeps the number it had."""
        self._now_s = now_s
        operation = self.operation
        if isinstance(operation, Scale) and operation.writing == workers:
            if not error:
                self.workers = workers
                self.resting = {slot for slot in self.resting if slot < workers}
            self._persist()
            self._end(operation.on_written(self, error))
        return self._settle()

    def on_died(self, slot: int, pid: int, now_s: float) -> list[Effect]:
        self._now_s = now_s
        process = self.processes.get(slot)
        if process is not None and process.pid == pid:
            self._bury(slot, process)
        return self._settle()

    def on_subscribed(self, now_s: float) -> list[Effect]:
        """A new subscriber: announce something at once."""
        return [self._heartbeat(now_s)]

    def on_tick(self, now_s: float) -> list[Effect]:
        self._now_s = now_s
        self._end_silent(now_s)
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
        """The latest time at which `on_tick` must be called."""
        return min([self._beat_due_s(now_s), *self._expiry.values()])

    @property
    def acknowledged(self) -> int:
        """Every process that has reported has applied the announcements up to here."""
        return min((each.applied for each in self.processes.values()), default=self.sequence)

    # -- What events and operations do ------------------------------------------------------

    def change(self, events: Iterable[tuple[int, Event]]) -> None:
        """Announce the next view, if it differs."""
        self._replace_view(self.view.after_all(events))

    def rest(self, slot: int) -> None:
        """Keep the slot drained, also when its process is replaced: an operator drained it."""
        self.resting.add(slot)

    def renew(self) -> str:
        """Have the arbiter load new code and settings; returns the id of its `on_renewed`."""
        self._renewals += 1
        renewal = f"{self.epoch}.{self._renewals}"
        self._effects.append(Renew(renewal))
        return renewal

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
        """Let these slots serve again, unless they were told to leave."""
        for slot in slots:
            self.resting.discard(slot)
            if self.view.state(slot) in {SlotState.DRAINING, SlotState.DRAINED}:
                self.change([(slot, Event.UNDRAIN)])
                self.announce(ReturnOrder(slot))

    def leave(self, slots: Iterable[int]) -> None:
        """Have drained slots exit; `_settle` orders it."""
        self._replace_view(self.view.with_leaving(slots))

    def dismiss(self, slot: int, process: Process) -> None:
        process.dismissed = True
        self.announce(LeaveOrder(slot, exit=True, pid=process.pid))

    def write_workers(self, workers: int) -> None:
        """Tell the arbiter the number of workers; `on_written` confirms it."""
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
            process.status = status
            process.heard_s = process.silent_from_s = self._now_s
            if self.view.state(status.slot) is not SlotState.GONE:
                return []
        return [Reply(client, Introduce())]

    def _remember_number(self, client: bytes, number: int) -> None:
        self._numbers[client] = number
        if len(self._numbers) > _CLIENTS_MAX:
            del self._numbers[next(iter(self._numbers))]

    def _take(self, client: bytes, message: Report) -> None:
        if isinstance(message, Told):
            self.announce(message)
            self._told = self.sequence
            return
        if self._died.get(message.slot) == message.pid:
            return
        process = self._process(message.slot, message.pid)
        process.client = client
        process.heard_s = process.silent_from_s = self._now_s
        slot = message.slot
        if self.view.state(slot) is SlotState.GONE:
            self.change([(slot, Event.JOINED)])
        if isinstance(message, Joined):
            if self.view.state(slot) is not SlotState.READY:
                self._expiry.pop(slot, None)
        elif isinstance(message, Ready):
            process.ready = True
            self._expiry.pop(slot, None)
            if slot in self.resting and self.view.state(slot) is SlotState.JOINING:
                self.change([(slot, Event.DRAINED)])
                self.announce(LeaveOrder(slot, exit=False))
            let_serve(self, self._gathering, self._now_s)  # before the answer: it is saved then
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
        process = self.processes[slot] = Process(pid, silent_from_s=self._now_s)
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

    def _end_silent(self, now_s: float) -> None:
        """Kill workers that hang, which frees their locks: nobody else can have what they own.

        Not a process that starts, which says nothing, nor one that owns nothing.
        """
        away_s = now_s - self._ticked_s
        self._ticked_s = now_s
        for slot, process in self.processes.items():
            if away_s > _AWAY_S:
                process.silent_from_s += away_s
            silent = now_s - process.silent_from_s > self._silence_s and not process.killed
            if silent and self.view.state(slot) in {SlotState.READY, SlotState.DRAINING}:
                process.killed = True
                self._effects.append(Kill(slot, process.pid))

    # -- Bookkeeping ------------------------------------------------------------------------

    def _replace_view(self, view: View) -> None:
        """Take the next view; its number grows by one, however many events led to it."""
        if view is not self.view:
            self.view = View(self.view.number + 1, self.epoch, view.slots, view.leaving)
            self._publish_view()

    def _publish_view(self) -> None:
        self._persist()
        self.announce(ViewChanged(self.view))

    def _persist(self) -> None:
        pids = {slot: process.pid for slot, process in self.processes.items()}
        saved = Saved(
            *(self.view, self.workers, pids, self.log_level),
            *(self.work, tuple(sorted(self.resting))),
        )
        self._effects.append(Persist(saved))

    def _persist_work(self) -> None:
        """Save the operation before its effects, so that another broker can go on with it."""
        work = msgspec.json.encode((self.work, sorted(self.resting)))
        if work != self._saved_work:
            self._saved_work = work
            self._persist()
            self._effects.insert(0, self._effects[-1])

    def _end(self, answer: Answer | None) -> None:
        """End the operation if there is an answer."""
        if isinstance(answer, Done | Refused):
            self.work = Work(self.work.id, None, answer)
            self._effects.append(Reply(self._operator, answer))

    def _settle(self) -> list[Effect]:
        before = -1
        while before != len(self._effects):
            before = len(self._effects)
            drain_surplus(self)
            let_serve(self, self._gathering, self._now_s)
            dismiss_drained(self)
            if self.operation is not None:
                self._end(self.operation.step(self, self._now_s))
        self._persist_work()
        effects, self._effects = self._effects, []
        return effects

    def _beat_due_s(self, now_s: float) -> float:
        lagging = self.acknowledged < self.sequence and now_s - self._announced_s < _LAGGING_S
        return self._beat_s + (HEARTBEAT_LAGGING_S if lagging else HEARTBEAT_S)

    def _heartbeat(self, now_s: float) -> Publish:
        self._beat_s = now_s
        return Publish(self.sequence, Heartbeat(self.acknowledged))
