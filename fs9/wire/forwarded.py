"""The client's address behind proxies: the rules of `X-Forwarded-For`. Pure.

Each proxy appends the address of its own peer to the header; anything to the left of what a trusted
proxy wrote may have been written by anybody. So the header counts only when the peer is trusted,
and is read from the right until an address is not trusted. `Forwarded` (RFC 7239) is ignored,
because a proxy that sets one of the two headers passes the other one on as the client wrote it.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The peer of a connection over a Unix socket, which only proxies on this host can reach.
UNIX = "unix"

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# Some proxies add the port: 192.0.2.1:4711, [2001:db8::1]:4711.
_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?")


class TrustedProxies:
    """`trusted` has addresses, networks and `unix`, as the setting checks them."""

    def __init__(self, trusted: Iterable[str]) -> None:
        given = frozenset(trusted)
        self._unix = UNIX in given
        self._networks = [ipaddress.ip_network(text) for text in given if text != UNIX]

    def trusts(self, peer: str) -> bool:
        if peer == UNIX:
            return self._unix
        address = _parsed(peer)
        return address is not None and self._contains(address)

    def client(self, peer: str, forwarded_for: str | None) -> str:
        """The client's address: the nearest one that is not a trusted proxy's.

        What cannot be read ends the search: the one who wrote it is the last that is known.
        """
        if not forwarded_for or not self.trusts(peer):
            return peer
        found = peer
        for entry in reversed(forwarded_for.split(",")):
            address = _parsed(entry.strip())
            if address is None:
                return found
            found = str(address)
            if not self._contains(address):
                return found
        return found

    def _contains(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def _parsed(text: str) -> _Address | None:
    """The address; one of IPv4 also where it is written as IPv6 (`::ffff:192.0.2.1`)."""
    match = _WITH_PORT.fullmatch(text)
    if match is not None:
        text = match[1] or match[2]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
