"""fs9.observe.metrics: any worker tells the counts of all; none goes back when a worker dies."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

import pytest

from fs9.errors import NotFound, Overloaded, RequestTimeout
from fs9.observe.metrics import (
    ALL,
    BUCKETS_S,
    BUS_LAG,
    DURATION,
    HANDLES,
    HANDOFFS,
    NAMESPACE_LOADS,
    NAMESPACES_MAX,
    OTHER,
    REQUESTS,
    RING_SHARE,
    TOKEN_HITS,
    WORKERS,
    WORKERS_WANTED,
    Metrics,
    forget_all,
    forget_gauges,
)

if TYPE_CHECKING:
    from pathlib import Path


def value(text: bytes, series: str) -> float:
    """The value of the one line of `text` that begins with `series`."""
    found = [line for line in text.decode().splitlines() if line.startswith(series + " ")]
    assert len(found) == 1, f"{series}: {found}"
    return float(found[0].rpartition(" ")[2])


STAT = 'method="GET",path="/api/v1/stat"'


def test_one_worker_answers_for_all(tmp_path: Path) -> None:
    first, second = Metrics(tmp_path, 0), Metrics(tmp_path, 1)
    for worker, count in ((first, 3), (second, 4)):
        for _ in range(count):
            worker.count_request("GET", "/api/v1/stat", 200, "acme", 0.002)
            worker.count(HANDOFFS)
        worker.watch(HANDLES, lambda count=count: count * 10)
        worker.flush()
    text = first.render()
    requests = f'fs9_http_requests_total{{{STAT[:12]},namespace="acme",{STAT[13:]},status="200"}}'
    assert value(text, requests) == 7
    assert value(text, "fs9_handoffs_total") == 7
    assert value(text, "fs9_active_handles") == 70
    first.close()
    second.close()


def test_bytes_are_summed_and_what_all_say_alike_is_not(tmp_path: Path) -> None:
    first, second = Metrics(tmp_path, 0), Metrics(tmp_path, 1)
    for worker in (first, second):
        worker.count_request("PUT", "/p", 200, "n", 0.1, 1000, 7)
        worker.count_request("PUT", "/p", 200, "n", 0.1, 1, 0)
        worker.watch(WORKERS, lambda: 1)
        worker.watch(WORKERS_WANTED, lambda: 2)
        worker.flush()
        worker.flush()
    text = first.render()
    assert value(text, "fs9_http_request_bytes_total") == 2002
    assert value(text, "fs9_http_response_bytes_total") == 14
    assert value(text, "fs9_workers") == 2
    assert value(text, "fs9_workers_wanted") == 2
    first.close()
    second.close()
    forget_gauges(tmp_path, 1)
    text = first.render()
    assert value(text, "fs9_workers") == 1, "a worker that died does not serve"
    assert value(text, "fs9_workers_wanted") == 2


def test_gauges_with_a_label_and_the_worst_of_those_that_live(tmp_path: Path) -> None:
    first, second = Metrics(tmp_path, 0), Metrics(tmp_path, 1)
    for slot, worker in enumerate((first, second)):
        worker.watch(BUS_LAG, lambda slot=slot: slot * 7.0)
        worker.watch(RING_SHARE, lambda slot=slot: (slot + 1) / 4, str(slot))
        worker.flush()
    text = first.render()
    assert value(text, "fs9_bus_lag_seconds") == 7
    assert value(text, 'fs9_ring_share{slot="0"}') == 0.25
    assert value(text, 'fs9_ring_share{slot="1"}') == 0.5
    forget_gauges(tmp_path, 1)
    text = first.render()
    assert value(text, "fs9_bus_lag_seconds") == 0, "a dead worker lags no longer"
    assert b'slot="1"' not in text
    first.close()
    second.close()


def test_refusals_are_counted_by_kind_and_errors_of_the_caller_are_not(tmp_path: Path) -> None:
    worker = Metrics(tmp_path, 0)
    for error in (Overloaded("x"), Overloaded("y"), RequestTimeout("z"), NotFound("/a")):
        worker.count_refusal(error)
    worker.flush()
    text = worker.render()
    assert value(text, 'fs9_refusals_total{kind="Overloaded"}') == 2
    assert value(text, 'fs9_refusals_total{kind="RequestTimeout"}') == 1
    assert b'kind="NotFound"' not in text
    worker.close()


def test_a_histogram_of_its_own_has_its_labels(tmp_path: Path) -> None:
    worker = Metrics(tmp_path, 0)
    worker.observe(NAMESPACE_LOADS, 0.003, "ok")
    worker.observe(NAMESPACE_LOADS, 0.3, "ok")
    worker.observe(NAMESPACE_LOADS, 0.3, "failed")
    worker.flush()
    text = worker.render()
    name = "fs9_namespace_load_seconds"
    assert value(text, f'{name}_bucket{{le="0.005",outcome="ok"}}') == 1
    assert value(text, f'{name}_count{{outcome="ok"}}') == 2
    assert value(text, f'{name}_sum{{outcome="failed"}}') == pytest.approx(0.3)
    worker.close()


def test_a_histogram_has_every_bucket_its_sum_and_its_count(tmp_path: Path) -> None:
    worker = Metrics(tmp_path, 0)
    for seconds in (0.00005, 0.002, 0.0025, 100.0):
        worker.count_request("GET", "/p", 200, "n", seconds)
    worker.flush()
    text = worker.render()
    name = "fs9_http_request_duration_seconds"
    buckets = re.findall(rf'^{name}_bucket{{le="([^"]+)",.*}} (\S+)$', text.decode(), re.M)
    found = {float(bound): float(count) for bound, count in buckets}
    assert sorted(found) == sorted(BUCKETS_S)
    assert (found[0.0001], found[0.001], found[0.0025], found[30.0]) == (1, 1, 3, 3)
    assert found[float("inf")] == 4
    labels = 'method="GET",path="/p",status="200"'
    assert value(text, f"{name}_count{{{labels}}}") == 4
    assert value(text, f"{name}_sum{{{labels}}}") == pytest.approx(100.00455)
    worker.close()


def test_the_next_process_of_a_slot_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    hits = 5
    for _ in range(2):
        worker = Metrics(tmp_path, 0)
        worker.watch(TOKEN_HITS, lambda: hits)
        worker.count_request("GET", "/p", 200, "n", 0.1)
        worker.flush()
        worker.flush()
        worker.close()
    reader = Metrics(tmp_path, 1)
    text = reader.render()
    assert value(text, "fs9_token_cache_hits_total") == 10
    labels = 'method="GET",path="/p",status="200"'
    assert value(text, f"fs9_http_request_duration_seconds_count{{{labels}}}") == 2
    reader.close()


def test_what_a_dead_worker_had_open_is_gone_and_what_it_counted_is_not(tmp_path: Path) -> None:
    dead, alive = Metrics(tmp_path, 0), Metrics(tmp_path, 1)
    for worker in (dead, alive):
        worker.watch(HANDLES, lambda: 7)
        worker.count(HANDOFFS)
        worker.flush()
    forget_gauges(tmp_path, 0)
    text = alive.render()
    assert value(text, "fs9_active_handles") == 7
    assert value(text, "fs9_handoffs_total") == 2
    dead.close()
    alive.close()
    forget_all(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_namespaces_with_a_label_are_bounded(tmp_path: Path) -> None:
    worker = Metrics(tmp_path, 0)
    for number in range(NAMESPACES_MAX + 50):
        worker.count_request("GET", "/p", 200, f"n{number}", 0.1)
    worker.flush()
    text = worker.render().decode()
    assert len(re.findall(r"^fs9_http_requests_total{", text, re.M)) == NAMESPACES_MAX + 1
    assert re.search(rf'namespace="{OTHER}".* 50\.0$', text, re.M)
    worker.close()


def test_names_and_units_are_those_of_prometheus() -> None:
    for metric in ALL:
        assert re.fullmatch(r"fs9_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.text.endswith(".")


def test_every_sample_has_its_help_and_type(tmp_path: Path) -> None:
    """Under the name that it has, so that they are about it."""
    worker = Metrics(tmp_path, 0)
    for metric in ALL:
        labels = ["x"] * len(metric.labels)
        if metric is REQUESTS or metric is DURATION:
            worker.count_request("GET", "/p", 200, "acme", 0.1)
        elif metric.kind == "histogram":
            worker.observe(metric, 0.1, *labels)
        else:
            worker.watch(metric, lambda: 1.0, *labels)
    worker.flush()
    text = worker.render().decode()
    worker.close()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    assert set(kinds) == {metric.name for metric in ALL}
    assert set(re.findall(r"^# HELP (\S+) \S", text, re.M)) == set(kinds)
    for metric in ALL:
        assert kinds[metric.name] == metric.kind.partition("_")[0]


def test_the_files_have_no_holes(tmp_path: Path) -> None:
    """A page that a full disk has no room for would be the end of the process (SIGBUS)."""
    metrics = Metrics(tmp_path, 0)
    for number in range(NAMESPACES_MAX):
        metrics.count_request("GET", "/api/v1/stat", 200, f"namespace-{number}", 0.1)
    metrics.flush()
    sizes = [path.stat() for path in tmp_path.glob("*.db")]
    assert max(size.st_size for size in sizes) > 100_000
    assert all(size.st_blocks * 512 >= size.st_size for size in sizes)
    requests = 'fs9_http_requests_total{method="GET",namespace="namespace-77"'
    assert requests in metrics.render().decode()
    metrics.close()


def test_a_full_disk_costs_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else; what is counted later counts."""

    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    metrics = Metrics(tmp_path, 0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        metrics.count(HANDOFFS)
        metrics.watch(HANDLES, lambda: 5)
        metrics.flush()
    metrics.count(HANDOFFS)
    metrics.flush()
    text = metrics.render()
    assert value(text, "fs9_handoffs_total") == 1
    assert value(text, "fs9_active_handles") == 5
    metrics.close()
