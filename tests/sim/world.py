"""A fleet in one process and in virtual time: the real broker state, subscriber and ring.

What is simulated is the rest: a network that loses, doubles and reorders; workers that follow
views late, hold locks, pause and die; an arbiter that replaces them; a broker that is killed
and goes on from what it saved; an operator. Everything follows from one seed.
"""

from __future__ import annotations

import functools
import heapq
import random
from typing import TYPE_CHECKING

import msgspec

from router.control import BrokerState
from router.effects import Kill, Persist, Publish, Renew, Reply, Saved, Watch, WriteWorkers
from router.messages import (
    Acknowledged,
    Drained,
    DrainRequest,
    Introduce,
    Joined,
    LeaveOrder,
    Ready,
    Received,
    ReloadRequest,
    ReturnOrder,
    ScaleRequest,
    Snapshot,
    SnapshotRequest,
    Status,
    Told,
    UndrainRequest,
    ViewChanged,
    decode_from_broker,
    decode_to_broker,
    encode,
)
from router.ring import Ring
from router.subscriber import Adopt, Deliver, Reporter, Send, Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.effects import Effect
    from router.messages import Announcement, FromBroker, Request
    from router.subscriber import Output
    from router.view import View

NAMESPACES = [f"tenant-{number}" for number in range(10)]
SLOTS_MAX = 5
HOPS_MAX = 8
_LOCK_RETRY_S = 0.02
_TICK_S = 0.1
_STATUS_S = 1.0
_SILENCE_S = 2.5

ring_of = functools.lru_cache(maxsize=None)(Ring)


class World:
    """The clock, the network, the locks and the arbiter."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_s = 0.0
        self.chaos = True
        self.loss = self.random.choice((0.0, 0.05, 0.3))
        self.doubling = self.random.choice((0.0, 0.1))
        self.delay_s = self.random.choice((0.002, 0.02, 0.15))
        self._queue: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = 0
        self.pids = 0
        self.wanted = self.random.randint(2, 4)
        #: Kept by the kernel: freed at the death of the process.
        self.locks: dict[str, Worker] = {}
        self.workers: dict[int, Worker] = {}
        self.served: list[tuple[str, int, int]] = []
        self.answers: dict[bytes, list[FromBroker]] = {}
        self.broker = Broker(self)
        for slot in range(self.wanted):
            self.spawn(slot)

    # -- Time and network -------------------------------------------------------------------

    def later(self, delay_s: float, do: Callable[..., None], *args: object) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now_s + delay_s, self._count, do, args))

    def run_until(self, end_s: float) -> None:
        queue = self._queue
        while queue and queue[0][0] <= end_s:
            self.now_s, _, do, args = heapq.heappop(queue)
            do(*args)
            self.check_locks()
        self.now_s = end_s

    def carry(self, do: Callable[..., None], *args: object) -> None:
        """Deliver a message, or not, or twice, some time."""
        if not self.chaos:
            self.later(self.random.uniform(0.0005, 0.002), do, *args)
            return
        if self.random.random() < self.loss:
            return
        self.later(self.random.uniform(0.0005, self.delay_s), do, *args)
        if self.random.random() < self.doubling:
            self.later(self.random.uniform(0.0005, self.delay_s), do, *args)

    # -- Invariants -------------------------------------------------------------------------

    def check_locks(self) -> None:
        for worker in self.workers.values():
            for name in worker.loaded:
                assert self.locks.get(name) is worker, f"{name} is served without its lock"

    # -- Arbiter ----------------------------------------------------------------------------

    def spawn(self, slot: int) -> None:
        if slot < self.wanted and slot not in self.workers:
            self.workers[slot] = Worker(self, slot)

    def ended(self, worker: Worker) -> None:
        """The process is gone, whatever the reason."""
        del self.workers[worker.slot]
        worker.alive = False
        worker.loaded.clear()
        for name in [name for name, holder in self.locks.items() if holder is worker]:
            del self.locks[name]
        self.later(self.random.uniform(0.0, 0.005), self.broker.died, worker.slot, worker.pid)
        slow = self.chaos and self.random.random() < 0.1
        self.later(self.random.uniform(2.5, 3.0) if slow else 0.05, self.spawn, worker.slot)

    def scale(self, workers: int) -> None:
        self.wanted = workers
        for slot in range(workers):
            self.later(0.05, self.spawn, slot)


class Broker:
    """The broker process: alive, or being started again."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.saved: Saved | None = None
        self.state: BrokerState | None = None
        self.starts = 0
        self.start()

    def start(self) -> None:
        world = self.world
        self.starts += 1
        saved = self.saved
        if saved is not None:
            saved = msgspec.json.decode(msgspec.json.encode(saved), type=Saved)
        epoch = f"epoch-{self.starts}"
        self.state = BrokerState(epoch, saved, world.wanted, world.now_s, _SILENCE_S)
        self.do(self.state.start())
        world.later(0.0, self.tick, self.state)

    def kill(self) -> None:
        if self.state is not None:
            self.state = None
            self.world.later(self.world.random.uniform(0.05, 0.6), self.start)

    def tick(self, state: BrokerState) -> None:
        if state is self.state:
            now_s = self.world.now_s
            self.do(state.on_tick(now_s))
            self.world.later(max(0.01, state.next_tick_s(now_s) - now_s), self.tick, state)

    def died(self, slot: int, pid: int) -> None:
        """What pidfd tells; only about those that are watched."""
        if self.state is not None:
            self.do(self.state.on_died(slot, pid, self.world.now_s))

    def receive(self, client: bytes, data: bytes) -> None:
        state, now_s = self.state, self.world.now_s
        if state is None:
            return
        envelope = decode_to_broker(data)
        message = envelope.message
        if isinstance(message, Acknowledged):
            self.do(state.on_acknowledged(message))
        elif isinstance(message, SnapshotRequest):
            self.do(state.on_snapshot_request(client, message))
        elif isinstance(message, Joined | Ready | Drained | Status | Told):
            report = (envelope.epoch, envelope.sequence, message)
            self.do(state.on_report(client, *report, now_s))
        else:
            self.do(state.on_request(client, message, now_s))

    def do(self, effects: list[Effect]) -> None:
        assert self.state is not None
        world, written = self.world, []
        for effect in effects:
            match effect:
                case Publish(sequence, message):
                    self.publish(encode(message, self.state.epoch, sequence))
                case Reply(client, message):
                    self.reply(client, encode(message, self.state.epoch))
                case Persist(saved):
                    self.saved = saved
                case WriteWorkers(workers):
                    error = (
                        "the disk is full" if world.chaos and world.random.random() < 0.2 else ""
                    )
                    written.append((workers, error))
                    if not error:
                        world.scale(workers)
                case Renew(renewal):
                    world.later(world.random.uniform(0.05, 0.5), self.renew, renewal)
                case Kill(slot, pid):
                    hanging = world.workers.get(slot)
                    if hanging is not None and hanging.pid == pid:
                        world.ended(hanging)
                case Watch(slot, pid):
                    present = world.workers.get(slot)
                    if present is None or present.pid != pid:
                        world.later(0.0, self.died, slot, pid)
        for workers, error in written:
            self.do(self.state.on_written(workers, error, world.now_s))

    def renew(self, renewal: str) -> None:
        """The arbiter starts anew, and a broker with it, who hears how it went."""
        error = "cannot be used" if self.world.random.random() < 0.2 else ""
        if not error:
            self.kill()
        self.world.later(0.7, self.renewed, renewal, error)

    def renewed(self, renewal: str, error: str) -> None:
        if self.state is None:
            self.world.later(0.1, self.renewed, renewal, error)
        else:
            self.do(self.state.on_renewed(renewal, error, "", self.world.now_s))

    def publish(self, data: bytes) -> None:
        envelope = decode_from_broker(data)
        for worker in self.world.workers.values():
            self.world.carry(worker.hear, envelope.epoch, envelope.sequence, envelope.message)

    def reply(self, client: bytes, data: bytes) -> None:
        envelope = decode_from_broker(data)
        if client in self.world.answers:
            self.world.answers[client].append(envelope.message)
            return
        for worker in self.world.workers.values():
            if worker.client == client:
                self.world.carry(worker.hear, envelope.epoch, envelope.sequence, envelope.message)


class Worker:
    """A worker process as `workers.lifecycle` makes one."""

    def __init__(self, world: World, slot: int) -> None:
        world.pids += 1
        self.world, self.slot, self.pid = world, slot, world.pids
        self.client = b"worker-%d" % self.pid
        self.alive = True
        self.paused_until_s = 0.0
        self.subscriber = Subscriber(slot, self.pid)
        self.reporter = Reporter()
        self.view: View | None = None
        self.loaded: set[str] = set()
        self.leaving = False
        self.ready = False
        self.announced: list[tuple[str, int]] = []
        self.do(self.reporter.report(Joined(slot, self.pid), world.now_s))
        world.later(world.random.uniform(0.01, _TICK_S), self.tick)
        world.later(_STATUS_S, self.report_status)

    # -- Processor time ---------------------------------------------------------------------

    def awake(self, do: Callable[..., None], *args: object) -> bool:
        """False: not now, but after the pause; and never when it is dead."""
        if not self.alive:
            return False
        if self.world.now_s < self.paused_until_s:
            self.world.later(self.paused_until_s - self.world.now_s, do, *args)
            return False
        return True

    def tick(self) -> None:
        if self.awake(self.tick):
            now_s = self.world.now_s
            self.do(self.subscriber.on_tick(now_s))
            self.do(self.reporter.on_tick(now_s))
            self.world.later(_TICK_S, self.tick)

    def report_status(self) -> None:
        if self.awake(self.report_status):
            self.do(self.reporter.report(Status(self.slot, self.pid), self.world.now_s))
            self.world.later(_STATUS_S, self.report_status)

    # -- The bus ----------------------------------------------------------------------------

    def hear(self, epoch: str, sequence: int, message: FromBroker) -> None:
        if not self.awake(self.hear, epoch, sequence, message):
            return
        now_s = self.world.now_s
        if isinstance(message, Received):
            self.reporter.on_received(epoch, message.number)
        elif isinstance(message, Introduce):
            self.do(self.reporter.on_introduce(epoch, now_s))
        elif isinstance(message, Snapshot):
            self.do(self.subscriber.on_snapshot(epoch, message, now_s))
        else:
            self.do(self.subscriber.on_announcement(epoch, sequence, message, now_s))
        self.do(self.reporter.on_broker(self.subscriber.epoch, now_s))

    def do(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Send(message, epoch, number):
                    data = encode(message, epoch, number)
                    self.world.carry(self.world.broker.receive, self.client, data)
                case Adopt(view, _):
                    self.follow_later(view)
                case Deliver(message):
                    self.follow_order(message)

    def follow_order(self, message: Announcement) -> None:
        match message:
            case ViewChanged(view):
                self.follow_later(view)
            case LeaveOrder(slot, exits, _) if slot == self.slot:
                assert self.subscriber.view is not None
                self.leave(self.subscriber.view.number, exits)
            case ReturnOrder(slot) if slot == self.slot:
                self.do(self.reporter.report(Ready(self.slot, self.pid), self.world.now_s))
            case _:
                pass

    def follow_later(self, view: View) -> None:
        slow_s = 0.3 if self.world.chaos else 0.01
        self.world.later(self.world.random.uniform(0, slow_s), self.follow, view)

    def follow(self, view: View) -> None:
        if not self.awake(self.follow, view):
            return
        if self.view is not None and view.number <= self.view.number:
            return
        first = self.view is None
        self.view = view
        for name in sorted(self.loaded - self.mine()):
            self.world.later(self.world.random.uniform(0, 0.2), self.give_up, name)
        if first:
            self.ready = True
            self.do(self.reporter.report(Ready(self.slot, self.pid), self.world.now_s))

    def owner(self, name: str) -> int | None:
        assert self.view is not None
        return ring_of(self.view.serving).owner(name) if self.view.serving else None

    def mine(self) -> set[str]:
        return {name for name in self.loaded if self.owner(name) == self.slot}

    def give_up(self, name: str) -> None:
        """What was in progress has ended; unless a newer view has given the namespace back."""
        if self.awake(self.give_up, name) and name in self.loaded - self.mine():
            self.loaded.remove(name)
            del self.world.locks[name]

    def leave(self, number: int, exits: bool) -> None:
        """When the view that asks for it is followed and nothing is left: say so, and go."""
        if not self.awake(self.leave, number, exits):
            return
        followed = self.view is not None and self.view.number >= number
        if not followed or self.loaded - self.mine():
            self.world.later(0.02, self.leave, number, exits)
            return
        known = self.subscriber.view.number if self.subscriber.view else 0
        report = Drained(self.slot, self.pid, known)
        self.do(self.reporter.report(report, self.world.now_s))
        if exits:
            self.exit_when_told(self.world.now_s + 1.0)

    def exit_when_told(self, deadline_s: float) -> None:
        if self.awake(self.exit_when_told, deadline_s):
            if self.reporter.outstanding and self.world.now_s < deadline_s:
                self.world.later(0.02, self.exit_when_told, deadline_s)
            else:
                self.world.ended(self)

    # -- Requests ---------------------------------------------------------------------------

    def serve(self, name: str, hops: int, deadline_s: float) -> None:
        if not self.awake(self.serve, name, hops, deadline_s) or self.world.now_s > deadline_s:
            return
        world = self.world
        owner = self.owner(name) if self.ready else None
        if owner is not None and owner != self.slot:
            other = world.workers.get(owner)
            if other is not None and hops < HOPS_MAX:
                world.later(0.0005, other.serve, name, hops + 1, deadline_s)
                return
        if owner == self.slot and world.locks.setdefault(name, self) is self:
            self.loaded.add(name)
            world.served.append((name, self.slot, hops))
            return
        # The owner is being replaced, or has not let go yet.
        world.later(_LOCK_RETRY_S, self.serve, name, hops, deadline_s)


class Chaos:
    """The bad minutes: who dies, who stops, what the operator wants."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked = 0
        world.later(0.3, self.strike)
        world.later(0.01, self.request)

    def request(self) -> None:
        world = self.world
        if world.workers and world.chaos:
            entry = world.random.choice(list(world.workers.values()))
            name = world.random.choice(NAMESPACES)
            world.later(0.0, entry.serve, name, 0, world.now_s + 3.0)
            world.later(world.random.uniform(0.01, 0.06), self.request)

    def strike(self) -> None:
        world, dice = self.world, self.world.random
        if not world.chaos:
            return
        kind = dice.choice(("kill", "kill", "pause", "broker", "operator", "operator"))
        worker = dice.choice(list(world.workers.values())) if world.workers else None
        if kind == "broker":
            world.broker.kill()
        elif kind == "operator":
            self.ask(self.wish())
        elif worker is not None and kind == "kill":
            world.ended(worker)
        elif worker is not None:
            worker.paused_until_s = world.now_s + dice.uniform(0.05, 3.0)
        world.later(dice.uniform(0.05, 0.8), self.strike)

    def wish(self) -> Request:
        dice = self.world.random
        slot, deadline_s = dice.randrange(SLOTS_MAX), dice.uniform(0.2, 2.0)
        wishes: list[Request] = [
            DrainRequest(slot, deadline_s),
            UndrainRequest(slot),
            ReloadRequest(deadline_s),
            ScaleRequest(dice.randint(1, SLOTS_MAX), deadline_s),
        ]
        return dice.choice(wishes)

    def ask(self, request: Request) -> None:
        self.asked += 1
        client = b"operator-%d" % self.asked
        self.world.answers[client] = []
        self.world.later(0.001, self.world.broker.receive, client, encode(request))
