"""Rounds of interleaved measurements, and the table of their medians.

Variants take turns (A B C A B C …), so that a noisy minute hits them all; of each variant's
runs those with the least foreign CPU are kept, and their median is printed.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEPT = 3


@dataclass
class Sample:
    """One run: work per second, CPU of the server per piece of work, share of others."""

    rate: float
    cpu: float
    foreign: float
    p50_us: float = 0.0
    p99_us: float = 0.0


def take_turns(variants: Mapping[str, Callable[[], Sample]], rounds: int) -> dict[str, Sample]:
    runs: dict[str, list[Sample]] = {name: [] for name in variants}
    for turn in range(rounds + (rounds > 1)):
        for name, measure in variants.items():
            sample = measure()
            if turn or rounds == 1:  # the first turn warms up caches, and memory of the machine
                runs[name].append(sample)
    return {name: _median(samples) for name, samples in runs.items()}


def _median(samples: list[Sample]) -> Sample:
    kept = sorted(samples, key=lambda sample: sample.foreign)[:KEPT]
    return Sample(
        *(
            statistics.median(getattr(sample, field) for sample in kept)
            for field in ("rate", "cpu", "foreign", "p50_us", "p99_us")
        )
    )


def show(
    title: str,
    results: Mapping[str, Sample],
    *,
    baseline: str,
    rate: str,
    cpu: str,
    rate_format: str = ",.0f",
) -> None:
    """Print a table; both ratios are to the baseline, more than 1 is better than it."""
    base = results.get(baseline)
    print(f"\n{title} (ratios to: {baseline})")
    print(f"| variant | {rate} | ratio | {cpu} | ratio | p50 / p99 µs | foreign CPU |")
    print("|---|---|---|---|---|---|---|")
    for name, s in results.items():
        fast = f"{s.rate / base.rate:.2f}" if base and base.rate else "-"
        lean = f"{base.cpu / s.cpu:.2f}" if base and s.cpu else "-"
        waits = f"{s.p50_us:.0f} / {s.p99_us:.0f}" if s.p50_us else "-"
        print(
            f"| {name} | {s.rate:{rate_format}} | {fast} | {s.cpu:.3g} | {lean} | {waits}"
            f" | {s.foreign:.0%} |",
            flush=True,
        )
