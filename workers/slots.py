"""Slots: the stable identities 0…N-1 of the worker processes, and where each one listens.

A slot outlives its process: a worker that dies is replaced in the same slot, so the ring does
not change. A process serves only while it holds the lock of its slot; the kernel frees the
lock at any death.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
from pathlib import Path

log = logging.getLogger("fs9.fleet")

#: The longest path a Unix socket may have (unix(7)) is 107 bytes; the longest name of ours 20.
_RUN_PATH_BYTES_MAX = 107 - 20


class RunDirectory:
    """The directory of the sockets and locks; readable by the server's user alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        self.locks.mkdir(mode=0o700, exist_ok=True)
        self.handles.mkdir(mode=0o700, exist_ok=True)

    @property
    def crashes(self) -> Path:
        """The last words of workers, by their slots (`fs9.crashes`)."""
        return self.path / "crashes"

    @property
    def bus_publications(self) -> Path:
        """The socket where the broker publishes to all workers."""
        return self.path / "bus.publications"

    @property
    def bus_requests(self) -> Path:
        """The socket where the broker takes reports and requests."""
        return self.path / "bus.requests"

    @property
    def bus_file(self) -> Path:
        """The address of the bus, unless it uses the two sockets above (`workers.endpoint`)."""
        return self.path / "bus.json"

    @property
    def lent(self) -> Path:
        """The directory of files that nginx sends for us (`workers.lending`)."""
        return self.path / "lent"

    @property
    def view_file(self) -> Path:
        """The saved state of the broker, for the next one; a fleet that starts anew removes it."""
        return self.path / "view.json"

    @property
    def wanted_file(self) -> Path:
        """The number of workers that the arbiter keeps, as decimal text; the broker writes it."""
        return self.path / "workers"

    def wanted(self) -> int | None:
        """The number in that file; None when nobody has asked for another one."""
        try:
            return int(self.wanted_file.read_text())
        except FileNotFoundError:
            return None

    @property
    def renewal_file(self) -> Path:
        """What the broker asks the arbiter to read anew: an id (`workers.renewal`)."""
        return self.path / "renewal"

    @property
    def renewed_file(self) -> Path:
        """The result of that, as JSON: the id, an error or nothing, a note for the operator."""
        return self.path / "renewed"

    def renewal(self) -> str:
        """The id in that file; empty when no reload was asked for."""
        try:
            return self.renewal_file.read_text()
        except FileNotFoundError:
            return ""

    def forget_fleet(self) -> None:
        """Remove what an earlier fleet saved about its members; for a fleet that starts anew."""
        for path in (self.view_file, self.wanted_file, self.renewal_file, self.renewed_file):
            path.unlink(missing_ok=True)

    @property
    def locks(self) -> Path:
        """The directory of the namespaces' locks."""
        return self.path / "locks"

    @property
    def handles(self) -> Path:
        """The directory of the handle journals."""
        return self.path / "handles"

    def handoff_socket(self, slot: int) -> Path:
        """The socket where the slot takes over connections from other workers."""
        return self.path / f"slot-{slot}.handoff"

    def front_socket(self, slot: int) -> Path:
        """The socket where the slot accepts connections from a proxy in front."""
        return self.path / f"slot-{slot}.front"

    def lend_front(self, slot: int, to: int) -> None:
        """Let another slot accept the connections to this slot's front socket.

        A proxy may repeat only what it has not sent, and cannot always tell; so it is not to
        find a socket without a listener. Until a process of the slot listens there again.
        """
        front = self.front_socket(slot)
        new = front.with_name(f"{front.name}.new")
        try:
            new.unlink(missing_ok=True)
            new.symlink_to(self.front_socket(to).name)
            new.replace(front)
        except OSError as error:  # a full disk: connections are refused until then
            log.error("the front of slot %d stays without a listener: %s", slot, error)

    def listens_at_front(self, slot: int) -> bool:
        """Is there a socket of its own, if only of a process that has died?"""
        front = self.front_socket(slot)
        return front.is_socket() and not front.is_symlink()

    def private_socket(self, slot: int) -> Path:
        """The socket where the slot takes requests that other workers forward."""
        return self.path / f"slot-{slot}.http"

    @property
    def log_levels(self) -> Path:
        """Log levels, in the form of `logging.filter`; workers read them when they get SIGUSR1."""
        return self.path / "log-level"

    def lock_slot(self, slot: int) -> int:
        """Wait for the slot's lock; returns the descriptor that holds it."""
        fd = os.open(self.path / f"slot-{slot}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        # All of one length: who reads it meanwhile finds the process before or this one.
        os.pwrite(fd, b"%-10d\n" % os.getpid(), 0)
        return fd


def run_directory_path(data_dir: Path) -> Path:
    """Where the fleet of a data directory has its sockets; short enough for them."""
    path = data_dir.resolve() / "run"
    if len(os.fsencode(path)) <= _RUN_PATH_BYTES_MAX:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"fs9-{os.getuid()}-{digest}"


def run_directory_of(data_dir: Path) -> RunDirectory:
    """The run directory of the fleet that serves a data directory, or would."""
    return RunDirectory(run_directory_path(data_dir))
