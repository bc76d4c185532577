"""The audit trail: what recording adds to an operation, and how quickly events reach the store.

Recording happens on the event loop before the answer, and so counts fully: a `stat` on the fast
lane takes about 8 µs in all. Storing happens behind, here in SQLite.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fs9.clock import SystemClock
from fs9.limits import Limits
from fs9.meta.sqlite import SqliteStore
from fs9.observe.audit_trails import AuditTrails
from fs9.threads import BlockingPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.observe.audit_journal import Writing
    from fs9.observe.audit_trail import AuditTrail


def run(quick: bool) -> None:
    asyncio.run(_run(2_000 if quick else 40_000))


async def _run(calls: int) -> None:
    with tempfile.TemporaryDirectory(prefix="fs9-bench-") as name:
        pool = BlockingPool(2)
        store = await SqliteStore.open(Path(name) / "meta.db", SystemClock(), pool)
        await store.create_namespace("acme", "root", ())
        args = (store, Limits(), SystemClock(), pool)
        print("| what | µs, journaled | µs, in memory alone |\n| --- | --- | --- |")
        journaled = AuditTrails(*args, Path(name) / "audit")
        plain = AuditTrails(*args)
        for what, make in _CASES.items():
            costs = []
            for trails in (journaled, plain):
                trail = await trails.load("acme")
                costs.append(_cost(make(trail), calls))
                await trail.flush(everything=True)
                await trail.aclose()
            print(f"| {what} | {costs[0]:.2f} | {costs[1]:.2f} |")
        trail = await journaled.load("acme")
        _cost(_changes(trail), calls)
        start_s = time.perf_counter()
        await trail.flush(everything=True)
        took_s = time.perf_counter() - start_s
        print(f"\n{calls / took_s:,.0f} events/s into the store, hashed, by batches of 500")
        await trail.aclose()
        await store.aclose()
        pool.shutdown()


def _changes(trail: AuditTrail) -> Callable[[int], object]:
    return lambda number: trail.record("upload", f"/d/{number}", "alice", {"bytes": number})


def _equal(trail: AuditTrail) -> Callable[[int], object]:
    return lambda number: trail.record("upload", "/d/f", "alice", {"bytes": number})


def _refusals(trail: AuditTrail) -> Callable[[int], object]:
    return lambda number: trail.refused("create", f"/d/{number}", "alice", "PermissionDenied")


def _writes(trail: AuditTrail) -> Callable[[int], object]:
    """As `File.wrote` counts, in one open file."""
    writing: Writing = trail.begin_writing("/d/f", "alice", journaled=True)

    def write(number: int) -> None:
        writing.writes += 1
        writing.bytes += 4096

    return write


_CASES: dict[str, Callable[[AuditTrail], Callable[[int], object]]] = {
    "a change": _changes,
    "an equal change within a second": _equal,
    "a refusal beyond the budget": _refusals,
    "a write to an open file": _writes,
}


def _cost(call: Callable[[int], object], calls: int) -> float:
    start_s = time.perf_counter()
    for number in range(calls):
        call(number)
    return (time.perf_counter() - start_s) / calls * 1e6


if __name__ == "__main__":
    run(quick=True)
