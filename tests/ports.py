"""Ports of servers that must be told theirs, or that come back at the same one.

A port that the kernel has chosen (port 0) can be somebody else's as soon as it is closed: that of
another listener, of a connection to anywhere, even of a client that tries to connect to this very
port. So these are outside of the range that it chooses from; and each is reserved by an abstract
Unix socket (unix(7)) for as long as this process lives, against other test processes.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

_LOWEST = 10_000
_TRIES = 1_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: pytest-randomly gives every test process the same random numbers otherwise.
_dice = random.SystemRandom()


def free_port() -> int:
    """Nobody listens there, at any address of this host, and nobody is given it."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """As many as that, one after the other."""
    first, last = map(int, _RANGE.read_text().split())
    ours = [*range(_LOWEST, first - count), *range(last + 1, 65_536 - count)]
    for begin in _dice.sample(ours, min(len(ours), _TRIES)):
        ports = list(range(begin, begin + count))
        marks: list[socket.socket] = []
        if all(_reserve(port, marks) for port in ports):
            for mark in marks:
                mark.detach()  # held to the end of the process
            return ports
        for mark in marks:
            mark.close()
    raise AssertionError(f"no {count} free ports outside of {first}-{last}: see {_RANGE}")


def _reserve(port: int, marks: list[socket.socket]) -> bool:
    """Is the port free, and not reserved? Then the reservation is added to `marks`."""
    mark = socket.socket(socket.AF_UNIX)
    marks.append(mark)
    try:
        mark.bind(f"\0fs9-tests-port-{port}")
        with socket.socket() as probe:
            probe.bind(("", port))
    except OSError:
        return False
    return True
