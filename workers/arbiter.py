"""gunicorn's arbiter with slots and a broker: starts missing processes, and stops all in order.

It decides nothing about the fleet. The broker writes how many slots there must be
(`RunDirectory.wanted`); the arbiter keeps one process running in each of them, and the broker. When
the broker asks for it, it loads new code and settings while it goes on running (`workers.renewal`).
"""

from __future__ import annotations

import gc
import logging
import math
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers.workertmp import WorkerTmp

from router.ring import prepare as prepare_ring
from workers import broker
from workers.renewal import Handover, KeptWorker, Rehearsal, command_line, environment
from workers.scheduling import compete, giving_way

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from types import FrameType

    from gunicorn.config import Config

    from workers.fleet import FleetApplication
    from workers.worker import FleetWorker

log = logging.getLogger("fs9.broker")

#: The broker is not started more often than this.
_BROKER_PAUSE_S = 0.5
#: A broker that shows no sign of life for this long hangs.
_BROKER_SILENCE_S = 10.0
#: Processes are checked about every second; a longer pause is the arbiter's own, not theirs.
_LOOK_PAUSE_MAX_S = 2.0
#: After such a pause, the time that workers get to show that they live.
_WAKING_S = 10.0
_SIGNS_MAX = 64 * 1024
#: Processes of one slot are not started more often: one that cannot start would be forked
#: without end.
_WORKER_PAUSE_S = 0.5
#: The longest that a process gives way, whether it serves by then or not: on a busy host it would
#: hardly get on. Before its slot leaves the view (`REJOIN_GRACE_S`), and its namespaces move.
_GIVES_WAY_MAX_S = 1.0
#: While others serve, so many may be starting; more wait until one of these is ready or has ended.
STARTING_MAX = max(8, 2 * (os.cpu_count() or 1))


def give_slot(arbiter: FleetArbiter, worker: FleetWorker) -> None:
    """gunicorn's `pre_fork` hook."""
    worker.slot = arbiter.slot_to_fill
    worker.others_serve = arbiter.is_serving
    worker.usual_nice = arbiter.usual_nice


class FleetLogger(Logger):  # type: ignore[misc]
    """gunicorn's logger without a stream and a format of its own: its lines go where ours do."""

    def setup(self, cfg: Config) -> None:
        self.cfg = cfg
        self.error_log.setLevel(logging.WARNING)
        self.error_log.propagate = True


class _KeptSign(WorkerTmp):  # type: ignore[misc]
    """The file by which a worker shows gunicorn that it lives."""

    def __init__(self, fd: int) -> None:
        self._tmp = os.fdopen(fd, "w+b", 0)


class _Kept:
    """A worker that an earlier program of this process has forked, as gunicorn sees workers."""

    aborted = False

    def __init__(self, kept: KeptWorker) -> None:
        self.pid, self.slot, self.age = kept.pid, kept.slot, kept.age
        os.set_inheritable(kept.watch_fd, False)
        self.tmp = _KeptSign(kept.watch_fd)


class FleetArbiter(Arbiter):  # type: ignore[misc]
    """The first INT or TERM stops gracefully, the second at once."""

    _leaving = False
    _not_ready: int | None = None
    _broker: BrokerProcess | None = None
    _rehearsal: Rehearsal | None = None
    #: The renewal that was done, or tried, last.
    _renewal = ""
    #: Its result, if the broker could not be told yet.
    _untold: broker.Renewed | None = None
    #: Of the process that is about to be forked.
    slot_to_fill = 0
    #: While it gives way to processes that serve, and what it forks does: its nice value otherwise.
    usual_nice: int | None = None
    #: Is a slot without a process because its last one was started just now?
    _is_held_back = False
    #: When it was last looked which workers hang, and until when none is taken to hang.
    _looked_s: float | None = None
    _waking_until_s = 0.0

    def __init__(self, app: FleetApplication) -> None:
        self._started_s: dict[int, float] = {}
        #: Processes that give way, and until when at the latest.
        self._give_way: dict[int, float] = {}
        #: Processes that have not become ready yet; some of them may have ended.
        self._starting: set[int] = set()
        super().__init__(app)

    def start(self) -> None:
        self.app.load()
        # Else the first collection in each child would copy all pages that it shares with us.
        gc.collect()
        gc.freeze()
        handover: Handover | None = self.app.handover
        if handover is not None:
            self.WORKERS = {kept.pid: _Kept(kept) for kept in handover.workers}
            self.worker_age = max((kept.age for kept in handover.workers), default=0)
            self._not_ready = 0
        super().start()
        if handover is None:
            self._broker = BrokerProcess(self.app, self.LISTENERS)
            return
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._held_back())
        end_process(handover.broker_pid, os.pidfd_open(handover.broker_pid))
        self._broker = BrokerProcess(self.app, self.LISTENERS)
        self._tell_renewed(broker.Renewed(handover.renewal, "", handover.note))

    @property
    def is_serving(self) -> bool:
        """Has every worker been ready once?"""
        return self._not_ready is not None and self._not_ready <= 0

    def manage_workers(self) -> None:
        """Start a process in each slot that has none; none is stopped here."""
        wanted = self.app.run_directory.wanted()
        if wanted is not None:
            self.num_workers = wanted
            prepare_ring(range(wanted))
        present = {worker.slot for worker in self.WORKERS.values()}
        now_s = time.monotonic()
        self._is_held_back = False
        self._starting.intersection_update(self.WORKERS)
        for slot in range(self.num_workers):
            if slot in present:
                continue
            if now_s - self._started_s.get(slot, -_WORKER_PAUSE_S) < _WORKER_PAUSE_S:
                self._is_held_back = True
                continue
            if self.is_serving and len(self._starting) >= STARTING_MAX:
                self._is_held_back = True
                break
            self._started_s[slot] = now_s
            self.slot_to_fill = slot
            try:
                self._starting.add(self.spawn_worker())
            except OSError as error:  # the host has no room for one more; it may have later
                log.error("slot %d: no process can be started: %s", slot, error.strerror)
                self._is_held_back = True
                break

    def note_ready(self, pids: Collection[int]) -> None:
        """These processes serve from now on."""
        self._starting.difference_update(pids)
        if self._not_ready:
            self._not_ready = max(0, self._not_ready - len(pids))

    def spawn_worker(self) -> int:
        if not self.is_serving:
            return int(super().spawn_worker())
        until_s = time.monotonic() + _GIVES_WAY_MAX_S
        with giving_way() as self.usual_nice:
            pid = int(super().spawn_worker())
        if self.usual_nice is not None:
            self._give_way[pid] = until_s
        return pid

    def end_giving_way(self) -> float:
        """Those that have given way for long enough compete; seconds until the next one has.

        Some do already: they serve (`FleetWorker`).
        """
        now_s = time.monotonic()
        for pid, until_s in list(self._give_way.items()):
            if until_s <= now_s:
                del self._give_way[pid]
                if self.usual_nice is not None and pid in self.WORKERS:
                    compete(self.usual_nice, pid)
        return min(self._give_way.values(), default=math.inf) - now_s

    def murder_workers(self) -> None:
        """End workers that hang; time in which the arbiter itself stood still does not count.

        When a container or a virtual machine was paused, the workers stood still as well.
        """
        now_s = time.monotonic()
        if self._looked_s is not None and now_s - self._looked_s > _LOOK_PAUSE_MAX_S:
            self._waking_until_s = now_s + _WAKING_S
        self._looked_s = now_s
        if now_s >= self._waking_until_s:
            super().murder_workers()

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        """Between signals, watch the broker, and print the greeting when all workers serve."""
        if self._broker is not None:
            self._broker.watch()
        if self._not_ready is None:
            self._not_ready = self.app.settings.workers
        was_serving = self.is_serving
        self.note_ready(self.app.ready_pids())
        if not was_serving:
            timeout = 0.05
            if self.is_serving:
                sys.stdout.write(self.app.greeting())
                sys.stdout.flush()
                self.app.notifier.ready(f"{self.app.settings.workers} workers serve")
        if self._rehearsal is not None:
            timeout = 0.05
            self._renew()
        if self._untold is not None:
            self._tell_renewed(self._untold)
        if self._is_held_back:
            timeout = 0.05
        timeout = min(timeout, self.end_giving_way())
        signals: list[int] = super().wait_for_signals(timeout)
        return signals

    def signal(self, sig: int, frame: FrameType | None) -> None:
        if sig in {signal.SIGTERM, signal.SIGINT}:
            sig = signal.SIGQUIT if self._leaving else signal.SIGTERM
            if not self._leaving:
                self.app.notifier.stopping()
            self._leaving = True
        super().signal(sig, frame)

    def handle_hup(self) -> None:
        """The broker has written something for the arbiter; `manage_workers` applies the number."""
        renewal = self.app.run_directory.renewal()
        if renewal and renewal != self._renewal and not self._leaving:
            if self._rehearsal is not None:
                self._rehearsal.close()
            self._renewal, self._rehearsal = renewal, None
            try:
                self._rehearsal = Rehearsal(renewal, self.app.settings, self.app.environ)
            except OSError as failure:  # no room for one more process
                error = f"code and settings cannot be tried: {failure.strerror}"
                self._tell_renewed(broker.Renewed(renewal, error, ""))

    def handle_ttin(self) -> None:
        """Ignored: gunicorn would change the number of workers, which the broker decides."""

    handle_ttou = handle_ttin

    def handle_usr2(self) -> None:
        """Ignored: gunicorn would start a second arbiter; `fs9 fleet reload` brings new code."""

    def _renew(self) -> None:
        """Go on with what is being tried; returns unless this program ends here."""
        rehearsal = self._rehearsal
        verdict = rehearsal.poll() if rehearsal is not None else None
        if rehearsal is None or verdict is None:
            return
        error = verdict.error
        if not error:
            # What comes now is for the next program.
            signal.pthread_sigmask(signal.SIG_BLOCK, self._held_back())
            try:
                if self._leaving or not self.SIG_QUEUE.empty():
                    return  # that first
                self._become(rehearsal, verdict.note)
            except OSError as failure:
                error = f"the program on disk does not start: {failure}"
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, self._held_back())
        self._rehearsal = None
        rehearsal.close()
        self._tell_renewed(broker.Renewed(rehearsal.renewal, error, ""))

    def _become(self, rehearsal: Rehearsal, note: str) -> None:
        """Replace the program; does not return. Raises OSError."""
        assert self._broker is not None
        workers = [
            KeptWorker(pid, worker.slot, worker.age, worker.tmp.fileno())
            for pid, worker in self.WORKERS.items()
        ]
        handover = Handover(
            renewal=rehearsal.renewal,
            note=note,
            settings_fd=rehearsal.settings_fd,
            listener_fd=self.LISTENERS[0].fileno(),
            lock_fd=self.app.lock_fd,
            broker_pid=self._broker.pid,
            notify_socket=self.app.notify_socket,
            workers=workers,
        )
        kept = [handover.settings_fd, handover.listener_fd, handover.lock_fd]
        for fd in [*kept, *(worker.watch_fd for worker in workers)]:
            os.set_inheritable(fd, True)
        os.execve(sys.executable, command_line(), environment(handover, self.app.environ))

    def _held_back(self) -> list[int]:
        return [*self.SIGNALS, signal.SIGCHLD]

    def _tell_renewed(self, said: broker.Renewed) -> None:
        """Tell the broker the result, or try again later: on a full disk the fleet goes on."""
        self._renewal = said.renewal
        path = self.app.run_directory.renewed_file
        try:
            broker.replace_file(path, msgspec.json.encode(said))
        except OSError as error:
            if said is not self._untold:
                log.error("%s cannot be written, and is tried again: %s", path, error.strerror)
            self._untold = said
        else:
            self._untold = None

    def stop(self, graceful: bool = True) -> None:
        self._leaving = True
        if self._rehearsal is not None:
            self._rehearsal.close()
        super().stop(graceful)
        if self._broker is not None:
            self._broker.stop()


class BrokerProcess:
    """The broker as a child of the arbiter; started again when it dies."""

    def __init__(self, application: FleetApplication, listeners: Sequence[Any]) -> None:
        self._application = application
        self._listeners = listeners
        self._start()

    def _start(self) -> None:
        self._started_s = self._looked_s = time.monotonic()
        self._silent_s = 0.0
        life, show = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        arbiter = os.getpid()
        try:
            self.pid = os.fork()
            if self.pid == 0:
                self._run(show, arbiter)
        except OSError:
            os.close(life)
            raise
        finally:
            os.close(show)
        self._life, self._watched = life, os.pidfd_open(self.pid)

    def _run(self, show: int, arbiter: int) -> None:
        """In the child: never returns."""
        for listener in self._listeners:
            listener.close()  # or connections would be accepted for as long as the broker lives
        status = 1
        try:
            settings = self._application.settings
            silence_s = settings.limits.worker_silence_s
            directory = self._application.run_directory
            broker.main(
                directory,
                settings.workers,
                silence_s,
                _wake_parent,
                lambda: _write_sign(show),
                arbiter,
            )
            status = 0
        except Exception:
            log.exception("the broker failed; it is started again")
        finally:
            os._exit(status)

    def watch(self) -> None:
        """Start it again if it is gone, and end it if it hangs."""
        if not _has_ended(self._watched, 0):
            self._end_silent()
        elif time.monotonic() - self._started_s > _BROKER_PAUSE_S:
            old = self._watched, self._life
            try:
                self._start()
            except OSError as error:
                log.error("no broker can be started: %s", error.strerror)
            else:
                for fd in old:
                    os.close(fd)

    def _end_silent(self) -> None:
        now_s = time.monotonic()
        self._silent_s += min(now_s - self._looked_s, _LOOK_PAUSE_MAX_S)
        self._looked_s = now_s
        with suppress(BlockingIOError):
            if os.read(self._life, _SIGNS_MAX):
                self._silent_s = 0.0
        if self._silent_s > _BROKER_SILENCE_S:
            self._silent_s = 0.0
            log.error("the broker (process %d) does not answer any more: killed", self.pid)
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._watched, signal.SIGKILL)

    def stop(self) -> None:
        """End the broker. The arbiter leaves last, so nobody needs it any more."""
        end_process(self.pid, self._watched)


def _write_sign(show: int) -> None:
    with suppress(OSError):  # enough are unread, or the arbiter is about to begin anew
        os.write(show, b"\n")


def _wake_parent() -> None:
    os.kill(os.getppid(), signal.SIGHUP)


def _has_ended(watched: int, wait_ms: int) -> bool:
    """Has the process of this pidfd ended, now or in so long? (select(2) ends at 1,024 files.)"""
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    return bool(poll.poll(wait_ms))


def end_process(pid: int, watched: int) -> None:
    """End a child, by force if necessary; `watched` is its pidfd."""
    for number in (signal.SIGTERM, signal.SIGKILL):  # the second when it hangs
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if _has_ended(watched, 2000):
            break
    # Else it stays a zombie where the host's first process is slow to see to orphans.
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    os.close(watched)
