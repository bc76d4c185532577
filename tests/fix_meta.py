"""Fixture `start_meta`: a real metadata service, as `fs9 meta serve` starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

META_SECRET = "a secret of the metadata service, longer than 32 bytes"
META_KEY = "the admin key of the service"
_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 60


class MetaProcesses:
    """A running service; `start` again after `kill` or `stop`, at the same port."""

    def __init__(
        self, directory: Path, dsn: str | None = None, processes: int = 1, port: int = 0
    ) -> None:
        self._log = directory / "meta.log"
        self.dsn = dsn or f"sqlite:{directory / 'service.db'}"
        self._environ = {
            name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ
        } | {
            "FS9_JWT_SECRET": META_SECRET,
            "FS9_META_KEY": META_KEY,
            "FS9_META_DSN": self.dsn,
            "FS9_META_PROCESSES": str(processes),
        }
        self.port = port or free_port()
        self.process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "fs9.cli.main", "meta", "serve", "--port", str(self.port)]
        with self._log.open("ab") as errors:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, env=self._environ, text=True
            )
        assert self.process.stdout is not None
        timer = threading.Timer(_START_TIMEOUT_S, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                found = re.search(r"serving at http://\S+:(\d+)", line)
                if found:
                    self.port = int(found[1])
                    return
        finally:
            timer.cancel()
        raise AssertionError(f"the service did not start:\n{self._log.read_text()}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait; the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        assert self.process.stdout is not None
        try:
            return self.process.wait(_STOP_TIMEOUT_S)
        finally:
            self.process.stdout.close()
            self.process = None

    def kill(self) -> None:
        """As a loss of power would: the processes and their parent at once."""
        assert self.process is not None
        for child in self.kill_parent():
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def kill_parent(self) -> list[int]:
        """As the kernel would, for want of memory; what it leaves behind."""
        assert self.process is not None
        children = [int(text) for text in _children(self.process.pid)]
        self.stop(signal.SIGKILL)
        return children

    def close(self) -> None:
        if self.process is not None:
            self.kill()


def _children(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


@pytest.fixture
def start_meta(tmp_path: Path) -> Iterator[Callable[..., MetaProcesses]]:
    started: list[MetaProcesses] = []

    def start(dsn: str | None = None, processes: int = 1, port: int = 0) -> MetaProcesses:
        started.append(MetaProcesses(tmp_path, dsn, processes, port))
        return started[-1]

    yield start
    for service in started:
        service.close()
