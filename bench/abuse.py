"""One tenant at a hundred times its limit, and what the others notice of it.

The others are tenants of the same worker, asking at a steady pace as people and programs do. They
are measured alone, beside the abusive tenant, and beside one that does the very same to a sink:
a process that reads and drops. What the sink makes of their waits is not fs9's doing, but that of
a sender and a network stack on the same two cores. The three take turns, in another order in each
round, so that a drift of the machine is no difference between them.

The abusive tenant is given one form at a time (`bench.abusers`). One that keeps to its limit is
measured as well: so much of the difference it is entitled to make.

A ratio is that of the medians of the rounds' p99; the interval is that of 95 % of the ratios of
as many rounds drawn from them (bootstrap).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import cpu
from bench.abusers import FORMS, LIMIT_QPS, OTHERS_FROM, abuse, connect, start
from bench.fleet import bearer, fleet, temporary, token
from bench.load import request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bench.abusers import Form
    from bench.fleet import Fleet

_YAML = f"""
server:
  rate_limit: {{enabled: true, namespace_qps: 1000, user_qps: {LIMIT_QPS}}}
mounts:
- {{path: /, provider: memfs}}
namespace_template:
- {{path: /, provider: memfs}}
"""
_OTHERS = 20
#: Of all others together; below their limits, and well below what a worker can.
_OTHERS_PER_S = 1000.0
_DRAWS = 2000
_FOREIGN_MAX = 0.02
_ARMS = ("alone", "sink", "fs9")


@dataclass
class _Sample:
    """Of the others in one turn; `busy`: the share of its core that the fleet used.

    `foreign`: the share of the machine that was used by nobody of ours.
    """

    p50_us: float
    p99_us: float
    busy: float
    foreign: float


@dataclass
class _Pace:
    """How long, and how often, an arm is measured."""

    seconds: float
    rounds: int
    #: Until an abuser has had what is given at once, and its sockets are as full as they get.
    settle_s: float = 1.0
    #: While somebody else is at work on the machine.
    tries_max: int = 4


@dataclass
class _Round:
    alone: _Sample
    sink: _Sample
    fs9: _Sample


def run(quick: bool) -> None:
    print(f"\n{_OTHERS} others with {_OTHERS_PER_S:,.0f} requests/s together\n")
    pace = _Pace(0.2, rounds=1, settle_s=0.1, tries_max=1) if quick else _Pace(2.0, rounds=12)
    with serving() as served:
        results = {form.name: measure(served, form, pace) for form in FORMS}
    show(results)


@contextlib.contextmanager
def serving() -> Iterator[Fleet]:
    """A worker with limits on, the others' namespaces and the abuser's."""
    with temporary() as home, fleet(auth=True, yaml=_YAML, directory=home) as served:
        admin = token("default", roles=["admin"])
        for name in ("abusive", *(f"tenant{number}" for number in range(_OTHERS))):
            served.call("POST", "/api/v1/namespaces", json.dumps({"name": name}), admin)
        _ask(served, 0.3)
        yield served


def measure(served: Fleet, form: Form, pace: _Pace) -> list[_Round]:
    found = []
    for _ in range(pace.rounds):
        turns = {}
        for name in random.sample(_ARMS, 3):
            beside = abuse(form, served.port, sink=name == "sink")
            with contextlib.nullcontext() if name == "alone" else beside:
                time.sleep(pace.settle_s)
                turns[name] = _ask_undisturbed(served, pace)
        found.append(_Round(**turns))
    return found


def _ask_undisturbed(served: Fleet, pace: _Pace) -> _Sample:
    """Try again while somebody else is at work on the machine; the least disturbed try counts."""
    tries = []
    for _ in range(pace.tries_max):
        tries.append(_ask(served, pace.seconds))
        if tries[-1].foreign < _FOREIGN_MAX:
            break
    return min(tries, key=lambda each: each.foreign)


def _ask(served: Fleet, seconds: float) -> _Sample:
    used_s, ours_s, foreign = cpu.used_s(served.pid), _ours_s(), cpu.Foreign()
    with start("bench.abuse", {"port": served.port, "seconds": seconds}) as process:
        output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("the load failed")
    p50, p99 = json.loads(output)
    busy = (cpu.used_s(served.pid) - used_s) / seconds
    return _Sample(p50, p99, busy, foreign.share(_ours_s() - ours_s))


def _ours_s() -> float:
    """CPU seconds of this process and all that it has started, living and ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return cpu.used_s(os.getpid()) + ended.ru_utime + ended.ru_stime


def show(results: dict[str, list[_Round]]) -> None:
    print("| the abusive tenant | p99 µs: alone | sink | fs9 | fs9 to alone | fs9 to sink | CPU |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, rounds in results.items():
        columns = [
            *(f"{_middle(getattr(each, arm).p99_us for each in rounds):,.0f}" for arm in _ARMS),
            _ratio(rounds, "alone"),
            _ratio(rounds, "sink"),
            " → ".join(
                f"{_middle(getattr(each, arm).busy for each in rounds):.1%}"
                for arm in ("alone", "fs9")
            ),
        ]
        print("| " + " | ".join([name, *columns]) + " |", flush=True)


def _middle(values: Iterable[float]) -> float:
    return statistics.median(values)


def _ratio(rounds: Sequence[_Round], base: str) -> str:
    """Of the abused fs9's p99 to that of another arm, with its interval."""
    pairs = [(each.fs9.p99_us, getattr(each, base).p99_us) for each in rounds]
    drawn = sorted(_of_medians(random.choices(pairs, k=len(pairs))) for _ in range(_DRAWS))
    low, high = drawn[_DRAWS * 25 // 1000], drawn[_DRAWS * 975 // 1000]
    return f"{_of_medians(pairs):.2f} ({low:.2f}-{high:.2f})"


def _of_medians(pairs: Sequence[tuple[float, float]]) -> float:
    abused, base = zip(*pairs, strict=True)
    return _middle(abused) / _middle(base)


# -- In a process of its own ----------------------------------------------------------------


def _others(port: int, seconds: float) -> tuple[float, float]:
    """Ask at a steady pace, each other in turn, and wait for each answer before the next."""
    asking = []
    for number in range(_OTHERS):
        sock = connect(port, OTHERS_FROM)
        key = token(f"tenant{number}", sub=f"user{number}")
        asking.append((sock, request("GET", "/api/v1/stat?path=/", headers=bearer(key))))
    waits = []
    end_s = time.perf_counter() + seconds
    due_s = time.perf_counter()
    turn = 0
    while (now_s := time.perf_counter()) < end_s:
        if now_s < due_s:
            time.sleep(due_s - now_s)
        sock, wire = asking[turn % _OTHERS]
        turn += 1
        start_s = time.perf_counter()
        sock.sendall(wire)
        answer = sock.recv(65_536)
        waits.append(time.perf_counter() - start_s)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"one of the others got {answer[:200]!r}")
        due_s = max(due_s + 1 / _OTHERS_PER_S, now_s - 0.01)
    waits.sort()
    return waits[len(waits) // 2] * 1e6, waits[len(waits) * 99 // 100] * 1e6


if __name__ == "__main__":
    print(json.dumps(_others(**json.load(sys.stdin))))
