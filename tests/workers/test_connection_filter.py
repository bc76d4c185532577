"""Connections from an address that is only refused are dropped, and nobody else's."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING, cast

import pytest

from fs9.clock import ManualClock
from fs9.wire.forwarded import TrustedProxies
from workers.connection_filter import (
    BLOCKED_S,
    REFUSED_MAX,
    ConnectionFilter,
    attach,
    program,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

ABUSER = "127.0.0.2"
#: How long a SYN that is dropped is waited for, and one that is not, on a busy machine: a second
#: later it is sent again.
DROPPED_S, ACCEPTED_S = 0.1, 0.8


class FakeLoop:
    """The two of the event loop's methods that a filter needs, on a clock of ours."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self._later: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.clock.monotonic_s()

    def call_later(self, delay_s: float, call: Callable[..., None], *args: object) -> None:
        self._later.append((self.time() + delay_s, lambda: call(*args)))

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        due = [call for at_s, call in self._later if at_s <= self.time()]
        self._later = [each for each in self._later if each[0] > self.time()]
        for call in due:
            call()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def subject(listener: socket.socket, loop: FakeLoop) -> ConnectionFilter:
    found = ConnectionFilter(
        cast("asyncio.AbstractEventLoop", loop), TrustedProxies(["192.0.2.0/24"]), keys_max=1000
    )
    found.watch([listener])
    return found


def is_accepted(listener: socket.socket, address: str, wait_s: float = ACCEPTED_S) -> bool:
    """Is a SYN answered? One that the filter drops is sent again after a second, not before."""
    with socket.socket(listener.family) as sock:
        sock.setblocking(False)
        sock.bind((address, 0))
        sock.connect_ex(listener.getsockname())
        # The loopback answers within the call, or as soon as its processor has a moment.
        connected = select.poll()
        connected.register(sock, select.POLLOUT)
        return bool(connected.poll(wait_s * 1000))


def test_who_is_only_refused_is_blocked_for_a_while(
    subject: ConnectionFilter, listener: socket.socket, loop: FakeLoop
) -> None:
    """Connections that are open go on; others, and later the same one, are accepted."""
    with socket.socket() as kept:
        kept.bind((ABUSER, 0))
        kept.connect(listener.getsockname())
        for _ in range(REFUSED_MAX + 1):
            subject.refused(ABUSER)
        assert list(subject.blocked) == [ABUSER]
        assert not is_accepted(listener, ABUSER, DROPPED_S)
        assert is_accepted(listener, "127.0.0.3")
        accepted, _ = listener.accept()
        with accepted:
            kept.sendall(b"still here")
            assert accepted.recv(100) == b"still here"
    loop.advance(BLOCKED_S)
    assert is_accepted(listener, ABUSER)
    assert not list(subject.blocked)


def test_a_filter_that_another_worker_replaced_is_attached_again(
    subject: ConnectionFilter, listener: socket.socket, loop: FakeLoop
) -> None:
    for _ in range(REFUSED_MAX + 1):
        subject.refused(ABUSER)
    attach(listener, program(["127.0.0.9"]))
    assert is_accepted(listener, ABUSER)
    loop.advance(1)
    subject.refused(ABUSER)
    assert not is_accepted(listener, ABUSER, DROPPED_S)


def test_an_address_of_many_of_whom_some_are_refused_is_accepted(subject: ConnectionFilter) -> None:
    for _ in range(10 * REFUSED_MAX):
        subject.refused(ABUSER)
        subject.served(ABUSER)
    assert not list(subject.blocked)


@pytest.mark.parametrize("peer", ["192.0.2.7", "unix", ""])
def test_trusted_proxies_are_never_blocked(subject: ConnectionFilter, peer: str) -> None:
    for _ in range(2 * REFUSED_MAX):
        subject.refused(peer)
    assert not list(subject.blocked)


def test_many_networks_of_both_kinds_fit_one_filter(listener: socket.socket) -> None:
    v4 = [f"198.51.100.{number}" for number in range(31)]
    v6 = [f"2001:db8:0:{number}::/64" for number in range(32)]
    attach(listener, program([*v6, *v4, ABUSER]))
    assert not is_accepted(listener, ABUSER, DROPPED_S)
    assert is_accepted(listener, "127.0.0.3")


def test_an_ipv6_network_is_blocked_and_others_are_not() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as sock:
        attach(sock, program(["::/64"]))
        assert not is_accepted(sock, "::1", DROPPED_S)
        attach(sock, program(["0:0:0:2::/64"]))
        assert is_accepted(sock, "::1")
