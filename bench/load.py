"""The load generator: keep-alive connections, each with one request under way at a time.

`press` starts it as a process of its own on the load core. wrk does it when it is installed,
every request is the same and there is a second at least, which is the shortest that it does; else
this module, which needs more CPU than a C program: where it is slower than the server, read the
server's CPU time per request, which stays right.
"""

from __future__ import annotations

import json
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from bench import cpu

#: Stands in a request for the id in the latest answer to an open, and is as long.
HANDLE = b"@" * 22
_HANDLE_ID = re.compile(rb'"handle_id":"([^"]{22})"')
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_WRK_LUA = """
wrk.method = "{method}"
wrk.headers = {headers}
wrk.body = {body}
"""


@dataclass
class Load:
    """`scripts[i % len(scripts)]` is what connection i sends, in order, over and over."""

    port: int
    scripts: list[list[bytes]]
    connections: int = 24


@dataclass
class Pressed:
    """What the load saw; `cpu_s` is what it cost itself."""

    requests: int
    seconds: float
    errors: int
    p50_us: float
    p99_us: float
    cpu_s: float


def request(
    method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> bytes:
    fields = {"Host": "127.0.0.1"} | (headers or {})
    if body:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def press(load: Load, seconds: float) -> Pressed:
    same = len(load.scripts) == 1 and len(load.scripts[0]) == 1
    if seconds >= 1 and same and shutil.which("wrk"):
        return _wrk(load, seconds)
    spec = {
        "port": load.port,
        "scripts": [[r.decode("latin-1") for r in script] for script in load.scripts],
        "connections": load.connections,
        "seconds": seconds,
    }
    with cpu.on_core(cpu.LOAD_CORE):
        done = subprocess.run(
            [sys.executable, "-m", "bench.load"],
            input=json.dumps(spec),
            capture_output=True,
            text=True,
            check=True,
        )
    return Pressed(**json.loads(done.stdout))


def _wrk(load: Load, seconds: float) -> Pressed:
    head, _, body = load.scripts[0][0].partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    headers = dict(field.split(": ", 1) for field in fields)
    headers.pop("Content-Length", None)
    script = _WRK_LUA.format(
        method=method,
        headers="{" + ", ".join(f'["{k}"] = "{v}"' for k, v in headers.items()) + "}",
        body=f'"{body.decode()}"' if body else "nil",
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as lua:
        lua.write(script)
        lua.flush()
        command = ["wrk", "-t1", f"-c{load.connections}", f"-d{round(seconds)}s"]
        command += [
            "--latency",
            "--timeout",
            "30s",
            "-s",
            lua.name,
            f"http://127.0.0.1:{load.port}{target}",
        ]
        with cpu.on_core(cpu.LOAD_CORE):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        text = ""
        spent_s = 0.0
        for line in process.stdout:  # wrk writes at its end: what it used is still readable
            text += line
            spent_s = max(spent_s, cpu.used_s(process.pid))
        process.wait()
        process.stdout.close()
    return _read_wrk(text, spent_s)


def _read_wrk(text: str, cpu_s: float) -> Pressed:
    done = re.search(r"(\d+) requests in ([\d.]+)(s|m)", text)
    assert done is not None, text
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: .*", text)
    unit = {"us": 1.0, "ms": 1e3, "s": 1e6}
    parts = {p: float(v) * unit[u] for p, v, u in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", text)}
    return Pressed(
        requests=int(done[1]),
        seconds=float(done[2]) * (60 if done[3] == "m" else 1),
        errors=(int(bad[1]) if bad else 0) + (1 if broken else 0),
        p50_us=parts.get("50", 0.0),
        p99_us=parts.get("99", 0.0),
        cpu_s=cpu_s,
    )


class _Connection:
    __slots__ = ("answer", "handle", "script", "sent_s", "sock", "step")

    def __init__(self, port: int, script: list[bytes]) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.script = script
        self.step = -1
        self.answer = b""
        self.handle = HANDLE
        self.sent_s = 0.0

    def send_next(self) -> None:
        self.step = (self.step + 1) % len(self.script)
        data = self.script[self.step]
        if HANDLE in data:
            data = data.replace(HANDLE, self.handle)
        self.sent_s = time.perf_counter()
        self.sock.sendall(data)

    def take(self) -> bool | None:
        """Read; None when the answer is not whole, else whether it was a success."""
        data = self.answer + self.sock.recv(262144) if self.answer else self.sock.recv(262144)
        if not data:
            raise ConnectionError("the server closed a connection")
        end = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, end + 2) if end >= 0 else None
        if end < 0 or (length and len(data) < end + 4 + int(length[1])):
            self.answer = data
            return None
        self.answer = b""
        if self.step == 0 and (opened := _HANDLE_ID.search(data, end)):
            self.handle = opened[1]
        return data.startswith((b"HTTP/1.1 2", b"HTTP/1.1 304"))


def generate(port: int, scripts: list[list[bytes]], connections: int, seconds: float) -> Pressed:
    """Press from this process."""
    poll = select.epoll()
    open_: dict[int, _Connection] = {}
    for index in range(connections):
        connection = _Connection(port, scripts[index % len(scripts)])
        open_[connection.sock.fileno()] = connection
        poll.register(connection.sock, select.EPOLLIN)
    start_s = time.perf_counter()
    for connection in open_.values():
        connection.send_next()
    end_s = start_s + seconds
    waits: list[float] = []
    errors = 0
    while (now_s := time.perf_counter()) < end_s:
        for fd, _ in poll.poll(0.5):
            connection = open_[fd]
            good = connection.take()
            if good is not None:
                errors += not good
                waits.append(time.perf_counter() - connection.sent_s)
                connection.send_next()
    for connection in open_.values():
        connection.sock.close()
    waits.sort()
    return Pressed(
        requests=len(waits),
        seconds=now_s - start_s,
        errors=errors,
        p50_us=waits[len(waits) // 2] * 1e6 if waits else 0.0,
        p99_us=waits[len(waits) * 99 // 100] * 1e6 if waits else 0.0,
        cpu_s=time.process_time(),
    )


if __name__ == "__main__":
    given = json.load(sys.stdin)
    given["scripts"] = [[r.encode("latin-1") for r in script] for script in given["scripts"]]
    print(json.dumps(vars(generate(**given))))
