"""The broker process: one loop around `router.control`, one for each host.

It is forked by the arbiter and can be killed at any time: workers go on serving with the view they
have, and the next broker goes on from the saved one. It tells the arbiter through a file how many
workers there must be, and learns of a worker's death from the kernel (pidfd_open(2)).
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from router.control import SILENCE_S, BrokerState
from router.effects import Kill, Persist, Publish, Renew, Reply, Saved, Watch, WriteWorkers
from router.messages import (
    Acknowledged,
    Drained,
    Joined,
    Ready,
    SnapshotRequest,
    Status,
    Told,
    UnknownMessage,
    decode_to_broker,
    encode,
)
from workers.bus import BusServer
from workers.parent import leave_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from router.effects import Effect
    from workers.slots import RunDirectory

log = logging.getLogger("fs9.broker")

#: Signals that the arbiter handles and the broker must not.
_FOREIGN_SIGNALS = (
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
    signal.SIGCHLD,
)


class Renewed(msgspec.Struct):
    """How the arbiter's reading of code and settings ended (`RunDirectory.renewed_file`)."""

    renewal: str
    error: str
    note: str


def main(
    run_directory: RunDirectory,
    workers: int,
    silence_s: float = SILENCE_S,
    wake_arbiter: Callable[[], None] = lambda: None,
    show_life: Callable[[], None] = lambda: None,
    parent: int | None = None,
) -> None:
    """Run the broker in this process until SIGTERM or the end of the arbiter.

    `workers` counts for a fleet that begins: one without a saved view. `silence_s`: a worker
    that says nothing for so long is killed. `wake_arbiter` makes it look at what is written
    for it; `show_life` is called every second at least. `parent` is the arbiter, if it is not
    whoever is the parent at this moment.
    """
    # The write end of a pipe wakes the loop, whatever it waits for.
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    leaving = False

    def leave(*_: object) -> None:
        nonlocal leaving
        leaving = True

    for number in _FOREIGN_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    # The terminal sends Ctrl-C, and its end, to every process; only the arbiter decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    leave_with(os.getppid() if parent is None else parent)
    broker = Broker(run_directory, workers, silence_s, wake_arbiter)
    broker.server.watch(wake_read)
    try:
        while not leaving:
            broker.step()
            show_life()
    finally:
        signal.set_wakeup_fd(-1)
        broker.close()
        os.close(wake_read)
        os.close(wake_write)


class Broker:
    """Delivers events to a `BrokerState` and performs its effects."""

    def __init__(
        self,
        run_directory: RunDirectory,
        workers: int,
        silence_s: float = SILENCE_S,
        wake_arbiter: Callable[[], None] = lambda: None,
    ) -> None:
        self._run_directory = run_directory
        self._wake_arbiter = wake_arbiter
        self._pidfds: dict[int, tuple[int, int]] = {}
        #: What could not be saved yet, and whether that was logged.
        self._unsaved: Saved | None = None
        self._complained = False
        saved = load(run_directory)
        self.state = BrokerState(secrets.token_hex(8), saved, workers, time.monotonic(), silence_s)
        self.server = BusServer(run_directory)
        self.do(self.state.start())

    def step(self, timeout_s: float = 1.0) -> None:
        """Wait for the next event or tick, and handle it."""
        state = self.state
        wait_s = state.next_tick_s(time.monotonic()) - time.monotonic()
        ready = self.server.poll(min(timeout_s, max(0.0, wait_s)))
        now_s = time.monotonic()
        for fd in ready:
            if fd in self._pidfds:
                self.do(state.on_died(*self._unwatch(fd), now_s))
        for client, data in self.server.received():
            self._receive(client, data, now_s)
        if state.renewal:
            self._look_for_renewed(now_s)
        self._save()
        if self.server.subscribed():
            self.do(state.on_subscribed(now_s))
        if now_s >= state.next_tick_s(now_s):
            self.do(state.on_tick(now_s))

    def _look_for_renewed(self, now_s: float) -> None:
        with suppress(FileNotFoundError):
            data = self._run_directory.renewed_file.read_bytes()
            said = msgspec.json.decode(data, type=Renewed)
            self.do(self.state.on_renewed(said.renewal, said.error, said.note, now_s))

    def _receive(self, client: bytes, data: bytes, now_s: float) -> None:
        try:
            envelope = decode_to_broker(data)
        except UnknownMessage as error:
            log.warning("the bus: %s", error)
            return
        message, state = envelope.message, self.state
        if isinstance(message, Acknowledged):
            self.do(state.on_acknowledged(message))
        elif isinstance(message, SnapshotRequest):
            self.do(state.on_snapshot_request(client, message))
        elif isinstance(message, Joined | Ready | Drained | Status | Told):
            epoch, number = envelope.epoch, envelope.sequence
            self.do(state.on_report(client, epoch, number, message, now_s))
        else:
            self.do(state.on_request(client, message, now_s))

    def do(self, effects: list[Effect]) -> None:
        told: list[Renew | WriteWorkers] = []
        for effect in effects:
            match effect:
                case Publish(sequence, message):
                    self.server.publish(encode(message, self.state.epoch, sequence))
                case Reply(client, message):
                    self.server.reply(client, encode(message, self.state.epoch))
                case Persist(saved):
                    self._unsaved = saved
                    self._save()
                case Watch(slot, pid):
                    self._watch(slot, pid)
                case WriteWorkers() | Renew():
                    told.append(effect)
                case Kill(slot, pid):
                    self._kill(slot, pid)
        for effect in told:  # last: what follows of it has later numbers on the bus
            self._tell_arbiter(effect)

    def _tell_arbiter(self, effect: WriteWorkers | Renew) -> None:
        """Write what the arbiter is to do; on a full disk the operator gets an error."""
        directory, now_s = self._run_directory, time.monotonic()
        if isinstance(effect, Renew):
            error = self._written(directory.renewal_file, effect.id.encode())
            if error:
                self.do(self.state.on_renewed(effect.id, error, "", now_s))
        else:
            error = self._written(directory.wanted_file, b"%d\n" % effect.workers)
            self.do(self.state.on_written(effect.workers, error, now_s))

    def _written(self, path: Path, data: bytes) -> str:
        """Write it and wake the arbiter; returns the error as text, or an empty one."""
        try:
            replace_file(path, data)
        except OSError as error:
            return f"{path} cannot be written ({error.strerror}): make room and try again"
        self._wake_arbiter()
        return ""

    def _save(self) -> None:
        """Save the state, if need be again at the next step: on a full disk the fleet goes on."""
        if self._unsaved is None:
            return
        try:
            replace_file(self._run_directory.view_file, msgspec.json.encode(self._unsaved))
        except OSError as error:
            if not self._complained:
                log.error("the view of the fleet cannot be saved, and is tried again: %s", error)
            self._complained = True
        else:
            self._unsaved, self._complained = None, False

    def _kill(self, slot: int, pid: int) -> None:
        """Kill by pidfd, so that no other process is hit."""
        for fd, process in self._pidfds.items():
            if process == (slot, pid):
                log.error("slot %d (process %d) does not answer any more: killed", slot, pid)
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)

    def _watch(self, slot: int, pid: int) -> None:
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            self.do(self.state.on_died(slot, pid, time.monotonic()))
            return
        self._pidfds[fd] = (slot, pid)
        self.server.watch(fd)

    def _unwatch(self, fd: int) -> tuple[int, int]:
        self.server.unwatch(fd)
        os.close(fd)
        return self._pidfds.pop(fd)

    def close(self) -> None:
        for fd in list(self._pidfds):
            self._unwatch(fd)
        self.server.close()


def load(run_directory: RunDirectory) -> Saved | None:
    """The state that an earlier broker saved; None when there is none that can be read."""
    with suppress(FileNotFoundError):
        data = run_directory.view_file.read_bytes()
        try:
            return msgspec.json.decode(data, type=Saved)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("the saved view cannot be read, a new one is made: %s", error)
    return None


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file atomically, for readers; it need not survive a loss of power."""
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(data)
    new.replace(path)
