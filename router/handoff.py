"""Hands an accepted connection to the worker that owns its namespace.

The descriptor travels as SCM_RIGHTS (unix(7)) over a Unix stream to the owner's hand-off
socket, with the bytes already read from it, which always begin at the start of a request. The
owner adopts the connection and goes on parsing; the sender forgets it. The client notices
nothing.

A frame is `length, moves, requests, view` and then `length` bytes. The descriptor comes with the
first byte of its frame, and the kernel never merges data across two messages that carry
descriptors, so the n-th descriptor received belongs to the n-th frame.

A frame is an offer. For each one the sender puts a byte into a pipe that both have, and takes it
out again when the owner has not taken the connection within `TAKE_S`, because it hangs or was
stopped. Whoever gets the byte has the connection, so no request is answered twice, even if the
owner wakes up later. The pipe travels before the first frame.

The owner answers each frame with one byte before it looks at the connection. Until then the sender
keeps a duplicate: if the owner dies first, nobody has begun to answer the request, and the sender
takes the connection back. An owner that was silent is offered nothing until it gives a sign of
life, or another process takes its place.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from fs9.errors import OwnerUnavailable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

_HEADER = struct.Struct("!IHHQ")
#: Connections waiting for one owner to take them; beyond, the owner counts as unavailable.
_PENDING_MAX = 1024
_RECEIVE_BYTES = 256 * 1024
_FDS = array.array("i")
_RIGHTS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)
#: What the owner says of an offer: it has taken it, or had none to take.
_TAKEN, _DECLINED = b"\x01", b"\x00"
_CLAIM = b"\x01"
#: The first byte of a stream: the language that follows.
_VERSION = b"\x02"
#: An owner that lives takes an offer within this.
TAKE_S = 2.0


class Handed(NamedTuple):
    """What travels with the descriptor."""

    #: Bytes read and not yet answered, from the first byte of a request.
    data: bytes
    #: How often the connection was handed over within the last `requests` requests.
    moves: int
    requests: int
    #: The number of the view by which it was sent here.
    view: int = 0


class HandoffSender:
    """The sending side: one Unix stream to each other slot, made when first needed.

    `take_back` gets the connections that an owner did not take: it died, or hangs.
    """

    def __init__(
        self,
        socket_path: Callable[[int], Path],
        take_back: Callable[[socket.socket, Handed], None],
        loop: asyncio.AbstractEventLoop,
        take_s: float = TAKE_S,
    ) -> None:
        self._socket_path = socket_path
        self._take_back = take_back
        self._loop = loop
        self._take_s = take_s
        self._channels: dict[int, _Channel] = {}

    def send(self, slot: int, fd: int, handed: Handed) -> None:
        """Hand a duplicate of `fd` over; the caller closes its own without shutting down.

        Raises OwnerUnavailable when the slot is not listening, or does not answer; nothing was
        handed over then.
        """
        channel = self._channels.get(slot)
        if channel is None or not channel.open:
            channel = _Channel(self._connect(slot), self._take_back, self._loop, self._take_s)
            self._channels[slot] = channel
        if channel.silent:
            raise OwnerUnavailable(f"slot {slot} does not answer")
        if not channel.send(fd, handed):
            raise OwnerUnavailable(f"slot {slot} is not taking connections")

    def _connect(self, slot: int) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(os.fspath(self._socket_path(slot)))
        except OSError as error:
            sock.close()
            raise OwnerUnavailable(f"slot {slot} is starting") from error
        return sock

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()


class _Sent:
    """A connection on its way: our duplicate of it, and what is not written of its frame."""

    __slots__ = ("fd", "handed", "rest", "since_s")

    def __init__(self, fd: int, handed: Handed, since_s: float) -> None:
        self.fd = os.dup(fd)
        self.handed = handed
        self.since_s = since_s
        header = _HEADER.pack(len(handed.data), handed.moves, handed.requests, handed.view)
        self.rest = memoryview(header + handed.data)

    @property
    def begun(self) -> bool:
        """Is a part of the frame, and with it the descriptor, written?"""
        return len(self.rest) < _HEADER.size + len(self.handed.data)


class _Channel:
    """One Unix stream to an owner. `_unwritten` is the end of `_untaken`, in the same order."""

    def __init__(
        self,
        sock: socket.socket,
        take_back: Callable[[socket.socket, Handed], None],
        loop: asyncio.AbstractEventLoop,
        take_s: float,
    ) -> None:
        self._sock = sock
        self._take_back = take_back
        self._loop = loop
        self._take_s = take_s
        self._untaken: deque[_Sent] = deque()
        self._unwritten: deque[_Sent] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.open = True
        #: Did the owner let an offer lie? Then nothing is offered on this stream any more.
        self.silent = False
        self._claims, self._claims_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # A new stream has room for it.
        sock.sendmsg([_VERSION], [(*_RIGHTS, array.array("i", [self._claims]))])
        loop.add_reader(sock.fileno(), self._on_readable)

    def send(self, fd: int, handed: Handed) -> bool:
        """Queue it; False when too many wait already, and the caller keeps the connection."""
        if len(self._untaken) >= _PENDING_MAX:
            return False
        sent = _Sent(fd, handed, self._loop.time())
        os.write(self._claims_end, _CLAIM)
        self._untaken.append(sent)
        self._unwritten.append(sent)
        if self._timer is None:
            self._timer = self._loop.call_later(self._take_s, self._look_at_oldest)
        if len(self._unwritten) == 1:
            self._write()
            if self._unwritten and self.open:
                self._loop.add_writer(self._sock.fileno(), self._on_writable)
        return True

    def _on_writable(self) -> None:
        self._write()
        if not self._unwritten and self.open:
            self._loop.remove_writer(self._sock.fileno())

    def _write(self) -> None:
        try:
            while self._unwritten:
                sent = self._unwritten[0]
                rights = [] if sent.begun else [(*_RIGHTS, array.array("i", [sent.fd]))]
                sent.rest = sent.rest[self._sock.sendmsg([sent.rest], rights) :]
                if sent.rest:
                    return
                self._unwritten.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._break()

    def _on_readable(self) -> None:
        try:
            answers = self._sock.recv(_PENDING_MAX)
        except BlockingIOError:
            return
        except OSError:
            answers = b""
        if not answers:
            self._break()
        for _ in range(min(answers.count(_TAKEN), len(self._untaken))):
            os.close(self._untaken.popleft().fd)
        if self.silent and answers and not self._untaken:
            self.close()  # it lives; the next offer goes by a new stream

    def _look_at_oldest(self) -> None:
        self._timer = None
        if not self._untaken:
            return
        wait_s = self._untaken[0].since_s + self._take_s - self._loop.time()
        if wait_s > 0:
            self._timer = self._loop.call_later(wait_s, self._look_at_oldest)
        else:
            self._withdraw()

    def _withdraw(self) -> None:
        """Take back what the owner has not claimed: the last ones, because it claims in order."""
        self.silent = True
        try:
            ours = len(os.read(self._claims, _PENDING_MAX))
        except BlockingIOError:
            ours = 0
        # Of a frame that is begun the owner gets the rest, and declines it: its sign of life.
        self._unwritten = deque(sent for sent in self._unwritten if sent.begun)
        for sent in [self._untaken.pop() for _ in range(ours)][::-1]:
            self._loop.call_soon(self._take_back, _adopted(sent.fd), sent.handed)

    def _break(self) -> None:
        """Take back all connections that the owner has not taken: it is gone."""
        untaken = list(self._untaken)
        self._untaken.clear()
        self.close()
        for sent in untaken:
            # Not from within `send`: its caller has not let go of the connection yet.
            self._loop.call_soon(self._take_back, _adopted(sent.fd), sent.handed)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.open:
            self.open = False
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            os.close(self._claims)
            os.close(self._claims_end)
        for sent in self._untaken:
            os.close(sent.fd)
        self._untaken.clear()
        self._unwritten.clear()


class HandoffReceiver:
    """The owner's side: listens at `path` and gives every connection to `adopt`."""

    def __init__(
        self,
        path: Path,
        adopt: Callable[[socket.socket, Handed], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._adopt = adopt
        self._loop = loop
        self._peers: set[_Peer] = set()
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.bind(os.fspath(path))
        self._listener.listen(128)
        loop.add_reader(self._listener.fileno(), self._on_peer)

    def _on_peer(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        peer = _Peer(sock, self._adopt)
        self._peers.add(peer)
        self._loop.add_reader(sock.fileno(), self._on_readable, peer)

    def _on_readable(self, peer: _Peer) -> None:
        if not peer.receive():
            self._drop(peer)

    def _drop(self, peer: _Peer) -> None:
        self._loop.remove_reader(peer.sock.fileno())
        self._peers.discard(peer)
        peer.close()

    def close(self) -> None:
        """Stop listening; connections still on their way are adopted first."""
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for peer in list(self._peers):
            peer.receive()
            self._drop(peer)


class _Peer:
    """One sender's stream."""

    def __init__(self, sock: socket.socket, adopt: Callable[[socket.socket, Handed], None]) -> None:
        self.sock = sock
        self._adopt = adopt
        #: Where offers are claimed; the first descriptor that comes.
        self._claims: int | None = None
        self._fds: deque[int] = deque()
        self._data = bytearray()

    def receive(self) -> bool:
        """Adopt what has arrived; False at the end of the stream."""
        while True:
            try:
                data, ancillary, _, _ = self.sock.recvmsg(
                    _RECEIVE_BYTES, socket.CMSG_SPACE(_FDS.itemsize), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            for _, _, rights in ancillary:
                self._fds.extend(array.array("i", rights[: _FDS.itemsize]))
            if self._claims is None:
                if data[:1] != _VERSION:
                    return False  # of another version of the program
                self._claims, data = self._fds.popleft(), data[1:]
            self._data += data
            self._take_frames(self._claims)

    def _take_frames(self, claims: int) -> None:
        while len(self._data) >= _HEADER.size:
            length, moves, requests, view = _HEADER.unpack_from(self._data)
            end = _HEADER.size + length
            if len(self._data) < end:
                return
            data = bytes(self._data[_HEADER.size : end])
            del self._data[:end]
            fd = self._fds.popleft()
            if _claimed(claims):
                self._say(_TAKEN)
                self._adopt(_adopted(fd), Handed(data, moves, requests, view))
            else:
                os.close(fd)
                self._say(_DECLINED)

    def _say(self, what: bytes) -> None:
        """Confirm to the sender; one that cannot be reached is gone, and its duplicate with it."""
        with suppress(OSError):
            self.sock.send(what)

    def close(self) -> None:
        self.sock.close()
        if self._claims is not None:
            os.close(self._claims)
        while self._fds:
            os.close(self._fds.popleft())


def _claimed(claims: int) -> bool:
    """Claim the next connection; False when its sender has taken it back."""
    try:
        return os.read(claims, 1) == _CLAIM
    except BlockingIOError:
        return False


def _adopted(fd: int) -> socket.socket:
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        # asyncio sets this on what it accepts itself; without it two writes meet delayed ACKs.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
