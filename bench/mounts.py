"""Finding the mount of a path: the cost must not grow with the number of mounts.

Baseline: the same lookup in a table of one mount. The reference scans the mounts, so a linear
scan over the same tables is shown beside.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fs9.path import is_within
from fs9.provider import BaseProvider
from fs9.vfs.mounts import Mount, MountTable

if TYPE_CHECKING:
    from collections.abc import Callable

_COUNTS = (1, 100, 10_000)
_DEPTHS = (1, 4, 16)


def run(quick: bool) -> None:
    """Print µs a lookup and the ratio to one mount, by number of mounts and depth of path."""
    seconds = 0.02 if quick else 0.2
    print("mounts: find the mount of a path below the deepest mounts, µs (ratio to 1 mount)")
    print(f"{'mounts':>8} " + " ".join(f"{f'depth {depth}':>16}" for depth in _DEPTHS) + "   scan")
    baseline: dict[int, float] = {}
    for count in _COUNTS:
        table = MountTable(_mounts(count))
        cells = []
        for depth in _DEPTHS:
            path = f"/m{count // 2}" + "/d" * (depth - 1)
            cost = _cost_us(lambda table=table, path=path: table.find(path), seconds)
            ratio = cost / baseline.setdefault(depth, cost)
            cells.append(f"{cost:8.3f} ({ratio:5.2f})")
        mounts = list(table)
        scan = _cost_us(lambda mounts=mounts, path=path: _scan(mounts, path), seconds)
        print(f"{count:8} " + " ".join(f"{cell:>16}" for cell in cells) + f" {scan:8.1f}")
    started = time.perf_counter()
    table.with_mount(Mount.of("/one-more", BaseProvider()))
    print(f"replacing the table of {_COUNTS[-1]} mounts: {time.perf_counter() - started:.4f} s")


def _mounts(count: int) -> list[Mount]:
    """The root, and the others directly below it, each fifth with one more below itself."""
    provider = BaseProvider()
    paths = ["/"]
    number = 0
    while len(paths) < count:
        paths.append(f"/m{number}")
        if number % 5 == 0 and len(paths) < count:
            paths.append(f"/m{number}/deep/er")
        number += 1
    return [Mount.of(path, provider) for path in paths]


def _scan(mounts: list[Mount], path: str) -> Mount:
    """The longest match by looking at every mount."""
    return max(
        (mount for mount in mounts if is_within(path, mount.path)), key=lambda m: len(m.path)
    )


def _cost_us(call: Callable[[], object], seconds: float) -> float:
    """The best of five: µs a call, the loop's own cost included."""
    calls, best = 1, float("inf")
    for _ in range(5):
        while True:
            started = time.perf_counter()
            for _ in range(calls):
                call()
            spent = time.perf_counter() - started
            if spent >= seconds / 5:
                break
            calls *= 2
        best = min(best, spent / calls)
    return best * 1e6


if __name__ == "__main__":
    run(quick=False)
