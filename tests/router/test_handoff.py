"""router.handoff: a descriptor arrives with its own bytes, in order, or is still the sender's."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from typing import TYPE_CHECKING, Any, cast

import pytest

from fs9.errors import OwnerUnavailable
from router.handoff import Handed, HandoffReceiver, HandoffSender

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Inbox:
    """Takes over sockets, and reads from each what its client says."""

    def __init__(self) -> None:
        self.taken: list[tuple[socket.socket, Handed]] = []
        self.changed = asyncio.Event()

    def adopt(self, sock: socket.socket, handed: Handed) -> None:
        self.taken.append((sock, handed))
        self.changed.set()

    async def wait_for(self, count: int) -> None:
        while len(self.taken) < count:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 20)


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Connected pairs of sockets: (client's, server's)."""
    made: list[tuple[socket.socket, socket.socket]] = []
    yield made
    for pair in made:
        for sock in pair:
            sock.close()


class Sleeper:
    """The event loop of a process that is stopped until it is woken."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.readers: list[tuple[Any, ...]] = []
        self.awake = False

    def add_reader(self, *reader: Any) -> None:
        if self.awake:
            self.loop.add_reader(*reader)
        else:
            self.readers.append(reader)

    def remove_reader(self, fd: int) -> None:
        self.loop.remove_reader(fd)

    def wake(self) -> None:
        self.awake = True
        for reader in self.readers:
            self.loop.add_reader(*reader)


def connected(pairs: list[tuple[socket.socket, socket.socket]], number: int) -> socket.socket:
    client, server = socket.socketpair()
    client.sendall(b"%d" % number)
    pairs.append((client, server))
    return server


async def test_a_connection_arrives_with_its_bytes_and_lives_on_when_the_sender_closes(
    tmp_path: Path, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    loop, inbox = asyncio.get_running_loop(), Inbox()
    receiver = HandoffReceiver(tmp_path / "1", inbox.adopt, loop)
    sender = HandoffSender(lambda slot: tmp_path / str(slot), inbox.adopt, loop)
    server = connected(pairs, 7)
    sender.send(1, server.fileno(), Handed(b"GET / HTTP/1.1\r\n", 3, 40))
    server.close()
    await inbox.wait_for(1)
    sock, handed = inbox.taken[0]
    assert handed == Handed(b"GET / HTTP/1.1\r\n", 3, 40)
    assert sock.recv(10) == b"7"
    assert not sock.getblocking()
    sock.close()
    sender.close()
    receiver.close()


async def test_many_with_more_bytes_than_the_socket_takes_at_once_arrive_in_order(
    tmp_path: Path, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    rng = random.Random(9)
    loop, inbox = asyncio.get_running_loop(), Inbox()
    receiver = HandoffReceiver(tmp_path / "1", inbox.adopt, loop)
    sender = HandoffSender(lambda slot: tmp_path / str(slot), inbox.adopt, loop)
    before = open_descriptors()
    sent = []
    for number in range(60):
        data = rng.randbytes(rng.choice([0, 1, 100, 70_000, 400_000]))
        server = connected(pairs, number)
        sender.send(1, server.fileno(), Handed(data, number, 0))
        server.close()
        sent.append(data)
    await inbox.wait_for(len(sent))
    assert [handed.data for _, handed in inbox.taken] == sent
    assert [handed.moves for _, handed in inbox.taken] == list(range(60))
    assert [sock.recv(10) for sock, _ in inbox.taken] == [b"%d" % n for n in range(60)]
    for sock, _ in inbox.taken:
        sock.close()
    for client, _ in pairs:
        client.close()
    # One stream, both ends of it, and the pipe of the claims, one end of it twice.
    assert open_descriptors() == before + 5
    sender.close()
    receiver.close()


async def test_a_slot_that_does_not_listen_is_unavailable_and_nothing_is_sent(
    tmp_path: Path, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    loop, inbox = asyncio.get_running_loop(), Inbox()
    sender = HandoffSender(lambda slot: tmp_path / str(slot), inbox.adopt, loop)
    server = connected(pairs, 1)
    with pytest.raises(OwnerUnavailable):
        sender.send(1, server.fileno(), Handed(b"x", 0, 0))
    receiver = HandoffReceiver(tmp_path / "1", inbox.adopt, loop)
    sender.send(1, server.fileno(), Handed(b"x", 0, 0))
    await inbox.wait_for(1)
    inbox.taken[0][0].close()
    receiver.close()
    # Whether the sender has noticed by now or not, the connection is its own in the end.
    try:
        sender.send(1, server.fileno(), Handed(b"y", 0, 0))
    except OwnerUnavailable:
        assert server.recv(10) == b"1"
    else:
        await inbox.wait_for(2)
        sock, handed = inbox.taken[1]
        assert (handed.data, sock.recv(10)) == (b"y", b"1")
        sock.close()
    sender.close()


async def test_a_slot_that_came_back_gets_connections_on_a_new_stream(
    tmp_path: Path, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    loop, inbox = asyncio.get_running_loop(), Inbox()
    sender = HandoffSender(lambda slot: tmp_path / str(slot), inbox.adopt, loop)
    for number in range(3):
        receiver = HandoffReceiver(tmp_path / "1", inbox.adopt, loop)
        server = connected(pairs, number)
        sender.send(1, server.fileno(), Handed(b"%d" % number, 0, 0))
        await inbox.wait_for(number + 1)
        receiver.close()
    assert [handed.data for _, handed in inbox.taken] == [b"0", b"1", b"2"]
    for sock, _ in inbox.taken:
        sock.close()
    sender.close()


async def test_a_receiver_that_closes_adopts_what_has_arrived_and_leaks_nothing(
    tmp_path: Path, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    loop, inbox = asyncio.get_running_loop(), Inbox()
    before = open_descriptors()
    receiver = HandoffReceiver(tmp_path / "1", inbox.adopt, loop)
    sender = HandoffSender(lambda slot: tmp_path / str(slot), inbox.adopt, loop)
    first = connected(pairs, 0)
    sender.send(1, first.fileno(), Handed(b"a", 0, 0))
    await inbox.wait_for(1)
    second = connected(pairs, 1)
    sender.send(1, second.fileno(), Handed(b"b", 0, 0))
    receiver.close()
    assert [handed.data for _, handed in inbox.taken] == [b"a", b"b"]
    sender.close()
    for sock, _ in inbox.taken:
        sock.close()
    for pair in pairs:
        for sock in pair:
            sock.close()
    assert open_descriptors() == before


async def test_what_a_dying_owner_did_not_take_comes_back_to_the_sender(
    tmp_path: Path, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    loop, back = asyncio.get_running_loop(), Inbox()
    sender = HandoffSender(lambda slot: tmp_path / str(slot), back.adopt, loop)
    owner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    owner.bind(os.fspath(tmp_path / "1"))
    owner.listen()
    for number in range(3):
        server = connected(pairs, number)
        sender.send(1, server.fileno(), Handed(b"%d" % number * 300_000, number, 0))
        server.close()
    stream, _ = owner.accept()
    stream.send(b"\x01")  # it took the first and died with the others in its socket
    await asyncio.sleep(0)
    stream.close()
    owner.close()
    await back.wait_for(2)
    assert [handed.moves for _, handed in back.taken] == [1, 2]
    assert [sock.recv(10) for sock, _ in back.taken] == [b"1", b"2"]
    for sock, _ in back.taken:
        sock.close()
    sender.close()


@pytest.mark.parametrize("size", [10, 400_000])
async def test_what_an_owner_lets_lie_comes_back_and_is_nobody_elses(
    tmp_path: Path, pairs: list[tuple[socket.socket, socket.socket]], size: int
) -> None:
    """It hangs: the sender has the connections again. It goes on: it declines, and is offered
    what comes then."""
    loop, back, inbox = asyncio.get_running_loop(), Inbox(), Inbox()
    before = open_descriptors()
    sleeper = Sleeper(loop)
    receiver = HandoffReceiver(tmp_path / "1", inbox.adopt, cast("Any", sleeper))
    sender = HandoffSender(lambda slot: tmp_path / str(slot), back.adopt, loop, take_s=0.05)
    for number in range(3):
        server = connected(pairs, number)
        sender.send(1, server.fileno(), Handed(b"x" * size, number, 0))
        server.close()
    await back.wait_for(3)
    sender._take_s = 20  # from now on: it lives, and takes its time on a busy machine
    assert [handed.moves for _, handed in back.taken] == [0, 1, 2]
    assert [sock.recv(10) for sock, _ in back.taken] == [b"0", b"1", b"2"]
    late = connected(pairs, 7)
    with pytest.raises(OwnerUnavailable, match="does not answer"):
        sender.send(1, late.fileno(), Handed(b"y", 0, 0))
    sleeper.wake()
    async with asyncio.timeout(60):
        while True:
            try:
                sender.send(1, late.fileno(), Handed(b"y", 9, 0))
                break
            except OwnerUnavailable:
                await asyncio.sleep(0.01)
    await inbox.wait_for(1)
    assert [handed.moves for _, handed in inbox.taken] == [9]
    sender.close()
    receiver.close()
    for sock, _ in [*back.taken, *inbox.taken]:
        sock.close()
    for pair in pairs:
        for sock in pair:
            sock.close()
    async with asyncio.timeout(60):
        while open_descriptors() != before:  # noqa: ASYNC110 - the loop closes some by and by
            await asyncio.sleep(0.01)
