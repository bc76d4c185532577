"""Where mounts of users may connect to."""

from __future__ import annotations

import pytest

from fs9.errors import InvalidArgument, PermissionDenied
from fs9.providers.policy import AddressPolicy, check_address, networks_of


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses(address: str):
    check_address(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.0.1", "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254"),
        *("0.0.0.0", "100.64.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fec0::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1"),
        # the same again, inside of IPv6 addresses: mapped, 6to4, NAT64, Teredo
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1"),
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
    ],
)
def test_what_is_not_public_is_refused(address: str):
    """Unless the operator's list has it."""
    with pytest.raises(PermissionDenied, match="not a public address"):
        check_address(address)


def test_allowed_networks():
    policy = AddressPolicy(networks_of(["10.1.0.0/16", "::1"]))
    policy.check("10.1.2.3")
    policy.check("::ffff:10.1.2.3")
    policy.check("::1")
    for address in ("10.2.0.1", "127.0.0.1"):
        with pytest.raises(PermissionDenied):
            policy.check(address)


def test_what_is_no_address_or_network():
    with pytest.raises(InvalidArgument, match="no IP address"):
        check_address("localhost")
    with pytest.raises(InvalidArgument, match="no network"):
        networks_of(["10.0.0.1/8"])
