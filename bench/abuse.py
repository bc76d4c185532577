"""One tenant at a hundred times its limit, and what the others notice of it.

The others are tenants of the same worker, asking at a steady pace as people and programs do
(`bench.others`). They are measured in five arms, which take turns, in another order in each round,
so that a drift of the machine is no difference between them: twice alone; beside a tenant who
does what the abusive one does, but as often as it may; beside the abusive tenant; and beside
one that does the very same to a sink, a process that reads and drops: what the sink makes of their
waits is not fs9's doing, but that of a sender and a network stack on the same two cores. The
abusive tenant is given one form at a time (`bench.abusers`).

A ratio is that of the p99 of all requests of an arm to that of another, with the interval that
drawing whole rounds again gives (`bench.bootstrap`). Counted are the requests during which the
machine did not stall (`bench.stalls`); with all of them there is a column of its own. That of the
two arms alone says what the method makes of no difference.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import resource
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bench import cpu
from bench.abusers import ABUSIVE, FORMS, LIMIT_QPS, MODEST, abuse
from bench.bootstrap import Ratio, p99_ratio
from bench.fleet import fleet, temporary, token
from bench.others import others
from bench.stalls import awake, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from bench.abusers import Form
    from bench.fleet import Fleet
    from bench.others import Record
    from bench.stalls import Stalls

_YAML = f"""
server:
  rate_limit: {{enabled: true, namespace_qps: 1000, user_qps: {LIMIT_QPS}}}
mounts:
- {{path: /, provider: memfs}}
namespace_template:
- {{path: /, provider: memfs}}
"""
_OTHERS = [f"tenant{number}" for number in range(40)]
#: Of all others together; each asks at half its limit, all at a fifth of what a worker can.
_OTHERS_PER_S = 2000.0
_FOREIGN_MAX = 0.05
_ALONE, _AGAIN, _LIMIT, _SINK, _ABUSED = _ARMS = ("alone", "again", "limit", "sink", "abused")


class _Window(NamedTuple):
    """`busy`: the share of its core that the fleet used; `foreign`: that of the machine that was
    used by nobody of ours."""

    begin_s: float
    end_s: float
    busy: float
    foreign: float


@dataclass
class _Pace:
    """How long, and how often, an arm is measured."""

    seconds: float
    rounds: int
    #: Until an abuser has had what is given at once; and until nothing is left of one that ended.
    settle_s: float = 1.2
    rest_s: float = 0.3
    #: While somebody else is at work on the machine.
    tries_max: int = 3


_Round = dict[str, _Window]


class _Measured:
    """A form's rounds, with what the others waited in them."""

    def __init__(self, rounds: Sequence[_Round], record: Record, stalls: Stalls) -> None:
        self._rounds = rounds
        self._waits = [
            {arm: record.waits(each.begin_s, each.end_s, stalls) for arm, each in turns.items()}
            for turns in rounds
        ]
        self._stalls = stalls

    def ratio(self, arms: Sequence[str], bases: Sequence[str], *, every: bool = False) -> Ratio:
        return p99_ratio(
            [
                (self._of(number, arms, every), self._of(number, bases, every))
                for number in range(len(self._rounds))
            ]
        )

    def p99_us(self, *arms: str) -> float:
        waits = [wait for n in range(len(self._rounds)) for wait in self._of(n, arms, every=False)]
        return sorted(waits)[len(waits) * 99 // 100] * 1e6 if waits else math.nan

    def _of(self, number: int, arms: Sequence[str], every: bool) -> list[float]:
        of_arms = [self._waits[number][arm] for arm in arms]
        return [wait for waits in of_arms for wait in (waits.every if every else waits.undisturbed)]

    def stalled(self, arm: str) -> float:
        return self._mean(arm, lambda each: self._stalls.share(each.begin_s, each.end_s))

    def busy(self, arm: str) -> float:
        return self._mean(arm, lambda each: each.busy)

    def _mean(self, arm: str, value: Callable[[_Window], float]) -> float:
        return statistics.mean(value(turns[arm]) for turns in self._rounds)


def run(quick: bool) -> None:
    pace = _Pace(0.2, rounds=1, settle_s=0.1, rest_s=0.0, tries_max=1)
    measure(FORMS, pace if quick else _Pace(4.0, rounds=12))


def measure(forms: Sequence[Form], pace: _Pace) -> None:
    print(f"\n{len(_OTHERS)} others with {_OTHERS_PER_S:,.0f} requests/s together\n")
    print("| the abusive tenant | p99 µs: alone | at its limit | sink | abused |", end="")
    print(" abused to alone | to at its limit | to sink | alone to alone |", end="")
    print(" abused to alone, all requests | stalls | CPU |\n" + "| --- " * 12 + "|")
    with serving() as served, awake():
        for form in forms:
            print(f"| {form.name} | {_row(_measure(served, form, pace))} |", flush=True)


def _row(found: _Measured) -> str:
    alone = (_ALONE, _AGAIN)
    columns = [
        *(f"{found.p99_us(*arms):,.0f}" for arms in (alone, (_LIMIT,), (_SINK,), (_ABUSED,))),
        *(found.ratio((_ABUSED,), bases) for bases in (alone, (_LIMIT,), (_SINK,))),
        found.ratio((_AGAIN,), (_ALONE,)),
        found.ratio((_ABUSED,), alone, every=True),
        " → ".join(f"{found.stalled(arm):.0%}" for arm in (_ALONE, _LIMIT, _ABUSED)),
        " → ".join(f"{found.busy(arm):.1%}" for arm in (_ALONE, _LIMIT, _ABUSED)),
    ]
    return " | ".join(map(str, columns))


@contextlib.contextmanager
def serving() -> Iterator[Fleet]:
    """A worker with limits on, and everybody's namespaces."""
    with temporary() as home, fleet(auth=True, yaml=_YAML, directory=home) as served:
        admin = token("default", roles=["admin"])
        for name in (ABUSIVE, MODEST, *_OTHERS):
            served.call("POST", "/api/v1/namespaces", json.dumps({"name": name}), admin)
        yield served


def _measure(served: Fleet, form: Form, pace: _Pace) -> _Measured:
    port = served.port
    rounds: list[_Round] = []
    with (
        watch() as watched,
        others(port, _OTHERS, _OTHERS_PER_S, core=cpu.LOAD_CORE) as asking,
    ):
        time.sleep(pace.settle_s)
        for _ in range(pace.rounds):
            beside: dict[str, AbstractContextManager[None]] = {
                _ALONE: contextlib.nullcontext(),
                _AGAIN: contextlib.nullcontext(),
                _LIMIT: abuse(form.within_limit(), port, sink=False),
                _SINK: abuse(form, port, sink=True),
                _ABUSED: abuse(form, port, sink=False),
            }
            turns = {}
            for arm in random.sample(_ARMS, len(_ARMS)):
                with beside[arm]:
                    time.sleep(pace.rest_s if arm in (_ALONE, _AGAIN) else pace.settle_s)
                    turns[arm] = _undisturbed(served, pace)
                time.sleep(pace.rest_s)
            rounds.append(turns)
        return _Measured(rounds, asking.end(), watched.end())


def _undisturbed(served: Fleet, pace: _Pace) -> _Window:
    """Try again while somebody else is at work on the machine; the least disturbed try counts."""
    tries = []
    for _ in range(pace.tries_max):
        tries.append(_window(served, pace.seconds))
        if tries[-1].foreign < _FOREIGN_MAX:
            break
    return min(tries, key=lambda each: each.foreign)


def _window(served: Fleet, seconds: float) -> _Window:
    used_s, ours_s, foreign = cpu.used_s(served.pid), _ours_s(), cpu.Foreign()
    begin_s = time.monotonic()
    time.sleep(seconds)
    end_s = time.monotonic()
    busy = (cpu.used_s(served.pid) - used_s) / (end_s - begin_s)
    return _Window(begin_s, end_s, busy, foreign.share(_ours_s() - ours_s))


def _ours_s() -> float:
    """CPU seconds of this process and all that it has started, living and ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return cpu.used_s(os.getpid()) + ended.ru_utime + ended.ru_stime


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.abuse", description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument(
        "--forms", type=int, nargs="*", metavar="N", help="of bench.abusers, from 0"
    )
    arguments = parser.parse_args()
    chosen = range(len(FORMS)) if arguments.forms is None else arguments.forms
    measure([FORMS[number] for number in chosen], _Pace(4.0, rounds=arguments.rounds))
