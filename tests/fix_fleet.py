"""Fixture `start_fleet`: a real fleet of worker processes, as `fs9 serve` starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SECRET = "a secret of the tests, longer than 32 bytes"
_START_TIMEOUT_S = 120


class Fleet:
    """A running fleet; `environ` is the whole configuration that is not in `yaml`.

    `code`: a directory with the packages that it runs, instead of those of this tree. `prefix`:
    of its command.
    """

    def __init__(
        self,
        directory: Path,
        *,
        workers: int = 2,
        yaml: str = "",
        environ: dict[str, str],
        code: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.data_dir = directory / "data"
        self.config = config = directory / "fs9.yaml"
        config.write_text(yaml or "{}\n")
        self.log = directory / "log"
        command = [*prefix, sys.executable, "-m", "fs9.cli.main", "serve", "--port", "0"]
        command += ["--workers", str(workers), "--data-dir", str(self.data_dir), "-c", str(config)]
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
        with self.log.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=kept | environ,
                text=True,
                cwd=code,
            )
        self.workers = workers
        self.url = self._wait_for_url()
        self.port = int(self.url.rpartition(":")[2])

    def _wait_for_url(self) -> str:
        assert self.process.stdout is not None
        timer = threading.Timer(_START_TIMEOUT_S, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                found = re.search(r"serving at (http://\S+)", line)
                if found:
                    return found[1]
        finally:
            timer.cancel()
        raise AssertionError(f"the fleet did not start:\n{self.log.read_text()}")

    def pid_of(self, slot: int) -> int:
        """The process that holds a slot now."""
        return int((self.run_directory / f"slot-{slot}.lock").read_text())

    @property
    def run_directory(self) -> Path:
        from workers.slots import run_directory_path

        return run_directory_path(self.data_dir)

    def kill_worker(self, slot: int, sig: signal.Signals = signal.SIGKILL) -> int:
        pid = self.pid_of(slot)
        os.kill(pid, sig)
        return pid

    def kill_broker(self) -> None:
        """Kill the broker, which the arbiter replaces."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        slots = {self.pid_of(slot) for slot in range(self.workers)}
        others = {int(pid) for pid in children.read_text().split()} - slots
        (broker,) = others
        os.kill(broker, signal.SIGKILL)

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        """Signal the fleet and wait; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end that a signal has begun; the exit status."""
        try:
            status = self.process.wait(timeout=60)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            assert self.process.stdout is not None
            self.process.stdout.close()
        return status


@pytest.fixture
def start_fleet(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """`start_fleet(workers=…, yaml=…, environ={…})`; every fleet is stopped after the test."""
    fleets: list[Fleet] = []

    def start(
        *,
        workers: int = 2,
        yaml: str = "",
        environ: dict[str, str] | None = None,
        code: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> Fleet:
        directory = tmp_path / f"fleet-{len(fleets)}"
        directory.mkdir()
        variables = environ or {}
        fleet = Fleet(
            directory, workers=workers, yaml=yaml, environ=variables, code=code, prefix=prefix
        )
        fleets.append(fleet)
        return fleet

    yield start
    for fleet in fleets:
        fleet.stop()


@pytest.fixture(scope="module")
def share_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Fleet]]:
    """As `start_fleet`, but tests of one module that ask for the same get the same fleet.

    They take namespaces of their own, and leave it as they found it: at the end no worker has been
    replaced, and nothing has failed.
    """
    fleets: dict[str, Fleet] = {}

    def share(*, workers: int = 2, yaml: str = "", environ: dict[str, str] | None = None) -> Fleet:
        variables = environ or {}
        key = repr((workers, yaml, sorted(variables.items())))
        if key not in fleets:
            directory = tmp_path_factory.mktemp("shared")
            fleets[key] = Fleet(directory, workers=workers, yaml=yaml, environ=variables)
        return fleets[key]

    yield share
    statuses = [fleet.stop() for fleet in fleets.values()]
    assert statuses == [0] * len(fleets)
    for fleet in fleets.values():
        log = fleet.log.read_text()
        assert "Traceback" not in log, log[-5000:]
        assert "Worker (pid" not in log, log[-5000:]
