"""Drops new connections from addresses that connect only to have their requests refused.

Accepting a connection costs a worker more than refusing a request. When a rate limit
(`fs9.http.limiting`) refuses the first request of nearly every new connection from an address, the
address is blocked for a while: a filter on the listening sockets (socket(7), SO_ATTACH_FILTER) has
the kernel drop its SYNs. To the client the packets seem lost; its system sends them again after a
second, and then at growing intervals. Open connections are not affected.

The workers of a fleet share their listening sockets, and a socket has one filter, so the last one
attached counts. A worker that still sees refused connections from an address that it has blocked
attaches its filter again.
"""

from __future__ import annotations

import ctypes
import logging
import socket
import struct
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from fs9.resilience.bucket import Rate, TokenBuckets
from fs9.resilience.limiter import network

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Sequence

    from fs9.wire.forwarded import TrustedProxies

log = logging.getLogger("fs9.worker")

#: An address is blocked after this many connections whose first request was refused. A connection
#: whose first request was not takes one off: behind one address there may be many clients.
REFUSED_MAX = 200
#: In this time an address that had used all of them up has all of them again.
_FORGIVEN_S = 60.0
#: How long an address is blocked; long enough that what it sends in between costs next to nothing.
BLOCKED_S = 10.0
#: A filter that another worker may have replaced is attached again after this time at the earliest.
_AGAIN_S = 0.05
#: Addresses in one filter.
_BLOCKED_MAX = 64

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
# Of linux/filter.h: load a word, a byte; mask; jump if equal, if a bit is set; return.
_WORD, _BYTE, _AND, _IF_EQUAL, _IF_SET, _RETURN = 0x20, 0x30, 0x54, 0x15, 0x45, 0x06
#: Where a load finds the header of IP; without it, that of TCP (SKF_NET_OFF).
_IP = 0xFFF00000
_TCP_FLAGS, _SYN, _ACK = 13, 0x02, 0x10
_V4_SOURCE, _V6_SOURCE = _IP + 12, _IP + 8
_PASS, _DROP = 0xFFFFFFFF, 0
_Instruction = tuple[int, int, int, int]


class ConnectionFilter:
    """The filter of one worker. Belongs to its event loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, proxies: TrustedProxies, keys_max: int
    ) -> None:
        self._loop = loop
        self._proxies = proxies
        self._refused = TokenBuckets(Rate.of(REFUSED_MAX, _FORGIVEN_S), keys_max)
        self._listeners: Sequence[socket.socket] = ()
        #: Blocked network -> until when.
        self._blocked: dict[str, float] = {}
        self._attached_s = 0.0

    def watch(self, listeners: Sequence[socket.socket]) -> None:
        """Filter on these listening sockets; those that are not of TCP are left alone."""
        families = {socket.AF_INET, socket.AF_INET6}
        self._listeners = [each for each in listeners if each.family in families]

    @property
    def blocked(self) -> Iterable[str]:
        """The networks whose connections are dropped."""
        return self._blocked.keys()

    def served(self, peer: str) -> None:
        """The first request of a connection was not refused."""
        if len(self._refused):
            self._refused.give_back(network(peer))

    def refused(self, peer: str) -> None:
        """The first request of a connection was refused."""
        if not self._listeners or not _is_address(peer) or self._proxies.trusts(peer):
            return
        now_s, key = self._loop.time(), network(peer)
        if key in self._blocked:
            if now_s - self._attached_s > _AGAIN_S:
                self._attach(now_s)
        elif self._refused.take(key, now_s) and len(self._blocked) < _BLOCKED_MAX:
            self._blocked[key] = now_s + BLOCKED_S
            log.warning(
                "no new connections of %s for %d s: it goes on when refused", key, BLOCKED_S
            )
            self._attach(now_s)
            self._loop.call_later(BLOCKED_S, self._unblock, key)

    def _unblock(self, key: str) -> None:
        self._blocked.pop(key, None)
        self._attach(self._loop.time())

    def _attach(self, now_s: float) -> None:
        self._attached_s = now_s
        for listener in self._listeners:
            if listener.fileno() < 0:
                continue
            if self._blocked:
                attach(listener, program(self._blocked))
            else:
                listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def _is_address(peer: str) -> bool:
    try:
        ip_address(peer)
    except ValueError:  # `unix`, or nobody knows
        return False
    return True


def attach(listener: socket.socket, instructions: Sequence[_Instruction]) -> None:
    """Give the socket a filter in place of the one it has."""
    code = b"".join(struct.pack("=HBBI", *each) for each in instructions)
    kept = ctypes.create_string_buffer(code, len(code))  # the kernel copies it
    fprog = struct.pack("@HP", len(instructions), ctypes.addressof(kept))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)


def program(networks: Iterable[str]) -> list[_Instruction]:
    """Drop what would open a connection from one of the networks, and nothing else."""
    parsed = [ip_network(each) for each in networks]
    v4 = [int(each.network_address) for each in parsed if each.version == 4]
    v6 = [int(each.network_address) >> 64 for each in parsed if each.version == 6]
    passing = (_RETURN, 0, 0, _PASS)
    dropping = (_RETURN, 0, 0, _DROP)
    code = [
        (_BYTE, 0, 0, _TCP_FLAGS),
        (_AND, 0, 0, _SYN | _ACK),
        (_IF_EQUAL, 1, 0, _SYN),
        passing,
        (_BYTE, 0, 0, _IP),
        (_AND, 0, 0, 0xF0),
        # A jump goes no further than 255: past the next one, which is long.
        (_IF_EQUAL, 0, 2 * len(v4) + 2, 0x40),
        (_WORD, 0, 0, _V4_SOURCE),
    ]
    for address in v4:
        code += [(_IF_EQUAL, 0, 1, address), dropping]
    code.append(passing)
    for prefix in v6:
        code += [
            (_WORD, 0, 0, _V6_SOURCE),
            (_IF_EQUAL, 0, 3, prefix >> 32),
            (_WORD, 0, 0, _V6_SOURCE + 4),
            (_IF_EQUAL, 0, 1, prefix & 0xFFFFFFFF),
            dropping,
        ]
    return [*code, passing]
