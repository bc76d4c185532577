"""gunicorn's arbiter with slots and a broker: it starts what is missing and stops all in order.

It decides nothing about the fleet. How many slots there shall be is a number that the broker
writes (`RunDirectory.wanted`); the arbiter keeps one process in each of them, and the broker.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gunicorn.arbiter import Arbiter

from workers import broker
from workers.slots import lowest_free

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from workers.fleet import FleetApplication
    from workers.worker import FleetWorker

log = logging.getLogger("fs9.broker")

#: The broker is not started more often than this.
_BROKER_PAUSE_S = 0.5


def give_slot(arbiter: Arbiter, worker: FleetWorker) -> None:
    """gunicorn's `pre_fork` hook: the lowest slot without a process."""
    worker.slot = lowest_free(other.slot for other in arbiter.WORKERS.values())


class FleetArbiter(Arbiter):  # type: ignore[misc]
    """The first INT or TERM stops gracefully, the second at once."""

    _leaving = False
    _not_ready: int | None = None
    _broker: BrokerProcess | None = None

    def start(self) -> None:
        super().start()
        self._broker = BrokerProcess(self.app, self.LISTENERS)

    def manage_workers(self) -> None:
        """Start a process in each slot that has none; none is stopped here."""
        wanted = self.app.run_directory.wanted()
        if wanted is not None:
            self.num_workers = wanted
        present = {worker.slot for worker in self.WORKERS.values()}
        for slot in range(self.num_workers):
            if slot not in present:
                self.spawn_worker()

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        """Between the signals, watch the broker, and greet the person when all serve."""
        if self._broker is not None:
            self._broker.watch()
        if self._not_ready is None:
            self._not_ready = self.app.settings.workers
        if self._not_ready > 0:
            timeout = 0.05
            self._not_ready -= self.app.count_ready()
            if self._not_ready <= 0:
                sys.stdout.write(self.app.greeting())
                sys.stdout.flush()
                self.app.notifier.ready(f"{self.app.settings.workers} workers serve")
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
        """The broker has written another number of slots; `manage_workers` follows."""

    def stop(self, graceful: bool = True) -> None:
        self._leaving = True
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
        self._started_s = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            self._run()
        self._watched = os.pidfd_open(self.pid)

    def _run(self) -> None:
        """In the child: never returns."""
        for listener in self._listeners:
            listener.close()  # or connections would be accepted for as long as the broker lives
        status = 1
        try:
            broker.main(self._application.run_directory, self._application.settings.workers)
            status = 0
        except Exception:
            log.exception("the broker failed; it is started again")
        finally:
            os._exit(status)

    def watch(self) -> None:
        """Start it again if it is gone."""
        dead, _, _ = select.select([self._watched], [], [], 0)
        if dead and time.monotonic() - self._started_s > _BROKER_PAUSE_S:
            os.close(self._watched)
            self._start()

    def stop(self) -> None:
        """The arbiter is the last to leave: nobody needs the broker any more."""
        for number in (signal.SIGTERM, signal.SIGKILL):  # the second when it hangs
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
            if select.select([self._watched], [], [], 2.0)[0]:
                break
        # Else it stays a zombie where the host's first process is slow to see to orphans.
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
