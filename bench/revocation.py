"""Revocations: from the order to the last worker's refusal, and what half a million cost.

One broker in this process and N workers in processes of their own (uvloop, ipc), each with its
client of the bus and a verifier that has the token in its cache, all on the cores of this
machine. Worker 0 revokes a token by the bus, as `POST /auth/revoke` does after the store has it,
and waits until all have acknowledged; every worker writes down when its verifier refused. The
same for a change of a namespace, and both with 30 % of all messages lost at each client, in both
directions. Not in it: the store's commit, and the request itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import mmap
import os
import random
import signal
import statistics
import struct
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from fs9.auth.revocations import Revocations
from fs9.auth.tokens import Keys, sign
from fs9.auth.verifier import Verifier
from fs9.clock import SystemClock
from fs9.errors import Unauthenticated
from fs9.limits import Limits
from fs9.meta.announce import Change, NamespaceChanged, Revoked
from fs9.meta.models import Revocation
from fs9.principal import Principal
from router import messages
from router.messages import Joined, Ready, Status
from workers.broker import Broker
from workers.bus import BusClient
from workers.changes import from_message, to_message
from workers.slots import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORKERS = (2, 8, 32)
_LOSS = 0.3
_START_S = 60.0
_DEADLINE_S = 10.0
_ENTRIES = 500_000
_SECRET = "a secret of the benchmark, longer than 32 bytes"
_TIME = struct.Struct("d")


def run(quick: bool) -> None:
    _memory(5_000 if quick else _ENTRIES)
    counts = _WORKERS[:1] if quick else _WORKERS
    print("\n| what | lost | workers | p50 ms | p99 ms | worst ms | all told, p99 ms | times |")
    print("|---|---|---|---|---|---|---|---|")
    for loss, times in ((0.0, 5 if quick else 300), (_LOSS, 3 if quick else 100)):
        for workers in counts:
            for what in ("revoked → refused", "namespace changed → known"):
                late, told = _measure(workers, loss, times, what.startswith("revoked"))
                row = f"| {what} | {loss:.0%} | {workers} | {_row(late)} | {_p99(told):.1f}"
                print(f"{row} | {times} |", flush=True)


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98] * 1000


def _row(times: list[float]) -> str:
    return f"{statistics.median(times) * 1000:.1f} | {_p99(times):.1f} | {max(times) * 1000:.1f}"


def _memory(entries: int) -> None:
    gc.collect()
    revocations = Revocations()
    tracemalloc.start()
    begun_s, now_s = time.monotonic(), int(time.time())
    for number in range(entries):
        digest = hashlib.sha256(b"%d" % number).hexdigest()
        revocations.add(Revocation("token", digest, None, now_s + 3600, now_s, "root"))
    added_s = time.monotonic() - begun_s
    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    someone = Principal("alice", "acme", credential=hashlib.sha256(b"x").digest())
    begun_s = time.monotonic()
    for _ in range(100_000):
        revocations.mean(someone)
    look_us = (time.monotonic() - begun_s) * 10
    print(f"\n{entries:,} revocations: {size_bytes / 1e6:.1f} MB in each worker,", end=" ")
    print(f"{size_bytes / entries:.1f} bytes each; a look takes {look_us:.1f} µs,", end=" ")
    print(f"adding one {added_s / entries * 1e6:.0f} µs (with tracemalloc)", flush=True)


class _Clocks:
    """When each worker had applied the change in question; shared memory of all processes."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._memory = mmap.mmap(-1, _TIME.size * (workers + 2))

    def write(self, at: int, time_s: float) -> None:
        _TIME.pack_into(self._memory, at * _TIME.size, time_s)

    def read(self, at: int) -> float:
        return float(_TIME.unpack_from(self._memory, at * _TIME.size)[0])

    def last(self) -> float:
        """Of all workers; 0 when one has not applied it yet."""
        times = [self.read(slot) for slot in range(self._workers)]
        return max(times) if all(times) else 0.0

    def clear(self) -> None:
        for at in range(self._workers + 2):
            self.write(at, 0.0)


def _measure(
    workers: int, loss: float, times: int, revoke: bool
) -> tuple[list[float], list[float]]:
    """Seconds until the last worker knew, and until the first was told that all know."""
    clocks, order = _Clocks(workers), mmap.mmap(-1, 8)
    late, told = [], []
    with _bus(workers, loss, revoke, clocks, order, times) as broker:
        for number in range(1, times + 1):
            clocks.clear()
            order[:] = number.to_bytes(8, "big")
            end_s = time.monotonic() + _DEADLINE_S
            while not (clocks.last() and clocks.read(workers + 1)):
                assert time.monotonic() < end_s, "the workers have not heard of it"
                broker.step(0.002)
            begun_s = clocks.read(workers)
            late.append(clocks.last() - begun_s)
            told.append(clocks.read(workers + 1) - begun_s)
    return late, told


@contextlib.contextmanager
def _bus(
    workers: int, loss: float, revoke: bool, clocks: _Clocks, order: mmap.mmap, times: int
) -> Iterator[Broker]:
    with tempfile.TemporaryDirectory() as directory:
        run_directory = RunDirectory(Path(directory) / "run")
        run_directory.create()
        pids, now_s = [], int(time.time())
        for slot in range(workers):
            pid = os.fork()
            if not pid:
                try:
                    uvloop.run(
                        _work(
                            run_directory, slot, loss, revoke, clocks, order, workers, times, now_s
                        )
                    )
                finally:
                    os._exit(1)
            pids.append(pid)
        broker = Broker(run_directory, workers)
        try:
            end_s = time.monotonic() + _START_S
            state = broker.state
            while len(state.view.serving) < workers or state.acknowledged < state.sequence:
                assert time.monotonic() < end_s, "the workers did not come"
                broker.step()
            yield broker
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            broker.close()


async def _work(
    run_directory: RunDirectory,
    slot: int,
    loss: float,
    revoke: bool,
    clocks: _Clocks,
    order: mmap.mmap,
    workers: int,
    times: int,
    now_s: int,
) -> None:
    verifier = Verifier(Keys.of_secrets([_SECRET]), Limits(), SystemClock())
    for number in range(1, times + 1 if revoke else 1):
        verifier.verify_nowait(_token(number, now_s))
    dice = random.Random(slot)
    bus = BusClient(run_directory, slot, lose=lambda: dice.random() < loss)

    def apply(message: messages.Announcement) -> None:
        if isinstance(message, messages.NamespaceChanged):
            clocks.write(slot, time.monotonic())
        elif isinstance(message, messages.Revoked):
            change = from_message(message)
            assert isinstance(change, Revoked)
            token = change.revocations[0].created_by  # the benchmark's way to name it
            assert verifier.remembers(token)
            verifier.revoke(change.revocations)
            try:
                verifier.verify_nowait(token)
            except Unauthenticated:
                clocks.write(slot, time.monotonic())

    await bus.start(apply, lambda _: None)
    bus.report(Joined(slot))
    bus.report(Ready(slot))
    done, status_s = 0, 0.0
    while True:
        if time.monotonic() - status_s > 0.25:  # who is silent is taken for hanging
            status_s = time.monotonic()
            bus.report(Status(slot))
        await asyncio.sleep(0.002 if slot == 0 else 0.25)
        if slot:
            continue
        number = int.from_bytes(order[:], "big")
        if number != done:
            done = number
            change = _revocation(number, now_s) if revoke else NamespaceChanged(f"n{number}")
            clocks.write(workers, time.monotonic())
            assert await bus.tell(to_message(change), _DEADLINE_S)
            clocks.write(workers + 1, time.monotonic())


def _token(number: int, now_s: int) -> str:
    claims = {"sub": f"u{number}", "ns": "acme", "iat": now_s, "exp": now_s + 3600}
    return sign(claims, _SECRET)


def _revocation(number: int, now_s: int) -> Change:
    token = _token(number, now_s)
    digest = hashlib.sha256(token.encode()).hexdigest()
    return Revoked((Revocation("token", digest, None, now_s + 3600, now_s, token),))
