"""The control bus: from an announcement to the last acknowledgement, and how losses heal.

One broker in this process and N workers' clients in processes of their own (uvloop, ipc), all
on the cores of this machine. First one announcement after another, each when the last one has
been acknowledged by all; then the same with 30 % of all messages lost at each client, in both
directions. What a revocation or a mount costs before its caller may be answered is the first
table; how late the last worker may be is the second, and must stay below a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from router.messages import Joined, NamespaceChanged, Ready
from workers.broker import Broker
from workers.bus import BusClient
from workers.slots import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORKERS = (2, 8, 32)
_LOSS = 0.3
_PAUSE_S = 0.004
_HEALED_S = 1.0
_START_S = 60.0


def run(quick: bool) -> None:
    whole, lossy = (10, 5) if quick else (1000, 200)
    counts = _WORKERS[:1] if quick else _WORKERS
    print("\nannounced → acknowledged by all")
    print("| workers | p50 ms | p99 ms | worst ms | announcements | CPU of the broker µs each |")
    print("|---|---|---|---|---|---|")
    for workers in counts:
        with _bus(workers, 0.0) as broker:
            before_s = time.process_time()
            times = [_announce(broker, str(number)) for number in range(whole)]
            cpu_s = time.process_time() - before_s
        print(f"| {workers} | {_row(times)} | {whole} | {cpu_s / whole * 1e6:.0f} |", flush=True)
    print(f"\nthe same with {_LOSS:.0%} of all messages lost")
    print("| workers | p50 ms | p99 ms | worst ms | announcements | over 1 s |")
    print("|---|---|---|---|---|---|")
    for workers in counts:
        with _bus(workers, _LOSS) as broker:
            times = [_announce(broker, str(number)) for number in range(lossy)]
        late = sum(each > _HEALED_S for each in times)
        print(f"| {workers} | {_row(times)} | {lossy} | {late} |", flush=True)


def _row(times: list[float]) -> str:
    p99 = statistics.quantiles(times, n=100)[98]
    return " | ".join(f"{each * 1000:.2f}" for each in (statistics.median(times), p99, max(times)))


def _announce(broker: Broker, name: str) -> float:
    """How long it takes until every worker has said that it knows."""
    state = broker.state
    begun_s = time.monotonic()
    number = state.sequence + 1
    state.announce(NamespaceChanged(name))
    broker.do(state.on_tick(begun_s))  # the effects of the announcement, and a heartbeat if due
    while state.acknowledged < number:
        broker.step()
    taken_s = time.monotonic() - begun_s
    _step_until(broker, time.monotonic() + _PAUSE_S)
    return taken_s


def _step_until(broker: Broker, end_s: float) -> None:
    while (left_s := end_s - time.monotonic()) > 0:
        broker.step(left_s)


@contextlib.contextmanager
def _bus(workers: int, loss: float) -> Iterator[Broker]:
    with tempfile.TemporaryDirectory() as directory:
        run_directory = RunDirectory(Path(directory) / "run")
        run_directory.create()
        pids = [_fork(run_directory, slot, loss) for slot in range(workers)]
        broker = Broker(run_directory, workers)
        try:
            end_s = time.monotonic() + _START_S
            while not _all_there(broker, workers):
                assert time.monotonic() < end_s, "the workers did not come"
                broker.step()
            yield broker
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            broker.close()


def _all_there(broker: Broker, workers: int) -> bool:
    state = broker.state
    return len(state.view.serving) == workers and state.acknowledged == state.sequence


def _fork(run_directory: RunDirectory, slot: int, loss: float) -> int:
    """A worker's client; the ZeroMQ context is made in its process."""
    pid = os.fork()
    if not pid:
        try:
            uvloop.run(_listen(run_directory, slot, loss))
        finally:
            os._exit(1)
    return pid


async def _listen(run_directory: RunDirectory, slot: int, loss: float) -> None:
    dice = random.Random(slot)
    client = BusClient(run_directory, slot, lose=lambda: dice.random() < loss)
    client.report(Joined(slot))
    client.report(Ready(slot))
    await client.start(lambda _: None, lambda _: None)
    await asyncio.Event().wait()
