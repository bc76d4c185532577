"""The arbiter keeps a process in each slot, also on a host that has no room for one now."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from workers.arbiter import FleetArbiter, give_slot


class Arbiter(FleetArbiter):
    """What `manage_workers` needs; `forks` says what becomes of each attempt to fork."""

    def __init__(self, *forks: OSError | None) -> None:
        self._started_s = {}
        self.forks = list(forks)
        self.WORKERS = {}
        self._num_workers = 3
        self.app = SimpleNamespace(run_directory=SimpleNamespace(wanted=lambda: None))

    def spawn_worker(self) -> None:
        worker: Any = SimpleNamespace(slot=None)
        give_slot(self, worker)
        failure = self.forks.pop(0)
        if failure is not None:
            raise failure
        self.WORKERS[max(self.WORKERS, default=0) + 1] = worker

    @property
    def slots(self) -> list[int]:
        return sorted(worker.slot for worker in self.WORKERS.values())


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [100.0]
    monkeypatch.setattr("workers.arbiter.time", SimpleNamespace(monotonic=lambda: time[0]))
    return time


def test_a_fork_that_fails_is_tried_again_and_the_others_serve_on(
    now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    arbiter = Arbiter(None, OSError(errno.EAGAIN, "Resource temporarily unavailable"), None, None)
    arbiter.manage_workers()
    assert arbiter.slots == [0]
    assert "slot 1: no process can be started: Resource temporarily unavailable" in caplog.text
    now[0] += 1.0
    arbiter.manage_workers()
    assert arbiter.slots == [0, 1, 2]


def test_one_that_ends_at_once_is_not_started_again_at_once(now: list[float]) -> None:
    """But another slot's is, and one that has lived for a while."""
    arbiter = Arbiter(*[None] * 9)
    arbiter.manage_workers()
    del arbiter.WORKERS[2]
    arbiter.manage_workers()
    assert arbiter.slots == [0, 2]
    arbiter._num_workers = 4
    arbiter.manage_workers()
    assert arbiter.slots == [0, 2, 3]
    now[0] += 1.0
    arbiter.manage_workers()
    assert arbiter.slots == [0, 1, 2, 3]
    now[0] += 1.0
    del arbiter.WORKERS[1]
    arbiter.manage_workers()
    assert arbiter.slots == [0, 1, 2, 3]
