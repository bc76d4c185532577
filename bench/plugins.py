"""Native plugins: what a call costs in a process of its own, and inline.

Baseline: memfs, which is Python in the same process and the same loop. The plugin is the example
in C. One caller at a time, so it is the time of a whole round trip; and eight at once.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from fs9.clock import SystemClock
from fs9.limits import Limits
from fs9.providers.memfs import MemFs
from fs9.providers.native import provider
from fs9.providers.registry import ProviderContext
from fs9.threads import BlockingPool
from fs9.types import OpenFlags

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fs9.provider import Provider

_SOURCE = Path(__file__).parent.parent / "examples" / "plugin" / "memory.c"
_SIZES = ((4096, "4 KiB"), (1 << 20, "1 MiB"))
_RW = OpenFlags(read=True, write=True, create=True)


def run(quick: bool) -> None:
    """Print µs a call and the ratio to memfs, by operation and size."""
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory) / "memory.so"
        flags = ["-std=c11", "-O2", "-shared", "-fPIC", "-pthread"]
        subprocess.run(["cc", *flags, "-o", library, _SOURCE], check=True)
        uvloop.run(_run(Path(directory), library, 0.05 if quick else 0.5))


async def _run(directory: Path, library: Path, seconds: float) -> None:
    pool = BlockingPool(4)
    limits, clock = Limits(), SystemClock()
    context = ProviderContext("bench", directory, limits, clock, pool)
    providers: dict[str, Provider] = {"memfs": MemFs(limits, clock)}
    for isolation in ("inline", "process"):
        config = {"isolation": isolation}
        providers[isolation] = await provider.create(
            "memory", library, config, context, lambda: None
        )
    costs = {name: await _costs(made, seconds) for name, made in providers.items()}
    print("plugins: µs a call (times memfs)")
    print(f"{'':>22} " + " ".join(f"{name:>18}" for name in costs))
    for row, base in costs["memfs"].items():
        cells = [f"{cost[row]:9.1f} ({cost[row] / base:6.1f})" for cost in costs.values()]
        print(f"{row:>22} " + " ".join(cells))
    for made in providers.values():
        await made.aclose()
    pool.shutdown()


async def _costs(made: Provider, seconds: float) -> dict[str, float]:
    file, _ = await made.open("/f", _RW)
    await made.write(file, 0, bytes(1 << 20))
    costs = {"stat": await _cost_us(lambda: made.stat("/f"), seconds)}
    for size, name in _SIZES:
        data = bytes(size)
        for at_once in (1, 8):
            suffix = f"{name}" + (", 8 at once" if at_once > 1 else "")
            costs[f"read {suffix}"] = await _cost_us(
                lambda size=size: made.read(file, 0, size), seconds, at_once
            )
            costs[f"write {suffix}"] = await _cost_us(
                lambda data=data: made.write(file, 0, data), seconds, at_once
            )
    await made.close(file)
    return costs


async def _cost_us(
    call: Callable[[], Awaitable[object]], seconds: float, at_once: int = 1
) -> float:
    """The best of three: µs a call."""
    best = float("inf")
    for _ in range(3):
        started, calls = time.perf_counter(), 0
        while time.perf_counter() - started < seconds / 3:
            if at_once == 1:
                await call()
            else:
                await asyncio.gather(*(call() for _ in range(at_once)))
            calls += at_once
        best = min(best, (time.perf_counter() - started) / calls)
    return best * 1e6


if __name__ == "__main__":
    run(quick=False)
