"""The control bus with real processes."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.workers.fix_bus import BrokerProcess, Listener
from workers.slots import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def run_directory(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    return directory


@pytest.fixture
def broker(run_directory: RunDirectory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(run_directory)
    yield process
    process.send(signal.SIGCONT)
    assert process.end() == 0


@pytest.fixture
def listen(run_directory: RunDirectory) -> Iterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def make(slot: int = 0, lose: Callable[[], bool] | None = None) -> Listener:
        made.append(Listener(run_directory, slot, lose))
        return made[-1]

    yield make
    for listener in made:
        listener.client.close()
