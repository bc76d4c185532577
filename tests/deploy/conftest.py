"""A fleet of four workers with authentication, and each kind of proxy in front of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fix_fleet import SECRET, Fleet
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS = 4
#: Small enough that a refused body is cheap to send, larger than what is streamed.
BODY_BYTES_MAX = 64 * 1024 * 1024
#: How often Envoy writes its access log.
LOG_FLUSH_S = 0.05
_NJS = Path("/usr/lib/nginx/modules/ngx_http_js_module.so")
_WAIT_S = 60
_YAML = f"""
server:
  max_write_size_bytes: {BODY_BYTES_MAX}
  max_concurrent_requests: 8
  request_timeout_secs: 10
"""
ACCESS = re.compile(r'"(?P<method>\S+) [^"]*" (?P<status>\d+) .* to=(?P<to>.*) slot=(?P<slot>\S+)')


class Proxy:
    """A running proxy; `url` like that of a fleet."""

    def __init__(self, kind: str, fleet: Fleet, directory: Path, *, auth: bool) -> None:
        self.kind = kind
        self.fleet = fleet
        self.directory = directory
        self.state_dir = directory / "state"
        self.state_dir.mkdir(parents=True)
        self.access_log = directory / "fs9.access.log"
        self._log_start = 0
        self.port = free_port()
        self._environ = {"FS9_JWT_SECRET": SECRET} if auth else {}
        if kind == "nginx":
            (directory / "ns.js").write_text(self.render("njs"))
            config = directory / "nginx.conf"
            command = [program("nginx"), "-c", str(config), "-g", "daemon off;"]
        else:
            config = directory / "envoy.yaml"
            command = [program("envoy"), "-c", str(config), "--concurrency", "1", "-l", "warn"]
            command += [
                "--disable-hot-restart",
                "--file-flush-interval-msec",
                str(int(LOG_FLUSH_S * 1000)),
            ]
        config.write_text(self.render(kind))
        self.output = directory / "output"
        self._command = command
        self.start()

    def start(self) -> None:
        """Also again, after `stop`."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(self._command, stdout=output, stderr=output)
        self._wait()

    def render(self, target: str) -> str:
        """What `fs9 deploy render` writes for this fleet, found by its data directory."""
        directory = str(self.directory)
        command = [sys.executable, "-m", "fs9.cli.main", "deploy", "render", target]
        command += ["--data-dir", str(self.fleet.data_dir), "--listen", f"127.0.0.1:{self.port}"]
        command += ["--state-dir", str(self.state_dir), "--log-dir", directory]
        command += ["--njs-file", f"{directory}/ns.js"]
        command += ["-c", str(self.fleet.data_dir.parent / "fs9.yaml")]
        environ = {"PATH": os.environ["PATH"], **self._environ}
        done = subprocess.run(command, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _wait(self) -> None:
        tick = threading.Event()
        for _ in range(_WAIT_S * 20):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                assert self.process.poll() is None, self.output.read_text()
                tick.wait(0.05)
            else:
                return
        raise AssertionError(f"{self.kind} did not start:\n{self.output.read_text()}")

    def logged(self, least: int) -> list[re.Match[str]]:
        """The requests in the access log since `forget`; at least so many, waited for."""
        tick = threading.Event()
        for _ in range(_WAIT_S * 20):
            text = self.access_log.read_bytes()[self._log_start :].decode()
            found = list(ACCESS.finditer(text))
            if len(found) >= least:
                return found
            tick.wait(0.05)
        raise AssertionError(f"{len(found)} requests in the log instead of {least}")

    def forget(self) -> None:
        """Let `logged` begin here, when what was asked before has been written."""
        tick = threading.Event()
        size = -1
        while size != self.access_log.stat().st_size:
            size = self.access_log.stat().st_size
            tick.wait(4 * LOG_FLUSH_S)
        self._log_start = size

    def complaints(self) -> str:
        """What the proxy has written of warnings and errors."""
        own_log = self.directory / "fs9.error.log"
        return self.output.read_text() + (own_log.read_text() if own_log.exists() else "")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=_WAIT_S)


def slot_of(socket_path: str) -> str:
    """The slot that a proxy has sent a request to, from what it wrote of it."""
    found = re.search(r"slot-(\d+)\.front", socket_path)
    return found[1] if found else socket_path


def program(name: str) -> str:
    """The path of a program that is needed; without it the test is skipped, except under CI."""
    path = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    path = path or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None or (name == "nginx" and not _NJS.exists()):
        text = f"{name} is not installed, or lacks a module: tools/install-test-programs"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    return path


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """With authentication."""
    directory = tmp_path_factory.mktemp("guarded")
    running = Fleet(directory, workers=WORKERS, yaml=_YAML, environ={"FS9_JWT_SECRET": SECRET})
    yield running
    running.stop()


@pytest.fixture(scope="session")
def open_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Without authentication."""
    running = Fleet(tmp_path_factory.mktemp("open"), workers=WORKERS, yaml=_YAML, environ={})
    yield running
    running.stop()


@pytest.fixture(scope="session", params=["nginx", "envoy"])
def proxy(
    request: pytest.FixtureRequest, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """In front of the fleet with authentication."""
    running = Proxy(request.param, fleet, tmp_path_factory.mktemp(request.param), auth=True)
    yield running
    running.stop()


@pytest.fixture(scope="session", params=["nginx", "envoy"])
def open_proxy(
    request: pytest.FixtureRequest, open_fleet: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """In front of the fleet without authentication."""
    running = Proxy(request.param, open_fleet, tmp_path_factory.mktemp(request.param), auth=False)
    yield running
    running.stop()
