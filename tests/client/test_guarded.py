"""Connections go to checked addresses alone, whatever the name means a moment later."""

from __future__ import annotations

import httpx2
import pytest

from fs9.client.guarded import GuardedTransport
from fs9.errors import PermissionDenied


class Network(httpx2.AsyncBaseTransport):
    """Answers at every address but those that are down."""

    def __init__(self, *down: str) -> None:
        self.down = down
        self.asked: list[tuple[str, str, str]] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        name = request.extensions["sni_hostname"]
        self.asked.append((request.url.host, request.headers["host"], name))
        if request.url.host in self.down:
            raise httpx2.ConnectError("down", request=request)
        return httpx2.Response(200)


def check(address: str) -> None:
    if address.startswith("10."):
        raise PermissionDenied(address)


def client(network: Network, *answers: list[str]) -> httpx2.AsyncClient:
    left = list(answers)

    async def resolve(host: str, port: int) -> list[str]:
        assert port == 8080
        return left.pop(0)

    return httpx2.AsyncClient(transport=GuardedTransport(network, resolve, check))


async def test_the_connection_goes_to_the_checked_address():
    """With the name in the Host header and for the certificate."""
    network = Network()
    async with client(network, ["192.0.2.1"]) as http:
        await http.get("http://files.test:8080/x")
    assert network.asked == [("192.0.2.1", "files.test:8080", "files.test")]


async def test_a_name_that_comes_to_mean_another_host():
    """Each connection is checked: the second answer of the name server does not pass."""
    network = Network()
    async with client(network, ["192.0.2.1"], ["10.0.0.1"]) as http:
        await http.get("http://files.test:8080/x")
        with pytest.raises(PermissionDenied):
            await http.get("http://files.test:8080/x")
    assert len(network.asked) == 1


async def test_addresses_are_tried_in_turn():
    """Those that are refused are left out; the last failure is told."""
    network = Network("192.0.2.1")
    async with client(network, ["10.0.0.1", "192.0.2.1", "192.0.2.2"], ["192.0.2.1"]) as http:
        answer = await http.get("http://files.test:8080/x")
        assert answer.status_code == 200
        with pytest.raises(httpx2.ConnectError):
            await http.get("http://files.test:8080/x")
    assert [asked[0] for asked in network.asked] == ["192.0.2.1", "192.0.2.2", "192.0.2.1"]


async def test_addresses_without_a_name():
    network = Network()
    async with client(network) as http:
        for url in ("http://10.0.0.1:8080/", "http://10.0.0.1/"):
            with pytest.raises(PermissionDenied):
                await http.get(url)
        await http.get("http://[2001:db8::1]:8080/")
    assert [asked[0] for asked in network.asked] == ["2001:db8::1"]
