"""The bus over TCP: as over Unix sockets for who has the keys, and closed to all others."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import stat
from typing import TYPE_CHECKING

import pytest
import zmq

from fs9.cli.main import main
from fs9.config import ConfigError, Flags, load
from router.messages import FleetStatus, NamespaceChanged, StatusRequest, encode
from tests.ports import free_ports
from tests.workers.fix_bus import BrokerProcess, Listener, until
from tests.workers.test_bus import announce
from workers.asking import NoBroker, bus_request
from workers.bus import prepare_bus
from workers.endpoint import UnusableKeys, client_keys, endpoint_of, make_keys
from workers.slots import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fix_fleet import Fleet

_UNHEARD_S = 0.5


@pytest.fixture(params=["127.0.0.1", "0.0.0.0", "[::1]"])
def run_directory(request: pytest.FixtureRequest, tmp_path: Path) -> RunDirectory:
    """Of a fleet whose bus is at TCP ports, also at all addresses of the host."""
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    prepare_bus(directory, f"tcp://{request.param}:{free_ports(2)[0]}", tmp_path / "keys")
    return directory


def status_of(directory: RunDirectory) -> FleetStatus:
    answer = bus_request(directory, StatusRequest(), 10)
    assert isinstance(answer, FleetStatus)
    return answer


async def test_all_hear_all_also_after_a_killed_broker(
    run_directory: RunDirectory, broker: BrokerProcess, listen: Callable[..., Listener]
) -> None:
    one, other = listen(0), listen(1)
    await one.start()
    await other.start()
    names = announce(one, 0, 300)
    await until(lambda: len(other.names) >= 300)
    assert other.names == names
    assert (await asyncio.to_thread(status_of, run_directory)).workers == 2
    before = one.client.epoch
    broker.end(signal.SIGKILL)
    one.client.report(NamespaceChanged("after"))
    broker.start()
    # Both know the new broker, and miss nothing of it.
    await until(lambda: one.client.epoch == other.client.epoch != before)
    await until(lambda: one.client.outstanding == 0 and other.client.in_sync)
    announce(one, 300, 310)
    await until(lambda: other.names[-1:] == ["n309"])


@pytest.mark.parametrize("run_directory", ["127.0.0.1"], indirect=True)
def test_without_the_keys_nobody_is_heard_and_nobody_hears(
    run_directory: RunDirectory, broker: BrokerProcess
) -> None:
    """No key; a key of one's own; the right key, but of another broker."""
    endpoint = endpoint_of(run_directory)
    assert endpoint.keys_dir is not None
    broker_public, client_secret = client_keys(endpoint.keys_dir)
    stranger_public, stranger_secret = zmq.curve_keypair()
    assert status_of(run_directory).workers == 2
    with raw_clients() as connect:
        right = connect(endpoint, broker_public, client_secret)
        wrong = [
            connect(endpoint, None, None),
            connect(endpoint, broker_public, stranger_secret),
            connect(endpoint, stranger_public, client_secret),
        ]
        for speaking, _ in (*wrong, right):
            speaking.send(encode(StatusRequest()))
        assert right[0].poll(10_000), "the one with the keys is answered"
        assert right[1].poll(10_000), "and hears the heartbeat"
        for speaking, listening in wrong:
            assert not speaking.poll(_UNHEARD_S * 1000)
            assert not listening.poll(_UNHEARD_S * 1000)
    assert status_of(run_directory).workers == 2


class raw_clients:
    """ZeroMQ as anybody has it: (DEALER, SUB), with these keys or none."""

    def __enter__(self) -> Callable[..., tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        return self._connect

    def _connect(self, endpoint, server, secret):
        sockets = self._context.socket(zmq.DEALER), self._context.socket(zmq.SUB)
        addresses = endpoint.requests, endpoint.publications
        for sock, address in zip(sockets, addresses, strict=True):
            sock.setsockopt(zmq.LINGER, 0)
            if server is not None:
                sock.setsockopt(zmq.CURVE_SERVERKEY, server)
                sock.setsockopt(zmq.CURVE_SECRETKEY, secret)
                sock.setsockopt(zmq.CURVE_PUBLICKEY, zmq.curve_public(secret))
            sock.connect(address)
        sockets[1].setsockopt(zmq.SUBSCRIBE, b"")
        return sockets

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)


def test_keys_are_made_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    keys = tmp_path / "keys"
    prepare_bus(directory, "tcp://127.0.0.1:9997", keys)
    made = {path.name: path.read_bytes() for path in keys.iterdir()}
    assert set(made) == {"broker.key", "broker.public", "client.key"}
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {0o600}
    prepare_bus(directory, "tcp://127.0.0.1:9997", keys)
    assert {path.name: path.read_bytes() for path in keys.iterdir()} == made
    prepare_bus(directory, "ipc", keys)
    assert endpoint_of(directory).keys_dir is None


@pytest.mark.parametrize(
    ("name", "do", "text"),
    [
        ("client.key", lambda path: path.chmod(0o640), "open to others"),
        ("broker.key", lambda path: path.chmod(0o604), "open to others"),
        ("broker.key", lambda path: path.write_bytes(b"x"), "is no key"),
        ("client.key", lambda path: path.write_bytes(b"\xff" * 40), "are none"),
        ("broker.public", lambda path: path.write_bytes(b"0" * 40), "are no pair"),
        ("broker.key", lambda path: path.unlink(), "broker.public"),
        ("broker.public", lambda path: path.unlink(), "broker.public cannot be read"),
    ],
)
def test_keys_that_cannot_be_used_are_refused(
    tmp_path: Path, name: str, do: Callable[[Path], object], text: str
) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    keys = tmp_path / "keys"
    make_keys(keys, zmq.curve_keypair)
    do(keys / name)
    with pytest.raises(UnusableKeys, match=re.escape(text)):
        prepare_bus(directory, "tcp://127.0.0.1:9997", keys)


def test_a_fleet_with_its_bus_over_tcp(start_fleet: Callable[..., Fleet]) -> None:
    """Its operators need the data directory and nothing else."""
    port, _ = free_ports(2)
    fleet = start_fleet(workers=2, yaml=f"server: {{bus: {{bind: 'tcp://127.0.0.1:{port}'}}}}")
    assert not (fleet.run_directory / "bus.requests").exists()
    data_dir = ["--data-dir", str(fleet.data_dir)]
    assert main(["fleet", "drain", "1", *data_dir]) == 0
    assert main(["fleet", "undrain", "1", *data_dir]) == 0
    assert main(["fleet", "reload", *data_dir]) == 0
    (fleet.data_dir / "bus-keys" / "client.key").unlink()
    with pytest.raises(NoBroker, match=r"client\.key"):
        bus_request(RunDirectory(fleet.run_directory), StatusRequest(), 5)
    assert fleet.stop() == 0
    assert "Traceback" not in fleet.log.read_text()


@pytest.mark.parametrize(
    "bind",
    ["tcp://localhost:9", "tcp://127.0.0.1", "tcp://::1:9", "udp://1.2.3.4:9", "tcp://[1.2.3.4]:9",
     "tcp://127.0.0.1:0", "tcp://127.0.0.1:65535", "1.2.3.4:9", "ipc:///x", "tcp://*:9"],
)  # fmt: skip
def test_what_is_no_address_is_refused(tmp_path: Path, bind: str) -> None:
    (tmp_path / "fs9.yaml").write_text(f"server: {{bus: {{bind: '{bind}'}}}}\n")
    with pytest.raises(ConfigError, match=r"server\.bus\.bind"):
        load(Flags({}), {}, tmp_path, system_file=tmp_path / "no")


def test_a_port_in_use_is_said_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not in the log of a broker that cannot start."""
    monkeypatch.chdir(tmp_path)
    port, _ = free_ports(2)
    text = f"server: {{port: 0, bus: {{bind: 'tcp://127.0.0.1:{port}'}}}}"
    (tmp_path / "fs9.yaml").write_text(text)
    with socket.create_server(("127.0.0.1", port + 1)):
        assert main(["serve", "-c", "fs9.yaml", "--data-dir", str(tmp_path / "data")]) == 1
    assert f"cannot listen on 127.0.0.1:{port + 1}" in capsys.readouterr().err
