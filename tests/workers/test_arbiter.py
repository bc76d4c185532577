"""The arbiter keeps a process in each slot, also on a host that has no room for one now."""

from __future__ import annotations

import errno
import logging
import math
import os
import signal
import subprocess
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from workers.arbiter import BrokerProcess, FleetArbiter, give_slot
from workers.broker import Renewed
from workers.slots import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Arbiter(FleetArbiter):
    """What `manage_workers` needs; `forks` says what becomes of each attempt to fork."""

    def __init__(self, *forks: OSError | None) -> None:
        self._started_s = {}
        self._give_way = {}
        self.forks = list(forks)
        self.WORKERS = {}
        self._starting = set()
        self._num_workers = 3
        self.app = SimpleNamespace(run_directory=SimpleNamespace(wanted=lambda: None))
        self.cfg = SimpleNamespace(nworkers_changed=lambda *numbers: None)

    def spawn_worker(self) -> int:
        worker: Any = SimpleNamespace(slot=None)
        give_slot(self, worker)
        failure = self.forks.pop(0)
        if failure is not None:
            raise failure
        pid = max(self.WORKERS, default=0) + 1
        self.WORKERS[pid] = worker
        return pid

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


def test_who_takes_anothers_place_is_told_that_others_serve(now: list[float]) -> None:
    """It starts in steps then, which the first ones need not."""
    arbiter = Arbiter(*[None] * 4)
    arbiter.manage_workers()
    arbiter._not_ready = 0
    del arbiter.WORKERS[2]
    now[0] += 1.0
    arbiter.manage_workers()
    assert sorted((each.slot, each.others_serve) for each in arbiter.WORKERS.values()) == [
        *((0, False), (1, True), (2, False))
    ]


def test_who_gives_way_does_so_for_a_bounded_time(
    now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it gets no further: on a busy host it would hardly be given any time."""
    competing: list[tuple[int, int]] = []
    monkeypatch.setattr("workers.arbiter.compete", lambda nice, pid: competing.append((pid, nice)))
    monkeypatch.setattr("workers.arbiter.giving_way", lambda: nullcontext(3))
    monkeypatch.setattr("gunicorn.arbiter.Arbiter.spawn_worker", lambda self: 7)
    arbiter = Arbiter()
    arbiter._not_ready = 0
    arbiter.WORKERS = {7: SimpleNamespace(slot=0)}
    assert FleetArbiter.spawn_worker(arbiter) == 7
    assert arbiter.end_giving_way() == 1.0
    assert competing == []
    now[0] += 1.0
    assert arbiter.end_giving_way() == math.inf
    assert competing == [(7, 3)]


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


def test_many_are_started_a_few_at_a_time_and_none_that_is_not_wanted_any_more(
    now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand processes at once would take the host, and the broker, from those that serve."""
    monkeypatch.setattr("workers.arbiter.STARTING_MAX", 8)
    wanted = [1000]
    arbiter = Arbiter(*[None] * 1000)
    arbiter.app = SimpleNamespace(run_directory=SimpleNamespace(wanted=lambda: wanted[0]))
    arbiter._not_ready = 0
    arbiter.manage_workers()
    arbiter.manage_workers()
    assert arbiter.slots == list(range(8))
    arbiter.note_ready([1, 2, 3])
    del arbiter.WORKERS[8]  # it ended before it was ready
    now[0] += 1.0
    arbiter.manage_workers()
    assert arbiter.slots == list(range(11))
    arbiter.note_ready(list(arbiter.WORKERS))
    wanted[0] = 3
    arbiter.manage_workers()
    assert arbiter.slots == list(range(11))


def test_a_worker_that_hangs_is_ended_but_none_after_all_stood_still(
    now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gunicorn.arbiter.time", SimpleNamespace(monotonic=lambda: now[0]))
    arbiter = Arbiter(None, None)
    arbiter.timeout, arbiter.log = 60, logging.getLogger()
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(arbiter, "kill_worker", lambda pid, number: killed.append((pid, number)))
    shown_s = {1: now[0], 2: now[0]}
    for pid in shown_s:
        shown = partial(shown_s.__getitem__, pid)
        tmp = SimpleNamespace(last_update=shown)
        arbiter.WORKERS[pid] = SimpleNamespace(tmp=tmp, aborted=False)

    arbiter.murder_workers()
    now[0] += 1000.0  # the container was paused
    arbiter.murder_workers()
    assert killed == []
    shown_s[1] = now[0]
    for _ in range(9):
        now[0] += 1.0
        arbiter.murder_workers()
    assert killed == []
    now[0] += 1.0
    arbiter.murder_workers()
    assert killed == [(2, signal.SIGABRT)]


def test_how_a_renewal_ended_is_told_when_there_is_room_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On a full disk the arbiter, and with it the fleet, goes on."""
    arbiter = Arbiter()
    arbiter.app = SimpleNamespace(run_directory=RunDirectory(tmp_path))
    in_the_way = tmp_path / "renewed.new"
    in_the_way.mkdir()
    said = Renewed("e.1", "no", "")
    for _ in range(2):
        arbiter._tell_renewed(said)
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}/renewed cannot be written, and is tried again: Is a directory"
    ]
    in_the_way.rmdir()
    assert arbiter._untold is said
    arbiter._tell_renewed(arbiter._untold)
    assert arbiter._untold is None
    assert msgspec.json.decode((tmp_path / "renewed").read_bytes(), type=Renewed) == said


def test_a_reload_that_cannot_be_tried_is_refused_and_the_fleet_serves_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a host that has no room for one more process."""

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    arbiter, directory = Arbiter(), RunDirectory(tmp_path)
    arbiter.app = SimpleNamespace(run_directory=directory, settings=None, environ={})
    directory.renewal_file.write_text("e.1")
    monkeypatch.setattr("workers.renewal.subprocess.Popen", no_room)
    arbiter.handle_hup()
    said = msgspec.json.decode(directory.renewed_file.read_bytes(), type=Renewed)
    reason = "code and settings cannot be tried: Resource temporarily unavailable"
    assert said == Renewed("e.1", reason, "")
    assert arbiter._rehearsal is None


class Watched(BrokerProcess):
    """A process that shows life when `show` is called, and does nothing else."""

    def _start(self) -> None:
        self.process = subprocess.Popen(["sleep", "600"])
        self.pid, self._watched = self.process.pid, os.pidfd_open(self.process.pid)
        self._life, self._show = os.pipe2(os.O_NONBLOCK)
        self._started_s = self._looked_s = 100.0
        self._silent_s = 0.0

    def show(self) -> None:
        os.write(self._show, b"\n")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for fd in (self._watched, self._life, self._show):
            os.close(fd)


@pytest.fixture
def broker() -> Iterator[Watched]:
    process = Watched(None, [])  # type: ignore[arg-type]
    yield process
    process.close()


def test_a_broker_that_shows_no_life_is_killed(
    now: list[float], broker: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        now[0] += 1.0
        broker.watch()
    assert caplog.records == []
    now[0] += 1.0
    broker.watch()
    assert broker.process.wait(20) == -signal.SIGKILL


def test_a_broker_that_lives_is_left_alone_and_so_while_the_arbiter_was_stopped(
    now: list[float], broker: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(50):
        now[0] += 1.0
        broker.show()
        broker.watch()
    now[0] += 1000.0
    broker.watch()
    broker.show()
    broker.watch()
    assert caplog.records == []
    assert broker.process.poll() is None
