"""The access log names the client; forwarded headers count only from trusted proxies."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from fs9.config import ConfigError, Flags, load
from tests.workers.fix_node import start_node_of
from tests.workers.test_access_log import settings_of, told
from tests.workers.test_departure import tenants_by_slot
from tests.workers.wire_client import WireClient, request
from workers.departure import MOVES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fix_fleet import Fleet

LIE = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Real-IP": "1.1.1.1"}


async def _unix(path: Path) -> WireClient:
    return WireClient(*await asyncio.open_unix_connection(str(path)))


@pytest.mark.parametrize(
    ("trusted", "clients"),
    [
        ((), ["127.0.0.1", "unix", ""]),
        (("unix",), ["127.0.0.1", "203.0.113.9", ""]),
        (("127.0.0.0/8",), ["203.0.113.9", "unix", ""]),
        (("127.0.0.1", "unix"), ["203.0.113.9", "203.0.113.9", ""]),
    ],
)
async def test_only_a_trusted_peer_says_for_whom_it_asks(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    trusted: tuple[str, ...],
    clients: list[str],
) -> None:
    """By TCP, by the front socket, and by the private one, where only workers are heard."""
    caplog.set_level(logging.INFO, "fs9.access")
    async with AsyncExitStack() as stack:
        settings = settings_of(tmp_path, log_access=True, trusted_proxies=trusted)
        node, port = await start_node_of(settings, None, stack)
        directory = node.run_directory
        for client in (
            await WireClient.connect(port),
            await _unix(directory.front_socket(0)),
            await _unix(directory.private_socket(0)),
        ):
            await client.send(request("GET", "/api/v1/stat?path=/", headers=LIE))
            assert (await client.response()).status == 200
            await client.close()
    assert [line.get("client", "") for line in told(caplog)] == clients


async def test_it_is_the_same_client_however_the_request_came_to_its_owner(
    start_fleet: Callable[..., Fleet],
) -> None:
    """Handed over, and forwarded: the owner hears of the peer, not of the header."""
    yaml = "logging: {access: true, format: json}\nserver: {trusted_proxies: [unix]}\n"
    fleet = start_fleet(workers=2, yaml=yaml)
    tenants = await tenants_by_slot(fleet)
    front = await _unix(fleet.run_directory / "slot-0.front")
    for kind, client in (("tcp", await WireClient.connect(fleet.port)), ("unix", front)):
        for number in range(4 * MOVES_MAX):
            headers = LIE | {"X-Request-ID": f"{kind}-{number}"}
            path = f"/{tenants[str(number % 2)]}/api/v1/stat?path=/"
            await client.send(request("GET", path, headers=headers))
            assert (await client.response()).status == 200
        await client.close()
    assert fleet.stop() == 0
    lines = [json.loads(line) for line in fleet.log.read_text().splitlines() if "fs9.acc" in line]
    for kind, address in (("tcp", "127.0.0.1"), ("unix", "203.0.113.9")):
        found = [line for line in lines if line["request_id"].startswith(kind)]
        assert len(found) == 4 * MOVES_MAX
        assert {line["client"] for line in found} == {address}


@pytest.mark.parametrize("text", ["[10.0.0.1/8]", "[proxy]", "unix", "[10]", "[{a: b}]"])
def test_what_is_no_peer_is_refused_at_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "fs9.yaml").write_text(f"server:\n  trusted_proxies: {text}\n")
    with pytest.raises(ConfigError, match=r"fs9\.yaml:2: server\.trusted_proxies"):
        load(Flags({}), {}, tmp_path, system_file=tmp_path / "no")


def test_peers_are_read(tmp_path: Path) -> None:
    (tmp_path / "fs9.yaml").write_text("server: {trusted_proxies: ['::1', 10.0.0.0/8, unix]}\n")
    settings = load(Flags({}), {}, tmp_path, system_file=tmp_path / "no")
    assert settings.trusted_proxies == ("::1/128", "10.0.0.0/8", "unix")
