"""A server that answers as it is told, badly if need be; on a real socket, in a thread."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


from fs9.client import Client
from fs9.resilience.backoff import BackoffPolicy

QUICK = BackoffPolicy(attempts_max=4, delay_first_s=0.001, delay_max_s=0.002)


@dataclass
class Reply:
    """Bytes to send for one request, and whether the connection is cut after them."""

    raw: bytes = b""
    cut: bool = False


#: The connection breaks without an answer.
CUT = Reply(cut=True)


def answer(
    status: int = 200,
    body: bytes = b"",
    *,
    length: int | None = None,
    cut: bool = False,
    **headers: str,
) -> Reply:
    """An answer; `length` lies about the body's."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return Reply("\r\n".join(lines).encode() + b"\r\n\r\n" + body, cut)


def problem(status: int, kind: str, text: str = "x", **headers: str) -> Reply:
    body = json.dumps({"error": text, "code": status, "kind": kind}).encode()
    return answer(status, body, **headers)


def info(path: str = "/f", size: int = 0, **more: object) -> bytes:
    values = {"path": path, "size": size, "file_type": "regular", "mode": 0o644, "uid": 0}
    values |= {"gid": 0, "atime": 1, "mtime": 1, "ctime": 1, "etag": "e"}
    return json.dumps(values | more).encode()


@dataclass
class Seen:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class FakeServer:
    """Gives the replies in order, whatever is asked; the last one for ever."""

    replies: list[Reply]
    seen: list[Seen] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._connections = 0
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        for connection in self._sockets:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections += 1
            self._sockets.append(connection)
            arguments = (connection, self._connections)
            threading.Thread(target=self._serve, args=arguments, daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                method, target, _ = line.decode().split()
                headers = {}
                while (header := stream.readline().strip()) != b"":
                    name, _, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = b""
                if headers.get("transfer-encoding") == "chunked":
                    while size := int(stream.readline(), 16):
                        body += stream.read(size)
                        stream.readline()
                    stream.readline()
                else:
                    body = stream.read(int(headers.get("content-length", "0")))
                self.seen.append(Seen(method, target, headers, body, number))
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                connection.sendall(reply.raw)
                if reply.cut:
                    connection.shutdown(socket.SHUT_RDWR)
                    return


@contextlib.contextmanager
def serving(*replies: Reply, retries: BackoffPolicy = QUICK) -> Iterator[tuple[FakeServer, Client]]:
    """A server with these replies and a client for it."""
    with FakeServer(list(replies)) as server, Client(server.url, retries=retries) as client:
        yield server, client
