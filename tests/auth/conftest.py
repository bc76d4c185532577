"""A server of this host that answers one thing."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Answers:
    def __init__(self, body: bytes) -> None:
        self.status, self.body = 200, body
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(outer.status)
                self.send_header("location", "/elsewhere")
                self.send_header("content-length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                return None

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def serve_bytes() -> Iterator[Callable[[bytes], Answers]]:
    made: list[Answers] = []

    def serve(body: bytes) -> Answers:
        made.append(Answers(body))
        return made[-1]

    yield serve
    for answers in made:
        answers.close()


@pytest.fixture
def serve_raw() -> Iterator[Callable[[bytes, bytes], str]]:
    """`serve_raw(first, drips)`: the URL of a server that says so, the second for ever."""
    over = threading.Event()
    listeners, threads = [], []

    def serve(first: bytes, drips: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def answer() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(first)
                    while drips and not over.wait(0.05):
                        connection.sendall(drips)

        def serve_all() -> None:
            while not over.is_set():
                answer()

        threads.append(threading.Thread(target=serve_all))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/jwks"

    yield serve
    over.set()
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join()
