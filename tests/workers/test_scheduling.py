"""workers.scheduling: what gives way does so until it competes again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from workers.scheduling import compete, giving_way

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def usual_policy() -> None:
    with giving_way() as nice:
        if nice is None:
            pytest.skip("the policy of these tests cannot be changed")


def of_a_thread(call: Callable[[], None] = lambda: None) -> int:
    """The policy of a new thread, after the call."""
    found = []

    def run() -> None:
        call()
        found.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_what_is_started_meanwhile_gives_way_too() -> None:
    """Threads and processes; afterwards this thread and what it starts compete again."""
    with giving_way():
        assert os.sched_getscheduler(0) == os.SCHED_BATCH
        assert of_a_thread() == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == of_a_thread() == os.SCHED_OTHER


def test_all_of_a_process_competes_again() -> None:
    """Its threads, and the processes that it has started meanwhile."""
    ends, runs = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (runs.set(), ends.wait()))
    with giving_way() as nice:
        assert nice is not None
        thread.start()
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        runs.wait()
        everybody = [0, thread.native_id or 0, child.pid]
        assert [os.sched_getscheduler(each) for each in everybody[1:]] == [os.SCHED_BATCH] * 2
        compete(nice)
        assert [os.sched_getscheduler(each) for each in everybody] == [os.SCHED_OTHER] * 3
        assert [os.getpriority(os.PRIO_PROCESS, each) for each in everybody] == [nice] * 3
    finally:
        ends.set()
        thread.join()
        child.communicate(b"\n")


def test_another_process_competes_again() -> None:
    """One that did not get far enough to do it itself."""
    with giving_way() as nice:
        assert nice is not None
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        compete(nice, child.pid)
        assert os.sched_getscheduler(child.pid) == os.SCHED_OTHER
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == nice
    finally:
        child.communicate(b"\n")


def test_a_policy_that_the_operator_has_chosen_stays() -> None:
    def choose() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        with giving_way() as nice:
            assert nice is None

    assert of_a_thread(choose) == os.SCHED_BATCH


def test_a_filter_of_system_calls_forbids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then everything goes on as it was."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("workers.scheduling._set", refuse)
    with giving_way() as nice:
        assert nice is None
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
