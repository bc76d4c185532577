"""What is counted, and how Prometheus reads it for the whole fleet.

Each worker counts in its own memory, because writing prometheus-client's multiprocess files
at every request costs more than the rest of a small request (measured: 2-4 µs against 0.5),
and writes the sums to those files once a second and before a scrape. The files carry the
worker's slot, not its pid: the next process of a slot goes on where the last one stopped, so
counters never go back and nothing is left to reap. The worker that is asked reads all files.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fs9.errors import Fs9Error

#: Upper bounds in seconds: from the fast lane's microseconds to the request timeout.
BUCKETS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    float("inf"),
)
#: Namespaces with a label of their own; the next ones share `other`.
NAMESPACES_MAX = 1000
OTHER = "other"
#: A file of samples begins with this size; and what a sample takes besides its key.
_FILE_BYTES = 64 * 1024
_SAMPLE_BYTES_MAX = 32
#: The statuses of refusals for lack of room, of time or of a worker: what operators count.
_REFUSING = frozenset({408, 421, 429, 503, 504, 507})
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metric(NamedTuple):
    """`kind` as prometheus-client names its files.

    counter, histogram: summed over all processes there ever were; gauge_livesum: over those
    that live; gauge_livemax: the largest of theirs, for the worst, or what all say alike.
    """

    name: str
    kind: str
    text: str
    labels: tuple[str, ...] = ()

    def key(self, *values: str, name: str | None = None) -> str:
        """The key of one time series in a multiprocess file."""
        # Of a counter the library calls the family by the name without `_total`.
        family = self.name.removesuffix("_total") if self.kind == "counter" else self.name
        key: str = mmap_key(family, name or self.name, list(self.labels), list(values), self.text)
        return key


REQUESTS = Metric(
    "fs9_http_requests_total",
    "counter",
    "Requests answered.",
    ("method", "path", "status", "namespace"),
)
DURATION = Metric(
    "fs9_http_request_duration_seconds",
    "histogram",
    "From the end of a request's head to the last byte of its answer.",
    ("method", "path", "status"),
)
REQUEST_BYTES = Metric(
    "fs9_http_request_bytes_total", "counter", "Bytes of the bodies of requests, unframed."
)
RESPONSE_BYTES = Metric(
    "fs9_http_response_bytes_total", "counter", "Bytes of the bodies of answers, unframed."
)
REFUSALS = Metric(
    "fs9_refusals_total",
    "counter",
    "Requests refused for lack of room, of time or of a worker, by kind of error.",
    ("kind",),
)
RATE_LIMITED = Metric(
    "fs9_rate_limited_total",
    "counter",
    "Requests refused because a limit on their rate was exceeded, by whose: user, namespace,"
    " address.",
    ("limit",),
)
CONNECTIONS_REFUSED = Metric(
    "fs9_connections_refused_total",
    "counter",
    "Connections closed at once because there were too many, by which limit: worker, address.",
    ("limit",),
)
SLOW_CLIENTS = Metric(
    "fs9_slow_clients_total",
    "counter",
    "Connections cut because the client was too slow, by what it did: head, body, answer.",
    ("doing",),
)
HANDOFFS = Metric("fs9_handoffs_total", "counter", "Connections handed over to other workers.")
FORWARDS = Metric("fs9_forwards_total", "counter", "Requests forwarded to other workers.")
TOKEN_HITS = Metric("fs9_token_cache_hits_total", "counter", "Tokens found verified already.")
TOKEN_MISSES = Metric("fs9_token_cache_misses_total", "counter", "Tokens that were verified.")
NAMESPACE_LOADS = Metric(
    "fs9_namespace_load_seconds",
    "histogram",
    "From the first request for a namespace to its mounts being there, or to the failure.",
    ("outcome",),
)
QUOTA_REFUSALS = Metric(
    "fs9_quota_refusals_total",
    "counter",
    "Changes refused because the namespace's quota would be passed, by which bound: bytes, files.",
    ("bound",),
)
QUOTA_BYTES = Metric(
    "fs9_quota_bytes_used", "gauge_livesum", "Bytes in the namespaces in memory that have a quota."
)
QUOTA_FILES = Metric(
    "fs9_quota_files_used", "gauge_livesum", "Files in the namespaces in memory that have a quota."
)
HANDLES = Metric("fs9_active_handles", "gauge_livesum", "Open handles.")
NAMESPACES = Metric("fs9_loaded_namespaces", "gauge_livesum", "Namespaces in memory.")
CONNECTIONS = Metric("fs9_connections", "gauge_livesum", "Client connections.")
IN_PROGRESS = Metric("fs9_requests_in_progress", "gauge_livesum", "Requests being answered.")
BLOCKING_CALLS = Metric(
    "fs9_blocking_calls", "gauge_livesum", "Calls in threads that block, running or waiting."
)
BLOCKING_WAITING = Metric(
    "fs9_blocking_calls_waiting", "gauge_livesum", "Of these, those that wait for a thread."
)
WORKERS = Metric("fs9_workers", "gauge_livesum", "Workers that serve.")
WORKERS_WANTED = Metric("fs9_workers_wanted", "gauge_livemax", "Workers that there should be.")
BUS_LAG = Metric(
    "fs9_bus_lag_seconds",
    "gauge_livemax",
    "Since the last moment at which a worker knew all that was announced; of the worst one.",
)
BUS_GAPS = Metric(
    "fs9_bus_gaps_total", "counter", "Times a worker missed an announcement, or got another broker."
)
DRAINS = Metric(
    "fs9_drain_seconds", "histogram", "From the order to drain to the worker owning nothing."
)
LOCK_WAITS = Metric(
    "fs9_namespace_lock_wait_seconds",
    "histogram",
    "What a load of a namespace waited for its earlier owner, until it had the lock or gave up.",
)
REVIVED = Metric(
    "fs9_handles_revived_total", "counter", "Handles of an earlier owner that were opened again."
)
RING_SHARE = Metric(
    "fs9_ring_share", "gauge_livesum", "The part of all namespaces that a slot has.", ("slot",)
)
WATCHERS = Metric("fs9_watchers", "gauge_livesum", "Clients that watch namespaces.")
WATCHERS_LOST = Metric(
    "fs9_watchers_lost_total",
    "counter",
    "Times that a watcher was told to list anew, for its cursor is not in the log.",
)
MESSAGES_LOST = Metric(
    "fs9_messages_lost_total",
    "counter",
    "Messages, and chunks of streams, that a reader was told it did not get, for each reader.",
    ("provider",),
)
META_BREAKER = Metric(
    "fs9_meta_breaker_state",
    "gauge_livemax",
    "Whether the metadata service is asked: 0 yes, 1 by one call that finds out, 2 not now; of"
    " the worst worker.",
)

ALL = (
    *(WATCHERS, WATCHERS_LOST, MESSAGES_LOST),
    META_BREAKER,
    *(REQUESTS, DURATION, REQUEST_BYTES, RESPONSE_BYTES, REFUSALS, HANDOFFS, FORWARDS),
    *(QUOTA_REFUSALS, QUOTA_BYTES, QUOTA_FILES),
    *(RATE_LIMITED, CONNECTIONS_REFUSED, SLOW_CLIENTS),
    *(TOKEN_HITS, TOKEN_MISSES, NAMESPACE_LOADS, HANDLES, NAMESPACES, CONNECTIONS, IN_PROGRESS),
    *(BLOCKING_CALLS, BLOCKING_WAITING, WORKERS, WORKERS_WANTED),
    *(BUS_LAG, BUS_GAPS, DRAINS, LOCK_WAITS, REVIVED, RING_SHARE),
)

#: One row of a histogram: a count for each bucket, then the sum of seconds.
_Row = list[float]
_ROW_LENGTH = len(BUCKETS_S) + 1


class Metrics:
    """The counts of one worker. Of one event loop; nothing here awaits."""

    def __init__(self, directory: Path, slot: int) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._slot = slot
        self._files: dict[str, MmapedDict] = {}
        self._requests: defaultdict[tuple[str, str, int, str], int] = defaultdict(int)
        self._durations: dict[tuple[str, str, int], _Row] = {}
        self._rows: dict[tuple[Metric, tuple[str, ...]], _Row] = {}
        self._counts: defaultdict[tuple[Metric, tuple[str, ...]], int] = defaultdict(int)
        self._received_bytes = self._sent_bytes = 0
        self._watched: dict[tuple[Metric, tuple[str, ...]], Callable[[], float]] = {}
        self._seen: dict[str, float] = {}
        self._namespaces: set[str] = set()

    # -- Counting ---------------------------------------------------------------------------

    def count_request(
        self,
        method: str,
        path: str,
        status: int,
        namespace: str,
        seconds: float,
        received_bytes: int = 0,
        sent_bytes: int = 0,
    ) -> None:
        """`path` is a template, so that the series are bounded; namespaces are bounded here.

        The bytes are those of the two bodies.
        """
        if namespace not in self._namespaces:
            namespace = self._admit(namespace)
        self._requests[method, path, status, namespace] += 1
        row = self._durations.get((method, path, status))
        if row is None:
            row = self._durations[method, path, status] = [0.0] * _ROW_LENGTH
        row[bisect_left(BUCKETS_S, seconds)] += 1
        row[-1] += seconds
        self._received_bytes += received_bytes
        self._sent_bytes += sent_bytes

    def _admit(self, namespace: str) -> str:
        if len(self._namespaces) >= NAMESPACES_MAX:
            return OTHER
        self._namespaces.add(namespace)
        return namespace

    def count(self, metric: Metric, *labels: str) -> None:
        """One more of a counter; the values of `labels` must be few."""
        self._counts[metric, labels] += 1

    def count_refusal(self, error: Fs9Error) -> None:
        """Count an error if it is one for lack of room, of time or of a worker."""
        if error.status in _REFUSING:
            self.count(REFUSALS, error.kind)

    def observe(self, metric: Metric, seconds: float, *labels: str) -> None:
        """One more in a histogram of seconds; the values of `labels` must be few."""
        row = self._rows.setdefault((metric, labels), [0.0] * _ROW_LENGTH)
        row[bisect_left(BUCKETS_S, seconds)] += 1
        row[-1] += seconds

    def watch(self, metric: Metric, read: Callable[[], float], *labels: str) -> None:
        """Read the metric at each flush: a gauge, or a counter kept elsewhere in this process."""
        self._watched[metric, labels] = read

    # -- Files ------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what changed since the last flush."""
        requests, self._requests = self._requests, defaultdict(int)
        for (method, path, status, namespace), count in requests.items():
            self._add(REQUESTS, REQUESTS.key(method, path, str(status), namespace), count)
        durations, self._durations = self._durations, {}
        for (method, path, status), row in durations.items():
            self._add_row(DURATION, (method, path, str(status)), row)
        rows, self._rows = self._rows, {}
        for (metric, labels), row in rows.items():
            self._add_row(metric, labels, row)
        received, self._received_bytes = self._received_bytes, 0
        sent, self._sent_bytes = self._sent_bytes, 0
        self._add(REQUEST_BYTES, REQUEST_BYTES.key(), received)
        self._add(RESPONSE_BYTES, RESPONSE_BYTES.key(), sent)
        counts, self._counts = self._counts, defaultdict(int)
        for (metric, labels), count in counts.items():
            self._add(metric, metric.key(*labels), count)
        for (metric, labels), read in self._watched.items():
            key = metric.key(*labels)
            if metric.kind == "counter":
                self._add(metric, key, self._grown(key, read()))
            else:
                self._set(metric, key, read())

    def _grown(self, key: str, value: float) -> float:
        before, self._seen[key] = self._seen.get(key, 0.0), value
        return value - before

    def _add_row(self, metric: Metric, labels: tuple[str, ...], row: _Row) -> None:
        bucket = metric._replace(labels=(*metric.labels, "le"))
        for bound, count in zip(BUCKETS_S, row, strict=False):
            # Zeros too, once: a histogram needs all its buckets.
            key = bucket.key(*labels, floatToGoString(bound), name=f"{metric.name}_bucket")
            self._add(metric, key, count)
        self._add(metric, metric.key(*labels, name=f"{metric.name}_sum"), row[-1])

    def _add(self, metric: Metric, key: str, value: float) -> None:
        with contextlib.suppress(OSError):  # the disk is full: this is not counted
            file = self._file(metric.kind)
            file.write_value(key, file.read_value(key)[0] + value, 0.0)

    def _set(self, metric: Metric, key: str, value: float) -> None:
        with contextlib.suppress(OSError):
            self._file(metric.kind).write_value(key, value, 0.0)

    def _file(self, kind: str) -> MmapedDict:
        file = self._files.get(kind)
        if file is None:
            path = self._directory / f"{kind}_{self._slot}.db"
            file = self._files[kind] = _Samples(path)
        return file

    def render(self) -> bytes:
        """The text format of Prometheus, for all workers, as of their last flush.

        Reads files alone, so it may run in a thread.
        """
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._directory))
        text: bytes = generate_latest(registry)
        return text

    def close(self) -> None:
        self.flush()
        for file in self._files.values():
            file.close()
        self._files.clear()


class _Samples(MmapedDict):
    """A file whose space is there before it is written to.

    In a sparse one, a write that the disk has no room for is SIGBUS: the end of the worker.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        with path.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, max(_FILE_BYTES, file.tell()))
        super().__init__(str(path))  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        while self._used + len(key.encode()) + _SAMPLE_BYTES_MAX > self._capacity:
            larger = 2 * self._capacity
            os.posix_fallocate(self._f.fileno(), 0, larger)
            mapped = mmap.mmap(self._f.fileno(), larger)  # the old one stays if that fails
            self._m.close()
            self._m, self._capacity = mapped, larger
        super()._init_value(key)  # type: ignore[no-untyped-call]


def forget_all(directory: Path) -> None:
    """Begin anew: the counts of an earlier run of the fleet are history."""
    for path in directory.glob("*.db"):
        path.unlink()


def forget_gauges(directory: Path, slot: int) -> None:
    """A worker died: what it had open is gone, what it had counted is not."""
    mark_process_dead(slot, str(directory))
