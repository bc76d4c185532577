"""The process of one mount: loads the plugin, and makes its calls.

Each of a few threads takes a request from the socket, makes the call and writes the answer; no
thread hands work to another, which would cost more than most calls. A call that hangs keeps its
thread. The worker has the deadlines, and kills the process.

It ends when the worker ends, however the worker dies: the kernel kills it (prctl(2)), and the
socket is closed.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from fs9.errors import Fs9Error, Internal
from fs9.providers.native import frames
from fs9.providers.native.abi import libc
from fs9.providers.native.calls import Instance
from fs9.providers.native.library import Library
from fs9.providers.native.tree import Tree

if TYPE_CHECKING:
    import socket

    from fs9.types import Buffer

_PR_SET_PDEATHSIG = 1


def serve(
    connection: socket.socket,
    parent: int,
    path: str,
    config: bytes | None,
    threads: int,
    file_bytes_max: int,
) -> None:
    """Load the plugin, say Ready or Failed, answer until the end of the connection.

    `parent` is the worker's process. Without a config (None) the library is only looked at.
    """
    _die_with(parent)
    channel = Channel(connection)
    try:
        library = Library(Path(path))
        if config is None:
            channel.answer(0, frames.Ready(library.name, library.version, 0), b"")
            return
        tree = Tree(Instance(library, config), file_bytes_max)
    except Fs9Error as error:
        channel.answer(0, frames.Failed.of(error), b"")
        return
    channel.answer(0, frames.Ready(library.name, library.version, tree.capabilities), b"")
    for number in range(threads - 1):
        threading.Thread(
            target=_answer_all, args=(channel, tree), name=f"fs9-plugin-{number}", daemon=True
        ).start()
    _answer_all(channel, tree)


def _die_with(parent: int) -> None:
    # The worker ends this process in order; a signal to the whole group must not come before.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os._exit(1)


def _answer_all(channel: Channel, tree: Tree) -> None:
    while True:
        frame = channel.next()
        if frame is None:
            # Not the usual end of a program: other threads may be inside the plugin, and
            # what it registered for the exit would pull the ground from under them.
            os._exit(0)
        number, request, data = frame
        answer: frames.Answer
        try:
            answer, content = tree.handle(request, data)
        except Fs9Error as error:
            answer, content = frames.Failed.of(error), b""
        except Exception as error:  # a bug here must not take a thread away
            answer, content = frames.Failed.of(Internal(repr(error))), b""
        channel.answer(number, answer, content)
        if isinstance(request, frames.End):
            os._exit(0)


class Channel:
    """The socket to the worker, for several threads."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reading = threading.Lock()
        self._writing = threading.Lock()

    def next(self) -> tuple[int, frames.Request, Buffer] | None:
        """The next request; None: the worker has gone, or ended the connection."""
        try:
            with self._reading:
                header = self._receive(frames.HEADER.size)
                number, message_size, data_size = frames.HEADER.unpack(header)
                body = memoryview(self._receive(message_size + data_size))
        except (EOFError, ConnectionError):
            return None
        return number, frames.decode_request(body[:message_size]), body[message_size:]

    def _receive(self, size: int) -> bytearray:
        received = bytearray(size)
        view = memoryview(received)
        while view:
            count = self._socket.recv_into(view)
            if not count:
                raise EOFError
            view = view[count:]
        return received

    def answer(self, number: int, answer: frames.Answer, data: bytes) -> None:
        message = frames.encode(answer)
        head = frames.HEADER.pack(number, len(message), len(data)) + message
        try:
            with self._writing:
                sent = self._socket.sendmsg([head, data])
                if sent < len(head):
                    self._socket.sendall(head[sent:])
                    sent = len(head)
                if sent < len(head) + len(data):
                    self._socket.sendall(memoryview(data)[sent - len(head) :])
        except ConnectionError:  # the worker has gone; the next read says so
            return
