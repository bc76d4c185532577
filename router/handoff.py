"""Hands an accepted connection to the worker that owns its namespace.

The descriptor travels as SCM_RIGHTS (unix(7)) over a Unix stream to the owner's hand-off
socket, with the bytes already read from it, which always begin at the start of a request. The
owner adopts the connection and goes on parsing; the sender forgets it. The client notices
nothing.

A frame is `length, moves, requests` and then `length` bytes. The descriptor comes with the
first byte of its frame, and the kernel never merges data across two messages that carry
descriptors, so the n-th descriptor received belongs to the n-th frame.
"""

from __future__ import annotations

import array
import logging
import os
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from fs9.errors import OwnerUnavailable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger("fs9.handoff")

_HEADER = struct.Struct("!IHH")
#: Connections waiting for one owner to take them; beyond, the owner counts as unavailable.
_PENDING_MAX = 1024
_RECEIVE_BYTES = 256 * 1024
_FDS = array.array("i")


class Handed(NamedTuple):
    """What travels with the descriptor."""

    #: Bytes read and not yet answered, from the first byte of a request.
    data: bytes
    #: How often the connection was handed over within the last `requests` requests.
    moves: int
    requests: int


class HandoffSender:
    """The sending side: one Unix stream to each other slot, made when first needed."""

    def __init__(self, socket_path: Callable[[int], Path], loop: asyncio.AbstractEventLoop) -> None:
        self._socket_path = socket_path
        self._loop = loop
        self._channels: dict[int, _Channel] = {}

    def send(self, slot: int, fd: int, handed: Handed) -> None:
        """Hand a duplicate of `fd` over; the caller closes its own without shutting down.

        Raises OwnerUnavailable when the slot is not listening; nothing was handed over then.
        """
        channel = self._channels.get(slot)
        if channel is not None and channel.send(fd, handed):
            return
        channel = self._channels[slot] = _Channel(self._connect(slot), self._loop)
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


class _Channel:
    """One Unix stream; frames that do not fit now wait in order."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._sock = sock
        self._loop = loop
        self._pending: deque[tuple[int, memoryview]] = deque()

    def send(self, fd: int, handed: Handed) -> bool:
        """False when the stream is broken or overfull: nothing of this frame was sent."""
        if self._sock.fileno() < 0 or len(self._pending) >= _PENDING_MAX:
            return False
        header = _HEADER.pack(len(handed.data), handed.moves, handed.requests)
        frame = memoryview(header + handed.data)
        if self._pending:
            self._pending.append((os.dup(fd), frame))
            return True
        try:
            sent = self._sendmsg(fd, frame)
        except OSError:
            self.close()
            return False
        if sent < len(frame):
            # After the first byte the descriptor is away; before it, ours must live on.
            self._pending.append((-1 if sent else os.dup(fd), frame[sent:]))
            self._loop.add_writer(self._sock.fileno(), self._on_writable)
        return True

    def _sendmsg(self, fd: int, data: memoryview) -> int:
        try:
            if fd < 0:
                return self._sock.send(data)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
            return self._sock.sendmsg([data], [rights])
        except BlockingIOError:
            return 0

    def _on_writable(self) -> None:
        try:
            while self._pending:
                fd, data = self._pending[0]
                sent = self._sendmsg(fd, data)
                if not sent:
                    return
                if fd >= 0:
                    os.close(fd)
                if sent < len(data):
                    self._pending[0] = (-1, data[sent:])
                    return
                self._pending.popleft()
        except OSError as error:
            log.warning("lost %d connections on their way: %s", len(self._pending), error)
            self.close()
        else:
            self._loop.remove_writer(self._sock.fileno())

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
        for fd, _ in self._pending:
            if fd >= 0:
                os.close(fd)
        self._pending.clear()


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
            self._data += data
            self._take_frames()

    def _take_frames(self) -> None:
        while len(self._data) >= _HEADER.size:
            length, moves, requests = _HEADER.unpack_from(self._data)
            end = _HEADER.size + length
            if len(self._data) < end:
                return
            data = bytes(self._data[_HEADER.size : end])
            del self._data[:end]
            self._adopt(_adopted(self._fds.popleft()), Handed(data, moves, requests))

    def close(self) -> None:
        self.sock.close()
        while self._fds:
            os.close(self._fds.popleft())


def _adopted(fd: int) -> socket.socket:
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        # asyncio sets this on what it accepts itself; without it two writes meet delayed ACKs.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
