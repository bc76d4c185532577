"""workers.notify: a service manager hears when all workers serve, and when the fleet stops."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from workers.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fix_fleet import Fleet


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """(the value of NOTIFY_SOCKET, the socket of a service manager)."""
    name = f"fs9-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name if request.param == "abstract" else name)
        listener.settimeout(20)
        yield ("@" + name if request.param == "abstract" else name), listener


def test_a_message_is_one_datagram(manager: tuple[str, socket.socket]) -> None:
    address, listener = manager
    Notifier(address).ready("two workers serve")
    assert listener.recv(4096) == b"READY=1\nSTATUS=two workers serve"
    Notifier(address).stopping()
    assert listener.recv(4096).startswith(b"STOPPING=1\n")


def test_that_nobody_listens_is_no_error(tmp_path: Path) -> None:
    for address in (None, "", str(tmp_path / "nothing")):
        Notifier(address).ready("")
        Notifier(address).stopping()


def test_a_fleet_is_ready_when_all_workers_serve_and_says_that_it_stops(
    manager: tuple[str, socket.socket], start_fleet: Callable[..., Fleet]
) -> None:
    """Each once, and nothing else: gunicorn itself is ready too early."""
    address, listener = manager
    fleet = start_fleet(workers=2, environ={"NOTIFY_SOCKET": address})
    assert listener.recv(4096) == b"READY=1\nSTATUS=2 workers serve"
    assert all(fleet.pid_of(slot) for slot in range(2))
    assert fleet.stop() == 0
    assert listener.recv(4096).startswith(b"STOPPING=1\n")
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.recv(4096)
