"""What counting one request costs, against prometheus-client's own multiprocess counters.

Both count the same: a counter with four labels, a histogram with three, in files that all
workers share. Ours counts in memory and writes once a second; the flush is shown beside, and its
share of a request at 10,000 requests/s.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fs9.observe.metrics import BUCKETS_S, Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

_SERIES = [
    (method, f"/api/v1/{name}", status, f"tenant-{number}")
    for method, name in (("GET", "stat"), ("POST", "open"), ("POST", "read"), ("POST", "close"))
    for status in (200, 404)
    for number in range(50)
]
_REQUESTS_PER_S = 10_000

#: prometheus-client decides for files when it is imported, by the environment.
_PEER = "import bench.metrics; bench.metrics.peer()"


def run(quick: bool) -> None:
    """Print µs a request, and the ratio."""
    rounds = 3 if quick else 30
    with tempfile.TemporaryDirectory() as directory:
        ours, flush = _ours(Path(directory), rounds)
    with tempfile.TemporaryDirectory() as directory:
        environ = os.environ | {"PROMETHEUS_MULTIPROC_DIR": directory, "ROUNDS": str(rounds)}
        done = subprocess.run(
            [sys.executable, "-c", _PEER], env=environ, capture_output=True, text=True, check=True
        )
    theirs = float(done.stdout)
    print("metrics: CPU µs to count a request (counter of 4 labels, histogram of 3)")
    print("| variant | µs | ratio |")
    print("|---|---|---|")
    print(f"| prometheus-client, multiprocess | {theirs:.2f} | 1.0 |")
    print(f"| fs9, in memory | {ours:.2f} | {theirs / ours:.1f} |")
    share = flush / _REQUESTS_PER_S
    both = ours + share
    print(f"| fs9, with its flush at {_REQUESTS_PER_S:,}/s | {both:.2f} | {theirs / both:.1f} |")
    print(f"a flush of {len(_SERIES)} series, once a second: {flush / 1000:.1f} ms")


def _ours(directory: Path, rounds: int) -> tuple[float, float]:
    metrics = Metrics(directory, 0)

    def count() -> None:
        for method, path, status, namespace in _SERIES:
            metrics.count_request(method, path, status, namespace, 0.002, 0, 300)

    cost = _best_us(count, rounds) / len(_SERIES)
    flushes = []
    for _ in range(max(3, rounds // 5)):
        count()
        started = time.process_time()
        metrics.flush()
        flushes.append((time.process_time() - started) * 1e6)
    metrics.close()
    return cost, min(flushes)


def peer() -> None:
    """In a process of its own: the cost of prometheus-client, in µs, to standard output."""
    from prometheus_client import CollectorRegistry, Counter, Histogram

    registry = CollectorRegistry()
    labels = ["method", "path", "status"]
    requests = Counter("requests", "…", [*labels, "namespace"], registry=registry)
    seconds = Histogram("seconds", "…", labels, buckets=BUCKETS_S, registry=registry)

    def count() -> None:
        for method, path, status, namespace in _SERIES:
            requests.labels(method, path, str(status), namespace).inc()
            seconds.labels(method, path, str(status)).observe(0.002)

    print(_best_us(count, int(os.environ["ROUNDS"])) / len(_SERIES))


def _best_us(work: Callable[[], None], rounds: int) -> float:
    """CPU µs of the quickest of so many calls; the first one, which makes the series, is out."""
    work()
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(5):
            work()
        best = min(best, (time.process_time() - started) / 5)
    return best * 1e6
