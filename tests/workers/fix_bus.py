"""A real broker process, and clients that write down what they hear."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from router.messages import NamespaceChanged
from workers.bus import BusClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.messages import Announcement
    from router.view import View
    from workers.slots import RunDirectory

_PROGRAM = """
import sys
from pathlib import Path
from workers.broker import main
from workers.slots import RunDirectory
main(RunDirectory(Path(sys.argv[1])), int(sys.argv[2]))
"""


class BrokerProcess:
    def __init__(self, run_directory: RunDirectory, workers: int = 2) -> None:
        self.run_directory = run_directory
        self._workers = workers
        self.start()

    def start(self) -> None:
        arguments = [sys.executable, "-c", _PROGRAM, str(self.run_directory.path)]
        self._process = subprocess.Popen([*arguments, str(self._workers)])

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self._process.send_signal(number)
        return self._process.wait(10)


class Listener:
    """A `BusClient` and what it heard."""

    def __init__(
        self, run_directory: RunDirectory, slot: int, lose: Callable[[], bool] | None = None
    ) -> None:
        self.client = BusClient(run_directory, slot, lose=lose)
        self.heard: list[Announcement] = []
        self.views: list[View] = []

    async def start(self) -> None:
        await asyncio.wait_for(self.client.start(self.heard.append, self.views.append), 10)

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.heard if isinstance(each, NamespaceChanged)]


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for what another process does."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event for what others do
            await asyncio.sleep(0.005)
