"""`other_host`: a network of its own, joined to this one by a cable that can be pulled.

A network namespace (namespaces(7)) and a pair of veth(4) interfaces, made with the program `ip`.
It takes root with CAP_NET_ADMIN and CAP_SYS_ADMIN; elsewhere tests are skipped. Root without
`ip` is skipped too, except under CI, where that fails.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

#: For tests of networks (RFC 2544): nobody has these addresses. A /30 for each process.
_NETWORK = int(ip_address("198.18.0.0"))
_SUBNETS = 1 << 15
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
_CLONE_NEWNET = 0x40000000
_TIMEOUT_S = 60


class OtherHost:
    """Processes started with `prefix` see nothing but themselves, and `address`: this host."""

    def __init__(self, program: str) -> None:
        """Makes nothing yet."""
        number = os.getpid() % _SUBNETS
        first = _NETWORK + 4 * number
        #: Of this host, and of the other one.
        self.address, self.other_address = (str(ip_address(first + 1 + end)) for end in range(2))
        self.network = f"{ip_address(first)}/30"
        self._program = program
        self._name = f"fs9-tests-{number}"
        self._here, self._there = f"fs9h{number}", f"fs9t{number}"

    @property
    def prefix(self) -> list[str]:
        """Before a command, so that it runs there; the process is the command's."""
        return [self._program, "netns", "exec", self._name]

    def make(self) -> None:
        self._ip("netns", "add", self._name)
        veth = ("type", "veth", "peer", "name", self._there, "netns", self._name)
        self._ip("link", "add", self._here, *veth)
        self._ip("address", "add", f"{self.address}/30", "dev", self._here)
        self._ip("link", "set", self._here, "up")
        inside = ("-n", self._name)
        self._ip(*inside, "address", "add", f"{self.other_address}/30", "dev", self._there)
        self._ip(*inside, "link", "set", self._there, "up")
        self._ip(*inside, "link", "set", "lo", "up")

    def pull(self) -> None:
        """From now on packets are lost, in both directions, and nobody is told."""
        self._ip("link", "set", self._here, "down")

    def plug(self) -> None:
        self._ip("link", "set", self._here, "up")

    def swallow_answers(self) -> None:
        """What the other host sends arrives; what is sent to it does not, until `answer`."""
        self._ip("route", "add", "blackhole", f"{self.other_address}/32")

    def answer(self) -> None:
        self._ip("route", "del", "blackhole", f"{self.other_address}/32")

    def connect(self, port: int) -> socket.socket:
        """A connection to a port of the loopback address there. Blocks."""

        def connect() -> socket.socket:
            libc = ctypes.CDLL(None, use_errno=True)
            fd = os.open(f"/run/netns/{self._name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if libc.setns(fd, _CLONE_NEWNET):  # of this thread alone, which ends
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(fd)
            return socket.create_connection(("127.0.0.1", port), _TIMEOUT_S)

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(connect).result()

    def remove(self) -> None:
        """Whatever of it there is."""
        for command in (
            ("route", "del", "blackhole", f"{self.other_address}/32"),
            ("link", "del", self._here),
            ("netns", "del", self._name),
        ):
            with contextlib.suppress(subprocess.CalledProcessError):
                self._ip(*command)

    def _ip(self, *words: str) -> None:
        subprocess.run([self._program, *words], check=True, capture_output=True, timeout=_TIMEOUT_S)


def _missing_capability() -> str | None:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("CapEff:")]
    held = int(line.split()[1], 16)
    return next((name for name, bit in _CAPABILITIES.items() if not held >> bit & 1), None)


@pytest.fixture
def other_host() -> Iterator[OtherHost]:
    """Connected; to be asked for before what runs there."""
    missing = "root" if os.getuid() else _missing_capability()
    if missing:
        pytest.skip(f"network namespaces need {missing}")
    program = shutil.which("ip") or shutil.which("ip", path="/usr/sbin:/sbin")
    if program is None:
        text = "`ip` is not installed: run tools/install-test-programs"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    host = OtherHost(program)
    host.remove()  # what a run that was killed left
    try:
        host.make()
        yield host
    finally:
        host.remove()
