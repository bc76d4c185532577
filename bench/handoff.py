"""What ownership costs: requests that arrive at one worker and belong to the other.

Two workers on one core. Connections that keep to one namespace need one hand-off at most;
connections that change namespace at every request show a hand-off each time against
forwarding once a connection keeps changing (`FS9_FORWARDING`).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from bench.fleet import Fleet, fleet
from bench.load import request
from bench.requests import measured
from bench.rounds import show, take_turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.rounds import Sample

_NAMESPACES = [f"tenant{index}" for index in range(8)]


def run(quick: bool) -> None:
    seconds, rounds = (0.1, 1) if quick else (2.0, 5)
    settled = [[_stat(name)] for name in _NAMESPACES]
    # Each connection begins elsewhere, so that the two workers are busy alike.
    moving = [
        [_stat(name) for name in _NAMESPACES[shift:] + _NAMESPACES[:shift]]
        for shift in range(len(_NAMESPACES))
    ]
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(fleet(workers=1))
        moves = stack.enter_context(fleet(workers=2, FS9_FORWARDING="false"))
        forwards = stack.enter_context(fleet(workers=2, FS9_FORWARDING="true"))
        for each in (one, moves, forwards):
            _fill(each)
        cases: dict[str, tuple[Fleet, list[list[bytes]]]] = {
            "one worker, a namespace per connection": (one, settled),
            "two workers, a namespace per connection": (moves, settled),
            "one worker, alternating": (one, moving),
            "two workers, alternating, hand-off only": (moves, moving),
            "two workers, alternating, forwarding": (forwards, moving),
        }
        variants: dict[str, Callable[[], Sample]] = {
            name: measured(each.pid, each.port, scripts, seconds)
            for name, (each, scripts) in cases.items()
        }
        show(
            "hand-off and forwarding, stat",
            take_turns(variants, rounds),
            baseline="one worker, a namespace per connection",
            rate="requests/s",
            cpu="CPU µs/request",
        )


def _stat(namespace: str) -> bytes:
    return request("GET", f"/{namespace}/api/v1/stat?path=/")


def _fill(each: Fleet) -> None:
    for name in _NAMESPACES:
        each.call("GET", f"/{name}/api/v1/stat?path=/")
