"""Memory of one worker: idle, per connection, per token, per transfer.

Bytes per open handle and per namespace are measured in-process by `handles`, `namespaces`.
"""

from __future__ import annotations

import socket
import tracemalloc

from bench import cpu
from bench.fleet import SECRET, Fleet, fleet, memory_directory, token
from bench.load import request
from bench.peer import transfer
from bench.transfers import GIB, MIB
from fs9.auth.tokens import Keys
from fs9.auth.verifier import Verifier
from fs9.clock import SystemClock
from fs9.limits import Limits

_YAML = f"server: {{max_write_size_bytes: {4 * GIB}}}\n"


def run(quick: bool) -> None:
    size, tokens, connections = (8 * MIB, 200, 50) if quick else (2 * GIB, 20_000, 2000)
    rows = [("verified token, cached", f"{_token_bytes(tokens):,.0f} B")]
    with fleet(yaml=_YAML, directory=memory_directory(2 * size)) as served:
        rows.append(("one worker, idle", _mib(cpu.memory_bytes(served.worker))))
        rows.append(("idle connection", f"{_connection_bytes(served, connections):,.0f} B"))
        label = f"{size // MIB} MiB"
        for verb, name in (("put", "upload"), ("get", "download")):
            grown = _growth(served, verb, f"/api/v1/{name}?path=/big", size)
            rows.append((f"{name} of {label}: most above idle", _mib(grown)))
    print("| what | memory |\n|---|---|")
    for row in rows:
        print(f"| {row[0]} | {row[1]} |", flush=True)


def _mib(size: float) -> str:
    return f"{size / MIB:.1f} MiB"


def _growth(served: Fleet, verb: str, target: str, size: int) -> int:
    """How far the worker's resident memory rose above what it was before."""
    before = cpu.memory_bytes(served.worker)
    cpu.reset_peak(served.worker)
    transfer(verb, served.port, target, size)
    return cpu.memory_bytes(served.worker, "VmHWM") - before


def _connection_bytes(served: Fleet, count: int) -> float:
    """Per connection that has had one answer; kernel memory is not counted."""
    before = cpu.memory_bytes(served.worker)
    opened = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", served.port))
        sock.sendall(request("GET", "/api/v1/stat?path=/"))
        sock.recv(65536)
        opened.append(sock)
    grown = cpu.memory_bytes(served.worker) - before
    for sock in opened:
        sock.close()
    return grown / count


def _token_bytes(count: int) -> float:
    made = [token(f"ns{index}", sub=f"user{index}") for index in range(count)]
    verifier = Verifier(Keys.of_secrets([SECRET]), Limits(), SystemClock())
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for text in made:
        verifier.verify_nowait(text)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return used / count
