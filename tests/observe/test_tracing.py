"""Traces are sent at the end of a process, but a receiver that hangs holds up nobody."""

from __future__ import annotations

import socket
import time

from fs9.observe.request import Trail
from fs9.observe.tracing import Tracing
from tests.observe.otlp_receiver import Receiver


def ask(tracing: Tracing, times: int) -> None:
    for _ in range(times):
        trail = Trail()
        tracing.begin(trail, "GET /stat", {})
        tracing.end(trail, 200, {})


def test_what_is_left_is_sent_at_the_end() -> None:
    with Receiver() as receiver:
        tracing = Tracing(receiver.endpoint, instance_id="x", slot=0)
        ask(tracing, 700)
        tracing.close()
        assert len(receiver.spans) == 700


def test_a_receiver_that_hangs_does_not_hold_up_the_end() -> None:
    """It takes connections and never answers, which costs 10 seconds for each batch of spans."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"127.0.0.1:{listener.getsockname()[1]}"
        tracing = Tracing(endpoint, instance_id="x", slot=0)
        ask(tracing, 2000)
        begun_s = time.monotonic()
        tracing.close()
        assert time.monotonic() - begun_s < 9
