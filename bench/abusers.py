"""The forms of abuse that `bench.abuse` measures, and the sink that stands for a server.

An abuser is a process on the load core, like the others whom it disturbs, but with SCHED_IDLE
(sched(7)): it runs only when they do not want to. An abuser's machine is not the others', and
they must not be late because they share a processor with it. The sink runs on the server's core
with SCHED_IDLE, too: it takes nothing from the worker but what its system calls take.

Nobody here waits for the whole of an answer: each recv that brings something is one.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench import cpu
from bench.fleet import bearer, token
from bench.load import request

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What one user may ask in a second.
LIMIT_QPS = 100
_ABUSE_QPS = 100 * LIMIT_QPS
#: Limits by address are not what the others are to pay for, nor those who keep to their limit.
ABUSER_FROM, OTHERS_FROM, _MODEST_FROM = "127.0.0.2", "127.0.0.3", "127.0.0.4"
ABUSIVE, MODEST = "abusive", "modest"
_STAT = "/api/v1/stat?path=/"
_TICK_S = 0.01
#: Requests that a sink answers in a second: about what fs9 answers somebody who is limited.
_SINK_ANSWERS_PER_S = 130
_REFUSAL = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True)
class Form:
    """`rate`: requests in a second, sent whether the earlier ones are answered or not; 0: each
    connection asks again as soon as it is answered. `churn`: each request on a new connection.
    `forged`: with tokens that do not hold, each another one. `body_bytes`: of an upload.
    `at_once`: requests that a connection sends together, one behind the other."""

    name: str
    connections: int
    rate: int = 0
    churn: bool = False
    forged: bool = False
    body_bytes: int = 0
    at_once: int = 1
    tenant: str = ABUSIVE
    address: str = ABUSER_FROM

    def within_limit(self) -> Form:
        """The same by a tenant with good tokens who asks as often as it may."""
        return replace(
            self, rate=LIMIT_QPS, at_once=1, forged=False, tenant=MODEST, address=_MODEST_FROM
        )


FORMS = (
    Form("50 connections, each asks again at once", 50),
    Form("500 connections, each asks again at once", 500),
    Form("10,000 requests/s on 50 connections", 50, _ABUSE_QPS, at_once=10),
    Form("10,000 requests/s on 1,000 connections", 1000, _ABUSE_QPS, at_once=10),
    Form("a new connection for each, 50 at a time", 50, churn=True),
    Form("10,000 new connections/s, or as many as it can", 500, _ABUSE_QPS, churn=True),
    Form("uploads of 1 MiB, 50 connections", 50, body_bytes=1 << 20),
    Form("10,000 forged tokens/s on 50 connections", 50, _ABUSE_QPS, forged=True, at_once=10),
)


@contextlib.contextmanager
def abuse(form: Form, port: int, *, sink: bool) -> Iterator[None]:
    """Press the server at the port, or a sink in its place, until the end of the block."""
    with contextlib.ExitStack() as stack:
        if sink:
            listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
            port = listener.getsockname()[1]
            given = {"what": "sink", "fd": listener.fileno(), "churn": form.churn}
            stack.enter_context(
                start("bench.abusers", given, core=cpu.SERVER_CORE, fds=(listener.fileno(),))
            )
            listener.close()
        given = {"what": "abuser", "port": port, "form": vars(form)}
        process = stack.enter_context(start("bench.abusers", given))
        yield
        if process.poll() is not None:
            raise RuntimeError("the abuser gave up")


@contextlib.contextmanager
def start(
    module: str,
    given: dict[str, Any],
    *,
    core: int | None = cpu.LOAD_CORE,
    fds: tuple[int, ...] = (),
) -> Iterator[subprocess.Popen[str]]:
    """Run a module in a process of its own, which is killed at the end of the block.

    It is told in one line of its input what to do. Its input ends with `communicate`.
    """
    with contextlib.nullcontext() if core is None else cpu.on_core(core):
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=fds,
        )
    assert process.stdin is not None
    process.stdin.write(json.dumps(given) + "\n")
    process.stdin.flush()
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def connect(port: int, address: str, *, wait: bool = True) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(wait)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Without a port yet: else an address would have 28,000 connections in a minute, and no more.
    sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind((address, 0))
    sock.connect_ex(("127.0.0.1", port))
    return sock


_IP_BIND_ADDRESS_NO_PORT = 24
#: A close that resets: thousands of connections in TIME_WAIT would use up the ports.
_RESET = (1).to_bytes(4, sys.byteorder) + bytes(4)


# -- In processes of their own --------------------------------------------------------------


class _Abuser:
    def __init__(self, port: int, form: Form) -> None:
        self._port = port
        self._form = form
        self._poll = select.epoll()
        self._socks: dict[int, socket.socket] = {}
        #: What the kernel has not taken yet of a request, by connection.
        self._unsent: dict[int, memoryview] = {}
        #: Connections that have not had their turn.
        self._turns: list[int] = []
        self._wires = _wires(form)
        self._number = 0

    def press(self) -> None:
        """Until killed."""
        form = self._form
        if not (form.churn and form.rate):
            for _ in range(form.connections):
                self._open(ask=not form.rate)
        due_s = time.perf_counter()
        while True:
            if not form.rate:
                self._hear(1.0)
                continue
            # Many at a time: that saves the abuser the most of what it costs, and the others
            # the most of what it costs them that it runs on their core.
            due_s = max(due_s + _TICK_S, time.perf_counter() - 1.0)
            for _ in range(int(form.rate * _TICK_S) // form.at_once):
                self._ask_unanswered()
            self._hear(0.0)
            time.sleep(max(0.0, due_s - time.perf_counter()))

    def _ask_unanswered(self) -> None:
        if self._form.churn:
            if len(self._socks) >= self._form.connections:
                self._close(next(iter(self._socks)))
            self._open(ask=True)
        else:
            if not self._turns:
                self._turns = list(self._socks)
            self._ask(self._turns.pop())

    def _open(self, *, ask: bool) -> None:
        sock = connect(self._port, self._form.address, wait=False)
        self._socks[sock.fileno()] = sock
        self._poll.register(sock, select.EPOLLIN)
        if ask:
            self._ask(sock.fileno())

    def _ask(self, fd: int) -> None:
        self._number += 1
        if fd not in self._unsent and fd in self._socks:
            self._send(fd, memoryview(self._wires[self._number % len(self._wires)]))

    def _send(self, fd: int, data: memoryview) -> None:
        try:
            sent = self._socks[fd].send(data)
        except BlockingIOError:
            # Of a small request nothing is owed: it is one that was not made.
            sent = 0 if self._form.body_bytes else len(data)
        except OSError:
            self._replace(fd)
            return
        if sent < len(data):
            self._unsent[fd] = data[sent:]
            self._poll.modify(fd, select.EPOLLIN | select.EPOLLOUT)
        elif self._unsent.pop(fd, None) is not None:
            self._poll.modify(fd, select.EPOLLIN)

    def _hear(self, wait_s: float) -> None:
        for fd, events in self._poll.poll(wait_s):
            if fd not in self._socks:
                continue
            if events & select.EPOLLOUT and fd in self._unsent:
                self._send(fd, self._unsent[fd])
            if fd in self._socks and events & ~select.EPOLLOUT:
                self._take(fd)

    def _take(self, fd: int) -> None:
        try:
            answered = self._socks[fd].recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            answered = b""
        if not answered or (self._form.churn and not self._form.rate):
            self._replace(fd)
        elif not self._form.rate:
            self._ask(fd)

    def _replace(self, fd: int) -> None:
        self._close(fd)
        if not (self._form.churn and self._form.rate):
            self._open(ask=not self._form.rate)

    def _close(self, fd: int) -> None:
        sock = self._socks.pop(fd)
        self._unsent.pop(fd, None)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.close()


def _wires(form: Form) -> list[bytes]:
    """What is sent at once, each a different one when tokens are forged."""
    good = token(form.tenant, sub=form.tenant)
    if form.forged:
        head, _, signature = good.rpartition(".")
        forged = (f"{head}.{number:06}{signature[6:]}" for number in range(2000))
        wires = [request("GET", _STAT, headers=bearer(each)) for each in forged]
    elif form.body_bytes:
        body = b"x" * form.body_bytes
        wires = [request("PUT", "/api/v1/upload?path=/f", body, bearer(good))]
    else:
        wires = [request("GET", _STAT, headers=bearer(good))] * form.at_once
    return [
        b"".join(wires[number : number + form.at_once])
        for number in range(0, len(wires), form.at_once)
    ]


def _sink(fd: int, *, churn: bool) -> None:
    """Read and drop all that comes, and answer as many as a limited server would."""
    listener = socket.socket(fileno=fd)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    socks: dict[int, socket.socket] = {}
    asking: dict[int, None] = {}
    due = 0.0
    while True:
        for ready, _ in poll.poll(0.0):
            if ready == fd:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sock, _ = listener.accept()
                        sock.setblocking(False)
                        socks[sock.fileno()] = sock
                        poll.register(sock, select.EPOLLIN)
            else:
                dropped = b""
                with contextlib.suppress(OSError):
                    dropped = socks[ready].recv(1 << 18)
                if dropped:
                    asking[ready] = None
                else:
                    asking.pop(ready, None)
                    socks.pop(ready).close()
        due += _SINK_ANSWERS_PER_S * _TICK_S
        for ready in list(asking)[: int(due)]:
            del asking[ready]
            with contextlib.suppress(OSError):
                socks[ready].send(_REFUSAL)
            if churn:
                socks.pop(ready).close()
        due -= int(due)
        time.sleep(_TICK_S)


if __name__ == "__main__":
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    told = json.loads(sys.stdin.readline())
    if told["what"] == "sink":
        _sink(told["fd"], churn=told["churn"])
    else:
        _Abuser(told["port"], Form(**told["form"])).press()
