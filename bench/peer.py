"""The other end of a large transfer, in a process of its own, and the blocking baseline.

`python -m bench.peer get|put|sink PORT TARGET BYTES [HEADER...]`: `get` reads a body and drops
it, `put` sends one from memory, `sink` is the fastest server of an upload that Python can be:
a blocking recv_into + pwrite loop that answers when all is written, into the old file, or, for
the target `/aside`, into a new one that replaces it.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from bench import cpu

if TYPE_CHECKING:
    from pathlib import Path

_PIECE = 1024 * 1024


def transfer(
    verb: str, port: int, target: str, size: int, headers: dict[str, str] | None = None
) -> tuple[float, float]:
    """(seconds, CPU seconds of the peer) of one `get` or `put`, from the load core."""
    fields = [f"{name}: {value}" for name, value in (headers or {}).items()]
    command = [sys.executable, "-m", "bench.peer", verb, str(port), target, str(size), *fields]
    with cpu.on_core(cpu.LOAD_CORE):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{verb} {target}: {done.stderr}")
    seconds, used_s = map(float, done.stdout.split())
    return seconds, used_s


def start_sink(port: int, path: Path, size: int) -> subprocess.Popen[bytes]:
    """The blocking server, listening when this returns; it serves uploads until it is killed."""
    command = [sys.executable, "-m", "bench.peer", "sink", str(port), str(path), str(size)]
    with cpu.on_core(cpu.SERVER_CORE):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def get(port: int, target: str, size: int, fields: list[str]) -> None:
    sock = _connect(port)
    sock.sendall(_head("GET", target, fields))
    buffer = bytearray(_PIECE)
    got = sock.recv_into(buffer)
    head, _, rest = bytes(buffer[:got]).partition(b"\r\n\r\n")
    _check(head)
    left = size - len(rest)
    while left:
        got = sock.recv_into(buffer, min(left, _PIECE))
        if not got:
            raise ConnectionError(f"{left} bytes are missing")
        left -= got


def put(port: int, target: str, size: int, fields: list[str]) -> None:
    sock = _connect(port)
    sock.sendall(_head("PUT", target, [f"Content-Length: {size}", *fields]))
    piece = memoryview(os.urandom(_PIECE))
    left = size
    while left:
        left -= sock.send(piece[: min(left, _PIECE)])
    _check(sock.recv(65536))


def sink(port: int, path: str, size: int) -> None:
    buffer = bytearray(_PIECE)
    view = memoryview(buffer)
    with socket.create_server(("127.0.0.1", port)) as listener:
        print("listening", flush=True)
        while True:
            sock, _ = listener.accept()
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(4096)
            # `/aside` keeps the old file until the new one is whole, as an upload must.
            aside = head.startswith(b"PUT /aside")
            new = path + ".new" if aside else path
            fd = os.open(new, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
            offset = os.pwrite(fd, head.partition(b"\r\n\r\n")[2], 0)
            while offset < size:
                got = sock.recv_into(buffer)
                if not got:
                    break
                offset += os.pwrite(fd, view[:got], offset)
            if os.environ.get("BENCH_SYNC"):
                os.fsync(fd)
            os.close(fd)
            if aside:
                os.rename(new, path)
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            sock.close()


def _connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _head(method: str, target: str, fields: list[str]) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: bench", *fields, "", ""]).encode()


def _check(head: bytes) -> None:
    if not re.match(rb"HTTP/1.1 2", head):
        raise RuntimeError(head[:500].decode(errors="replace"))


def main(verb: str, port: str, target: str, size: str, *fields: str) -> None:
    if verb == "sink":
        sink(int(port), target, int(size))
    start_s = time.perf_counter()
    {"get": get, "put": put}[verb](int(port), target, int(size), list(fields))
    print(time.perf_counter() - start_s, time.process_time())


if __name__ == "__main__":
    main(*sys.argv[1:])
