"""The client behind proxies: only what a trusted one wrote counts."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs9.wire.forwarded import TrustedProxies

NEAR = TrustedProxies(["10.0.0.0/8", "unix", "2001:db8::/32", "192.0.2.7"])


@pytest.mark.parametrize(
    ("peer", "header", "client"),
    [
        ("198.51.100.1", None, "198.51.100.1"),
        ("198.51.100.1", "203.0.113.9", "198.51.100.1"),  # said by a stranger
        ("10.1.2.3", None, "10.1.2.3"),
        ("10.1.2.3", "", "10.1.2.3"),
        ("10.1.2.3", "203.0.113.9", "203.0.113.9"),
        ("unix", "203.0.113.9", "203.0.113.9"),
        ("unix", "1.1.1.1, 203.0.113.9", "203.0.113.9"),  # the client's own lie stands left
        ("unix", "1.1.1.1, 203.0.113.9, 10.0.0.1,192.0.2.7", "203.0.113.9"),
        ("unix", "10.0.0.1, 10.0.0.2", "10.0.0.1"),
        ("unix", "1.1.1.1, nonsense, 10.0.0.2", "10.0.0.2"),
        ("unix", "nonsense", "unix"),
        ("unix", "unix", "unix"),
        ("unix", "unknown, _hidden", "unix"),
        ("unix", ",", "unix"),
        ("unix", " 203.0.113.9:4711 ", "203.0.113.9"),
        ("unix", "[2001:db9::1]:4711", "2001:db9::1"),
        ("unix", "[2001:db9::1]", "2001:db9::1"),
        ("2001:db8::5", "203.0.113.9", "203.0.113.9"),
        ("::ffff:10.1.2.3", "203.0.113.9", "203.0.113.9"),
        ("", "203.0.113.9", ""),
    ],
)
def test_the_nearest_address_that_is_no_trusted_proxy(peer, header, client) -> None:
    assert NEAR.client(peer, header) == client


@given(st.text(max_size=60))
def test_nobody_is_trusted_by_default(header: str) -> None:
    for peer in ("unix", "127.0.0.1", "::1", ""):
        assert TrustedProxies(()).client(peer, header) == peer


@given(st.text(alphabet="0123456789abcdef.:[], \x00%/unix", max_size=80))
def test_whatever_it_says_the_client_is_an_address_or_the_peer(header: str) -> None:
    found = NEAR.client("unix", header)
    assert found == "unix" or ipaddress.ip_address(found)


@given(st.text(max_size=60), st.ip_addresses(v=4, network="203.0.113.0/24"))
def test_what_stands_left_of_the_client_changes_nothing(lie: str, address) -> None:
    assert NEAR.client("unix", f"{lie}, {address}, 10.0.0.1") == str(address)
