"""The handle table: one dict against 64 shards, and bytes of memory per open handle.

Baseline: the one dict that `fs9.vfs.handles` uses. Both hold the same `File` values under the
same random ids; the shards are what a design for threads would need (each with its lock).
"""

from __future__ import annotations

import gc
import secrets
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING, Protocol

from fs9.clock import SystemClock
from fs9.errors import InvalidHandle
from fs9.limits import Limits
from fs9.provider import BaseProvider, OpenFile
from fs9.types import READ, FileInfo, FileType
from fs9.vfs.handles import File, HandleTable
from fs9.vfs.inuse import InUse
from fs9.vfs.mounts import Mount

if TYPE_CHECKING:
    from collections.abc import Callable

_SHARDS = 64
_USER = "alice"


class Table(Protocol):
    def register(self, file: File) -> str: ...
    def get(self, handle_id: str, user: str) -> File: ...
    def pop(self, handle_id: str) -> File: ...


class ShardedTable:
    """64 dicts, each with a lock, chosen by the hash of the id."""

    def __init__(self, clock: SystemClock) -> None:
        self._clock = clock
        self._shards = [(threading.Lock(), dict[str, File]()) for _ in range(_SHARDS)]

    def register(self, file: File) -> str:
        file.used_s = self._clock.monotonic_s()
        handle_id = secrets.token_urlsafe(16)
        lock, files = self._shards[hash(handle_id) % _SHARDS]
        with lock:
            files[handle_id] = file
        return handle_id

    def get(self, handle_id: str, user: str) -> File:
        lock, files = self._shards[hash(handle_id) % _SHARDS]
        with lock:
            file = files[handle_id]
        if file.user != user:
            raise InvalidHandle(handle_id)
        file.used_s = self._clock.monotonic_s()
        return file

    def pop(self, handle_id: str) -> File:
        lock, files = self._shards[hash(handle_id) % _SHARDS]
        with lock:
            return files.pop(handle_id)


def run(quick: bool) -> None:
    """Print µs an operation with many handles open, bytes a handle, and the collector's pause."""
    count = 20_000 if quick else 200_000
    clock = SystemClock()
    limits = Limits(handles_per_namespace_max=count + 1)
    print(f"handles: {count} open, µs an operation (ratio to one dict)")
    print(f"{'':>12} {'register':>16} {'get':>16} {'pop':>16}")
    baseline: list[float] = []
    for name, table in (
        ("one dict", HandleTable(limits, clock)),
        (f"{_SHARDS} shards", ShardedTable(clock)),
    ):
        costs = _costs(table, count)
        baseline = baseline or costs
        cells = [
            f"{cost:8.3f} ({cost / base:5.2f})" for cost, base in zip(costs, baseline, strict=True)
        ]
        print(f"{name:>12} " + " ".join(f"{cell:>16}" for cell in cells))
    _print_memory(count, limits, clock)


def _costs(table: Table, count: int) -> list[float]:
    """µs of register, get and pop, each over all the handles."""
    files = _files(count)
    ids: list[str] = []

    def register() -> None:
        ids.extend(table.register(file) for file in files)

    def get() -> None:
        for handle_id in ids:
            table.get(handle_id, _USER)

    def pop() -> None:
        for handle_id in ids:
            table.pop(handle_id)

    return [_cost_us(step, count) for step in (register, get, pop)]


def _cost_us(step: Callable[[], None], count: int) -> float:
    started = time.perf_counter()
    step()
    return (time.perf_counter() - started) / count * 1e6


def _files(count: int) -> list[File]:
    """Open files of different paths; path and info belong to the handle, so they count."""
    mount, in_use = Mount.of("/", BaseProvider()), InUse()
    files = []
    for number in range(count):
        path = f"/home/user{number % 1000}/documents/file-{number}.txt"
        now_ns = 1_700_000_000_000_000_000 + number
        etag = f"{now_ns:x}"
        info = FileInfo(path, number, FileType.REGULAR, 0o644, 0, 0, now_ns, now_ns, now_ns, etag)
        files.append(File(mount, OpenFile(), READ, info, in_use, 0.0, _USER))
    return files


def _print_memory(count: int, limits: Limits, clock: SystemClock) -> None:
    pause_before_s = _collect_s()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    files = _files(count)
    made, _ = tracemalloc.get_traced_memory()
    table = HandleTable(limits, clock)
    ids = [table.register(file) for file in files]
    files_list_bytes = 8 * count
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    per_file = (made - before - files_list_bytes) / count
    per_entry = (after - made - files_list_bytes) / count
    print(f"bytes a handle: file with info and path {per_file:.0f}, id and entry {per_entry:.0f}")
    del files
    pause_s = _collect_s()
    print(
        f"full garbage collection: {pause_s:.4f} s with {len(ids)} handles open "
        f"({pause_s / pause_before_s:.2f} times that without)"
    )


def _collect_s() -> float:
    """Seconds of one full collection after another."""
    gc.collect()
    started = time.perf_counter()
    gc.collect()
    return time.perf_counter() - started


if __name__ == "__main__":
    run(quick=False)
