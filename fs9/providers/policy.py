"""Where mounts that users make may connect to: not into the networks around the server.

Mounts of the operator's settings may connect anywhere. A mount that was made over the API has an
`AddressPolicy` in its context; whatever connects for it asks about the address itself, after every
resolution of a name, because the name may resolve to another host the next time.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TYPE_CHECKING, TypeAlias

from fs9.errors import InvalidArgument, PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Iterable

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

#: RFC 6052: an IPv4 address in the last four bytes, for a translator.
_NAT64 = IPv6Network("64:ff9b::/96")
#: RFC 3879: private addresses of old, which `ipaddress` calls public.
_SITE_LOCAL = IPv6Network("fec0::/10")


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """`allowed` are networks that may be reached though they are not public."""

    allowed: tuple[Network, ...] = ()

    def check(self, address: str) -> None:
        check_address(address, self.allowed)


def check_address(address: str, allowed: Iterable[Network] = ()) -> None:
    """Raise PermissionDenied for an IP address that is not public and in no allowed network.

    Not public are loopback, link-local, private, shared, multicast and reserved addresses, also
    when they hide in an IPv6 address. InvalidArgument for what is no address.
    """
    try:
        given = ip_address(address.partition("%")[0])
    except ValueError:
        raise InvalidArgument(f"{address!r} is no IP address") from None
    networks = tuple(allowed)
    for meant in _meant(given):
        public = meant.is_global and not meant.is_multicast and not meant.is_reserved
        public = public and meant not in _SITE_LOCAL
        if not public and not any(meant in network for network in networks):
            raise PermissionDenied(f"mounts may not connect to {address}: not a public address")


def networks_of(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks such as `10.1.0.0/16`, or addresses. Raises InvalidArgument naming a wrong one."""
    found = []
    for text in texts:
        try:
            found.append(ip_network(text))
        except ValueError as error:
            raise InvalidArgument(f"{text!r} is no network such as 10.1.0.0/16: {error}") from None
    return tuple(found)


def _meant(address: Address) -> list[Address]:
    """The address, and those that it embeds, such as an IPv4 address in an IPv6 one."""
    if isinstance(address, IPv4Address):
        return [address]
    hidden = address.ipv4_mapped or address.sixtofour
    if hidden is None and address.teredo is not None:
        hidden = address.teredo[1]
    if hidden is None and address in _NAT64:
        hidden = IPv4Address(int(address) & 0xFFFFFFFF)
    # A mapped address is the IPv4 address itself; the others are reached by a relay.
    return [hidden] if hidden is not None else [address]
