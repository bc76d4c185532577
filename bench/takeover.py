"""The fleet's worst minutes: drains, reloads and killed workers, under a load that goes on.

Four workers on all cores of this machine, and in this process sixteen clients, each with a
namespace, a connection and an open handle of its own: stat, small uploads and downloads, writes
and reads through the handle, each client one request at a time with pauses of up to 10 ms. At
the end everything that was acknowledged is read again. The second table compares the half
second after the beginning of each event (or all of it, if it takes longer) with the calm half
second before it; for kills it leaves out the namespaces of the killed worker. The third has the
ratio of these two p99, and, as what chance alone does, that of two calm half seconds, one after
the other; the intervals are bootstraps over the events.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import signal
import statistics
import time
from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from bench.bootstrap import p99_ratio
from bench.fleet import Fleet, fleet
from bench.load import request
from router.messages import (
    Done,
    DrainRequest,
    FleetStatus,
    ReloadRequest,
    Request,
    StatusRequest,
    UndrainRequest,
)
from router.view import SlotState
from workers.asking import bus_request
from workers.slots import run_directory_of

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORKERS = 4
_TENANTS = 16
_PAUSE_S = 0.01
_WINDOW_S = 0.5
_PATIENCE_S = 20.0
_JSON = {"Content-Type": "application/json"}


#: Latencies in two windows, which are compared.
_Pair: TypeAlias = tuple[list[float], list[float]]


class Answered(NamedTuple):
    slot: int
    sent_s: float
    ended_s: float


_ended_s = attrgetter("ended_s")


class Record:
    """What all clients saw."""

    def __init__(self) -> None:
        self.answered: dict[str, list[Answered]] = {}
        #: (tenant, when): a request ended without an answer, or with an error.
        self.failed: list[tuple[str, float]] = []
        #: Connections that were found closed before a request was sent.
        self.found_closed = 0
        self.lost: list[str] = []

    def latencies(self, begin_s: float, end_s: float, tenants: Iterable[str]) -> list[float]:
        found = []
        for tenant in tenants:
            answered = self.answered[tenant]
            first = bisect_left(answered, begin_s, key=_ended_s)
            found += answered[first : bisect_left(answered, end_s, key=_ended_s)]
        return [each.ended_s - each.sent_s for each in found]

    def first_answer_s(self, tenant: str, since_s: float, slot: int) -> float | None:
        """From then to the first answer by the slot to a request that was sent later."""
        found = None
        for each in reversed(self.answered[tenant]):
            if each.sent_s <= since_s:
                break
            if each.slot == slot:
                found = each.ended_s - since_s
        return found


class FoundClosedError(ConnectionError):
    """The server has closed the connection between two requests."""


class Client:
    """One namespace's user."""

    def __init__(self, port: int, tenant: str, record: Record) -> None:
        self.port = port
        self.tenant = tenant
        self.record = record
        self.dice = random.Random(tenant)
        self.files: dict[str, bytes] = {}
        self.written = b""
        self.handle = ""
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def run(self, stop: asyncio.Event) -> None:
        flags = {"read": True, "write": True, "create": True}
        answer = await self.ask("POST", "open", json.dumps({"path": "/log", "flags": flags}))
        self.handle = json.loads(answer)["handle_id"]
        steps = [self._stat, self._upload, self._download, self._write, self._read]
        while not stop.is_set():
            await self.dice.choice(steps)()
            await asyncio.sleep(self.dice.random() * _PAUSE_S)
        await self._read(len(self.written))
        for path in self.files:
            await self._get(path)

    async def _stat(self) -> None:
        size = json.loads(await self.ask("GET", "stat?path=/log"))["size"]
        self._expect(size == len(self.written), "the size of /log")

    async def _upload(self) -> None:
        path = f"/f{self.dice.randrange(3)}"
        body = self.dice.randbytes(self.dice.choice([10, 3_000, 30_000]))
        await self.ask("PUT", f"upload?path={path}", body)
        self.files[path] = body

    async def _download(self) -> None:
        if self.files:
            await self._get(self.dice.choice(list(self.files)))

    async def _get(self, path: str) -> None:
        body = await self.ask("GET", f"download?path={path}")
        self._expect(body == self.files[path], path)

    async def _write(self) -> None:
        """Sent again after a failure it writes the same to the same place."""
        line = f"{len(self.written)}\n".encode()
        await self.ask("POST", f"write?handle_id={self.handle}&offset={len(self.written)}", line)
        self.written += line

    async def _read(self, most: int = 1000) -> None:
        begin = max(0, len(self.written) - most)
        body = {"handle_id": self.handle, "offset": begin, "size": most + 1}
        data = await self.ask("POST", "read", json.dumps(body))
        self._expect(data == self.written[begin:], "what was written")

    def _expect(self, good: bool, what: str) -> None:
        if not good:
            self.record.lost.append(f"{self.tenant}: {what}")

    async def ask(self, method: str, target: str, body: str | bytes = b"") -> bytes:
        """The body of the answer, which is had by trying again, if need be."""
        fields = _JSON if isinstance(body, str) else {"Content-Type": "application/octet-stream"}
        data = body.encode() if isinstance(body, str) else body
        wire = request(method, f"/{self.tenant}/api/v1/{target}", data, fields)
        begun_s = sent_s = time.monotonic()
        while sent_s - begun_s < _PATIENCE_S:
            try:
                status, slot, answer = await self._send(wire)
            except (OSError, asyncio.IncompleteReadError) as error:
                self._close()
                if isinstance(error, FoundClosedError):
                    self.record.found_closed += 1
                else:
                    self.record.failed.append((self.tenant, time.monotonic()))
            else:
                if status < 300:
                    answered = Answered(slot, sent_s, time.monotonic())
                    self.record.answered.setdefault(self.tenant, []).append(answered)
                    return answer
                self.record.failed.append((self.tenant, time.monotonic()))
                await asyncio.sleep(_PAUSE_S)
            sent_s = time.monotonic()
        raise RuntimeError(f"{self.tenant}: {method} {target} is not answered")

    async def _send(self, wire: bytes) -> tuple[int, int, bytes]:
        if self.writer is None or self.reader is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        if self.reader.at_eof() or self.reader.exception() is not None:
            raise FoundClosedError
        self.writer.write(wire)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        first, *lines = head.split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines if line)
        body = await self.reader.readexactly(int(fields["content-length"]))
        return int(first.split(" ")[1]), int(fields["x-fs9-slot"]), body

    def _close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


class Ground:
    """The fleet under load, and what is done to it."""

    def __init__(self, served: Fleet) -> None:
        self.run_directory = run_directory_of(served.data_dir)
        self.record = Record()
        self._stop = asyncio.Event()
        names = [f"t{number}" for number in range(_TENANTS)]
        self.clients = [Client(served.port, name, self.record) for name in names]
        self._tasks = [asyncio.create_task(client.run(self._stop)) for client in self.clients]
        self.events: list[tuple[str, float, float, set[str]]] = []

    async def ask(self, message: Request) -> object:
        return await asyncio.to_thread(bus_request, self.run_directory, message, 300.0)

    async def do(self, name: str, message: Request) -> float:
        """Until it is done; how long that takes."""
        begun_s = time.monotonic()
        answer = await self.ask(message)
        if not isinstance(answer, Done):
            raise RuntimeError(f"{name}: {answer}")
        ended_s = time.monotonic()
        self.events.append((name, begun_s, ended_s, set(self.record.answered)))
        return ended_s - begun_s

    async def all_ready(self) -> None:
        while True:
            status = await self.ask(StatusRequest())
            assert isinstance(status, FleetStatus)
            states = [(slot.state, slot.ready) for slot in status.slots]
            if states == [(SlotState.READY, True)] * _WORKERS:
                return
            await asyncio.sleep(0.05)

    def tenants_of(self, slot: int) -> list[str]:
        answered = self.record.answered
        return [name for name in answered if answered[name][-1].slot == slot]

    async def answers(self, tenants: Iterable[str], since_s: float, slot: int) -> list[float]:
        """Wait until the slot has answered each of them; how long each took."""
        while True:
            firsts = [self.record.first_answer_s(each, since_s, slot) for each in tenants]
            found = [each for each in firsts if each is not None]
            if len(found) == len(firsts):
                return found
            await asyncio.sleep(0.02)

    async def drain(self, slot: int) -> tuple[float, list[float]]:
        """How long a drain takes; and, after an undrain, until its namespaces are back."""
        theirs = self.tenants_of(slot)
        drained_s = await self.do("drain", DrainRequest(slot))
        await asyncio.sleep(2 * _WINDOW_S)
        begun_s = time.monotonic()
        await self.do("undrain", UndrainRequest(slot))
        back_s = await self.answers(theirs, begun_s, slot)
        await asyncio.sleep(2 * _WINDOW_S)
        return drained_s, back_s

    async def kill(self, slot: int) -> list[float]:
        """How long each namespace of the slot was without an answer."""
        theirs = self.tenants_of(slot)
        pid = int((self.run_directory.path / f"slot-{slot}.lock").read_text())
        killed_s = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        others = self.record.answered.keys() - set(theirs)
        self.events.append(("kill -9", killed_s, killed_s + _WINDOW_S, others))
        without_s = await self.answers(theirs, killed_s, slot)
        # Asking the fleet is work for it, and for this process: not within what is measured.
        await asyncio.sleep(killed_s + _WINDOW_S - time.monotonic())
        await self.all_ready()
        # What is put off after a kill is to come at any time of those that follow.
        await asyncio.sleep((2 + 4 * random.random()) * _WINDOW_S)
        return without_s

    async def end(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)


def run(quick: bool) -> None:
    if quick:
        measure(drains=1, reloads=1, kills=2)
    else:
        measure(drains=40, reloads=100, kills=100)


def measure(*, drains: int, reloads: int, kills: int) -> None:
    before = os.getloadavg()[0]
    with fleet(workers=_WORKERS, pinned=False) as served:
        asyncio.run(_measure(served, drains, reloads, kills))
    print(f"load average of the machine: {before:.1f} before, {os.getloadavg()[0]:.1f} after")


async def _measure(served: Fleet, drains: int, reloads: int, kills: int) -> None:
    # A collection in this process would hold up every client, and be taken for the fleet's doing.
    gc.disable()
    ground = Ground(served)
    await ground.all_ready()
    await asyncio.sleep(4 * _WINDOW_S)
    begun_s = time.monotonic()
    times: dict[str, list[float]] = {
        "drain of a slot": [],
        "undrain, to the first answer of a namespace": [],
        "reload, for each slot": [],
        "kill -9, to the first answer of a namespace": [],
    }
    drain, undrain, reload, kill = times.values()
    for number in range(drains):
        drained_s, back_s = await ground.drain(number % _WORKERS)
        drain.append(drained_s)
        undrain += back_s
    for _ in range(reloads):
        reload.append(await ground.do("reload", ReloadRequest()) / _WORKERS)
        await asyncio.sleep(2 * _WINDOW_S)
    calm_s = time.monotonic()
    for number in range(kills):
        kill += await ground.kill(number % _WORKERS)
    seconds = time.monotonic() - begun_s
    await ground.end()
    _print_times(times)
    _print_others(ground)
    _print_rises(ground)
    _print_failures(ground, calm_s, seconds)


def _print_times(times: dict[str, list[float]]) -> None:
    print("\n| what | p50 ms | p99 ms | worst ms | measured |")
    print("|---|---|---|---|---|")
    for name, values in times.items():
        if values:
            print(f"| {name} | {_row(values)} | {len(values)} |")


def _print_others(ground: Ground) -> None:
    print(
        "\n| requests of namespaces that stay, during | p50 ms | p99 ms | worst ms | calm p99 ms |"
    )
    print("|---|---|---|---|---|")
    for name in dict.fromkeys(event[0] for event in ground.events):
        during: list[float] = []
        calm: list[float] = []
        for kind, begin_s, end_s, tenants in ground.events:
            if kind == name:
                end_s = max(end_s, begin_s + _WINDOW_S)
                during += ground.record.latencies(begin_s, end_s, tenants)
                calm += ground.record.latencies(begin_s - _WINDOW_S, begin_s, tenants)
        print(f"| {name} | {_row(during)} | {_quantile(calm, 99) * 1000:.1f} |")


def _print_rises(ground: Ground) -> None:
    print("\n| requests of namespaces that stay: p99 to the half second before | ratio | 95 % |")
    print("|---|---|---|")
    for name in dict.fromkeys(event[0] for event in ground.events):
        pairs: list[_Pair] = []
        control: list[_Pair] = []
        for kind, begin_s, end_s, tenants in ground.events:
            if kind == name:
                windows = (begin_s - 2 * _WINDOW_S, begin_s - _WINDOW_S, begin_s)
                ends = (*windows[1:], max(end_s, begin_s + _WINDOW_S))
                earlier, calm, during = (
                    ground.record.latencies(first_s, last_s, tenants)
                    for first_s, last_s in zip(windows, ends, strict=True)
                )
                pairs.append((during, calm))
                control.append((calm, earlier))
        if len(pairs) > 1:
            print(f"| {name} | {_rise(pairs)} |")
            print(f"| nothing, before each {name} | {_rise(control)} |")


def _rise(pairs: list[_Pair]) -> str:
    """The ratio of the p99 of the first of each pair to that of the second, and its interval."""
    ratio = p99_ratio(pairs)
    return f"{ratio.value:.2f} | {ratio.low:.2f} to {ratio.high:.2f}"


def _print_failures(ground: Ground, kills_from_s: float, seconds: float) -> None:
    record = ground.record
    total = sum(map(len, record.answered.values()))
    in_kills = sum(failed_s >= kills_from_s for _, failed_s in record.failed)
    kills = [(begin_s, others) for name, begin_s, _, others in ground.events if name == "kill -9"]
    of_others = sum(
        any(tenant in others for begin_s, others in kills if 0 <= failed_s - begin_s < _WINDOW_S)
        for tenant, failed_s in record.failed
    )
    in_changes = len(record.failed) - in_kills
    print(
        f"\n{total:,} requests answered in {seconds:.0f} s. Failed: {in_changes} while slots"
        f" drained and reloaded, {in_kills} at kills ({of_others} of namespaces of others;"
        f" {record.found_closed} more connections were found closed)."
        f" Lost or wrong: {len(record.lost)} {record.lost[:3]}"
    )


def _row(values: list[float]) -> str:
    shown = (_quantile(values, 50), _quantile(values, 99), max(values))
    return " | ".join(f"{each * 1000:.1f}" for each in shown)


def _quantile(values: list[float], percent: int) -> float:
    if len(values) < 2:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.takeover", description=__doc__)
    parser.add_argument("--drains", type=int, default=40)
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--kills", type=int, default=100)
    measure(**vars(parser.parse_args()))
