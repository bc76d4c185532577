"""The control bus over ZeroMQ: sockets, descriptors and timers around `router.subscriber`.

The only user of pyzmq. `BusServer` is the broker's end, `BusClient` a worker's, `OperatorLine` an
operator's. They use Unix sockets, or TCP with CURVE keys (`workers.endpoint`): then the broker
admits whoever has the clients' key, and clients know the broker by its own key.

A ZeroMQ context does not survive a fork, so each is made in the process that uses it. ZeroMQ's
descriptor is edge-triggered, so after each wake-up, and after each message that was sent,
everything that is there must be read.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING

import msgspec
import zmq
from zmq.utils import z85

from router.messages import (
    Accepted,
    Done,
    Drained,
    FleetStatus,
    Heartbeat,
    Introduce,
    Received,
    Refused,
    Snapshot,
    Told,
    UnknownMessage,
    decode_from_broker,
    encode,
)
from router.subscriber import RETRY_S, Adopt, Deliver, Reporter, Send, Subscriber
from workers.endpoint import (
    UnusableKeys,
    broker_keys,
    client_keys,
    endpoint_of,
    make_keys,
    set_endpoint,
)
from workers.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from router.messages import Announcement, FromBroker, Report
    from router.subscriber import Output
    from router.view import View
    from workers.slots import RunDirectory

log = logging.getLogger("fs9.bus")

#: Messages queued for one peer; further ones are lost, and a snapshot makes up for them.
_QUEUE_MAX = 1000
_RECONNECT_MS = 10
#: At the end, the last messages are given this long to leave.
_LINGER_MS = 100
#: How often a client that misses nothing checks the time.
_IDLE_TICK_S = 0.2
#: Messages handled in a row before others get their turn on the event loop.
_BATCH = 256
#: Over TCP: how often a silent peer is asked for a sign of life, and how long it may take.
_HEARTBEAT_MS = 1000
_HEARTBEAT_TIMEOUT_MS = 5000


def _socket(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, **options: int
) -> zmq.Socket[bytes]:
    sock = context.socket(kind)
    sock.setsockopt(zmq.SNDHWM, _QUEUE_MAX)
    sock.setsockopt(zmq.RCVHWM, _QUEUE_MAX)
    sock.setsockopt(zmq.LINGER, _LINGER_MS)
    sock.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
    for name, value in options.items():
        sock.setsockopt(getattr(zmq, name), value)
    return sock


def _serve_with(sock: zmq.Socket[bytes], keys_dir: Path | None) -> None:
    """Make the broker's end of a bus over TCP; over Unix sockets there is nothing to do."""
    if keys_dir is not None:
        secret, _ = broker_keys(keys_dir)
        sock.setsockopt(zmq.CURVE_SERVER, 1)
        sock.setsockopt(zmq.CURVE_SECRETKEY, secret)
        sock.setsockopt(zmq.ZAP_DOMAIN, b"fs9")
        _watch_peer(sock)


def _connect(sock: zmq.Socket[bytes], address: str, keys_dir: Path | None) -> None:
    if keys_dir is not None:
        broker_public, secret = client_keys(keys_dir)
        sock.setsockopt(zmq.CURVE_SERVERKEY, broker_public)
        sock.setsockopt(zmq.CURVE_SECRETKEY, secret)
        sock.setsockopt(zmq.CURVE_PUBLICKEY, zmq.curve_public(secret))
        _watch_peer(sock)
    sock.connect(address)


def _watch_peer(sock: zmq.Socket[bytes]) -> None:
    """Notice a peer that vanished without closing its connection; over TCP the kernel cannot."""
    sock.setsockopt(zmq.IPV6, 1)
    sock.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
    sock.setsockopt(zmq.HEARTBEAT_TTL, _HEARTBEAT_TIMEOUT_MS)


def prepare_bus(run_directory: RunDirectory, bind: str, keys_dir: Path) -> None:
    """Write down the address of the bus of a fleet that starts, and make missing keys.

    Raises UnusableKeys.
    """
    if bind != "ipc":
        make_keys(keys_dir, zmq.curve_keypair)
        try:
            public, _ = map(zmq.curve_public, broker_keys(keys_dir))
        except zmq.ZMQError as error:
            raise UnusableKeys(f"the keys in {keys_dir} are none: {error}") from None
        if public != client_keys(keys_dir)[0]:
            raise UnusableKeys(f"broker.key and broker.public in {keys_dir} are no pair")
    set_endpoint(run_directory, bind, keys_dir)


class _Doorman:
    """Authenticates clients by the clients' key; ZeroMQ asks over ZAP (RFC 27)."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys_dir: Path) -> None:
        self._allowed = zmq.curve_public(broker_keys(keys_dir)[1])
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind("inproc://zeromq.zap.01")

    def answer(self) -> None:
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            version, number, _, _, _, mechanism, *credentials = frames
            known = mechanism == b"CURVE" and z85.encode(credentials[0]) == self._allowed
            code, text = (b"200", b"OK") if known else (b"400", b"unknown key")
            self.socket.send_multipart([version, number, code, text, b"", b""])


class BusServer:
    """The broker's sockets, and whatever other descriptors it waits for."""

    def __init__(self, run_directory: RunDirectory) -> None:
        self._context = zmq.Context()
        self._publications = _socket(self._context, zmq.XPUB, XPUB_VERBOSE=1)
        self._requests = _socket(self._context, zmq.ROUTER, ROUTER_HANDOVER=1)
        self._poller = zmq.Poller()
        publications, requests, keys_dir = endpoint_of(run_directory)
        self._doorman = None if keys_dir is None else _Doorman(self._context, keys_dir)
        if self._doorman is not None:
            self._poller.register(self._doorman.socket, zmq.POLLIN)
        for sock, address in ((self._publications, publications), (self._requests, requests)):
            _serve_with(sock, keys_dir)
            sock.bind(address)
            self._poller.register(sock, zmq.POLLIN)

    def watch(self, fd: int) -> None:
        self._poller.register(fd, zmq.POLLIN)

    def unwatch(self, fd: int) -> None:
        self._poller.unregister(fd)

    def poll(self, timeout_s: float) -> list[int]:
        """Wait until something can be read; the watched descriptors of which that is true."""
        ready = self._poller.poll(max(0, round(timeout_s * 1000)))
        if self._doorman is not None:
            self._doorman.answer()
        return [each for each, _ in ready if isinstance(each, int)]

    def publish(self, data: bytes) -> None:
        """Send to all workers; never waits. A peer that is too slow loses the message."""
        self._publications.send(data, zmq.NOBLOCK)

    def reply(self, client: bytes, data: bytes) -> None:
        """Send to one client; if it is gone, or does not read, the message is lost."""
        try:
            self._requests.send_multipart([client, data], zmq.NOBLOCK)
        except zmq.Again:
            log.debug("a client of the bus does not read its answers")

    def received(self) -> Iterator[tuple[bytes, bytes]]:
        """The messages that have arrived: (client, bytes)."""
        while True:
            try:
                frames = self._requests.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(frames) == 2:
                yield frames[0], frames[1]

    def subscribed(self) -> bool:
        """Has a client subscribed since the last call?"""
        found = False
        while True:
            try:
                found |= self._publications.recv(zmq.NOBLOCK)[:1] == b"\x01"
            except zmq.Again:
                return found

    def close(self) -> None:
        self._publications.close()
        self._requests.close()
        if self._doorman is not None:
            self._doorman.socket.close()
        self._context.term()


class BusClient:
    """A worker's place on the bus; for asyncio and uvloop, in the process that serves.

    `start` takes two callbacks. `on_message` gets each announcement in order and once. Where
    that cannot be, since too many were missed or the broker is another one, `on_snapshot` gets
    the whole view first, and whatever else announcements tell of is to be read anew; then the
    orders that still hold follow through `on_message`. `lose` is for the injection of faults:
    True drops a message.
    """

    def __init__(
        self, run_directory: RunDirectory, slot: int, *, lose: Callable[[], bool] | None = None
    ) -> None:
        self._run_directory = run_directory
        self._pid = os.getpid()
        self._lose = lose or (lambda: False)
        self._on_message: Callable[[Announcement], None] = lambda _: None
        self._on_snapshot: Callable[[View], None] = lambda _: None
        self._subscriber = Subscriber(slot, self._pid)
        self._reporter = Reporter()
        self._telling = Telling(self.report)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._sockets: list[zmq.Socket[bytes]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._synced = asyncio.Event()
        self._confirmed = asyncio.Event()
        self._pumping = False
        self._sent = False
        self._idle = False

    # -- What the worker sees ---------------------------------------------------------------

    async def start(
        self, on_message: Callable[[Announcement], None], on_snapshot: Callable[[View], None]
    ) -> None:
        """Connect, and wait until no announcement is missing.

        A caller that stops waiting need not start again: the client goes on trying, and a
        worker serves without a broker, too.
        """
        assert not self._sockets, "started twice"
        self._on_message, self._on_snapshot = on_message, on_snapshot
        self._loop = asyncio.get_running_loop()
        self._context = zmq.Context()
        listening = _socket(self._context, zmq.SUB)
        # Otherwise messages wait for a broker that is dead, and the next one gets them.
        speaking = _socket(self._context, zmq.DEALER, IMMEDIATE=1)
        speaking.setsockopt(zmq.ROUTING_ID, b"w" + os.urandom(12))
        self._sockets = [listening, speaking]
        listening.setsockopt(zmq.SUBSCRIBE, b"")
        publications, requests, keys_dir = endpoint_of(self._run_directory).connectable()
        try:
            _connect(listening, publications, keys_dir)
            _connect(speaking, requests, keys_dir)
        except UnusableKeys as error:
            log.error("cannot connect to the broker: %s", error)
        for sock in self._sockets:
            self._loop.add_reader(_descriptor(sock), self._pump)
        self._tick()
        await self._synced.wait()

    def report(self, message: Report) -> None:
        """Send it; never waits. It arrives exactly once and in order, a `Status` at most once."""
        if not isinstance(message, Told) and not message.pid:
            message = msgspec.structs.replace(message, pid=self._pid)
        if isinstance(message, Drained) and not message.view and self.view is not None:
            message = msgspec.structs.replace(message, view=self.view.number)
        self._do(self._reporter.report(message, self._now_s()))
        self._pump()

    async def tell(self, message: Told, timeout_s: float) -> bool:
        """Have every worker apply it; False when not all confirmed that in time."""
        return await self._telling.tell(message, timeout_s)

    async def flush(self, timeout_s: float = 1.0) -> bool:
        """Wait until the broker has every report; False when that takes too long."""
        try:
            while self._reporter.outstanding:
                self._confirmed.clear()
                await asyncio.wait_for(self._confirmed.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    @property
    def view(self) -> View | None:
        """The latest view; None before the first."""
        return self._subscriber.view

    @property
    def epoch(self) -> str:
        return self._subscriber.epoch

    @property
    def in_sync(self) -> bool:
        return self._subscriber.in_sync(self._now_s())

    @property
    def gaps(self) -> int:
        """How often announcements were missing, or the broker was a new one."""
        return self._subscriber.gaps

    @property
    def lag_s(self) -> float:
        """Seconds since every announcement was there."""
        return self._subscriber.lag_s(self._now_s())

    @property
    def outstanding(self) -> int:
        """Reports that the broker has not confirmed."""
        return self._reporter.outstanding

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for sock in self._sockets:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(_descriptor(sock))
            sock.close()
        self._sockets = []
        if self._context is not None:
            self._context.term()
            self._context = None

    # -- Inside -----------------------------------------------------------------------------

    def _now_s(self) -> float:
        return time.monotonic()

    def _tick(self) -> None:
        now_s = self._now_s()
        self._do(self._subscriber.on_tick(now_s))
        self._do(self._reporter.on_tick(now_s))
        self._pump()
        self._schedule(RETRY_S if self._busy() else _IDLE_TICK_S)

    def _busy(self) -> bool:
        """Is there anything to request, or to send again?"""
        return self._reporter.outstanding > 0 or not self._subscriber.in_sync(self._now_s())

    def _schedule(self, delay_s: float) -> None:
        if self._loop is not None and self._sockets:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(delay_s, self._tick)
            self._idle = delay_s == _IDLE_TICK_S

    def _pump(self) -> None:
        """Read until there is nothing more, including what arrived while sending."""
        if self._pumping or not self._sockets:
            return
        self._pumping = True
        try:
            handled = 0
            more = True
            while more and handled < _BATCH:
                self._sent = False
                count = sum(self._read(sock) for sock in self._sockets)
                handled += count
                more = count > 0 or self._sent
            if more and self._loop is not None:
                self._loop.call_soon(self._pump)
        finally:
            self._pumping = False
        if self._idle and self._busy():
            self._schedule(RETRY_S)

    def _read(self, sock: zmq.Socket[bytes]) -> int:
        for count in range(_BATCH):
            if sock.closed:
                return 0
            try:
                data = sock.recv(zmq.NOBLOCK)
            except zmq.Again:
                return count
            if not self._lose():
                self._receive(data)
        return _BATCH

    def _receive(self, data: bytes) -> None:
        try:
            envelope = decode_from_broker(data)
        except UnknownMessage as error:
            log.warning("the bus: %s", error)
            return
        self._hear(envelope.epoch, envelope.sequence, envelope.message)
        if self._subscriber.in_sync(self._now_s()):
            self._synced.set()

    def _hear(self, epoch: str, sequence: int, message: FromBroker) -> None:
        now_s = self._now_s()
        if isinstance(message, Received):
            self._reporter.on_received(epoch, message.number)
            if not self._reporter.outstanding:
                self._confirmed.set()
        elif isinstance(message, Introduce):
            self._do(self._reporter.on_introduce(epoch, now_s))
        elif isinstance(message, Snapshot):
            self._do(self._subscriber.on_snapshot(epoch, message, now_s))
        elif isinstance(message, Accepted | Done | Refused | FleetStatus):
            return
        else:
            self._do(self._subscriber.on_announcement(epoch, sequence, message, now_s))
            if isinstance(message, Heartbeat):
                self._telling.acknowledged(epoch, message.acknowledged)
        self._do(self._reporter.on_broker(self._subscriber.epoch, now_s))
        self._telling.on_broker(self._subscriber.epoch)

    def _do(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Send):
                self._send(output)
                continue
            try:
                if isinstance(output, Deliver):
                    self._on_message(output.message)
                    if isinstance(output.message, Told):
                        known = (self._subscriber.epoch, self._subscriber.applied)
                        self._telling.heard(output.message, *known)
                elif isinstance(output, Adopt):
                    self._on_snapshot(output.view)
            except Exception:
                log.exception("a message of the bus could not be handled")

    def _send(self, output: Send) -> None:
        if not self._sockets or self._lose():
            return
        data = encode(output.message, output.epoch, output.number)
        try:
            self._sockets[1].send(data, zmq.NOBLOCK)
            self._sent = True
        except zmq.Again:
            # There is no broker; what matters is sent again.
            pass


class OperatorLine:
    """An operator's connection to the broker (`workers.asking`); not for an event loop."""

    def __init__(self, run_directory: RunDirectory) -> None:
        """Raises UnusableKeys."""
        endpoint = endpoint_of(run_directory).connectable()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = _socket(self._context, zmq.DEALER, LINGER=0)
        try:
            _connect(self._socket, endpoint.requests, endpoint.keys_dir)
        except UnusableKeys:
            self.close()
            raise

    def send(self, data: bytes) -> None:
        """Send the request; it is queued for a broker that is not there yet."""
        self._socket.send(data)

    def receive(self, timeout_s: float) -> bytes | None:
        """The broker's next answer; None when there is none in time."""
        if not self._socket.poll(max(0, round(timeout_s * 1000)), zmq.POLLIN):
            return None
        return self._socket.recv()

    def close(self) -> None:
        self._socket.close()
        self._context.term()


def _descriptor(sock: zmq.Socket[bytes]) -> int:
    fd = sock.getsockopt(zmq.FD)
    assert isinstance(fd, int)
    return fd
