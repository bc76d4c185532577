"""Sends an operator's request to the fleet's broker, and waits for its result."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec

from router.messages import (
    Accepted,
    Done,
    DrainRequest,
    FleetStatus,
    Refused,
    ReloadRequest,
    ScaleRequest,
    UnknownMessage,
    decode_from_broker,
    encode,
)
from workers.bus import OperatorLine
from workers.endpoint import UnusableKeys

if TYPE_CHECKING:
    from router.messages import Answer, Request
    from workers.slots import RunDirectory

#: A living broker answers within this time, if only with `Accepted`.
_ANSWER_S = 2.0
#: How often a long operation is asked about, and how long a broker may be away meanwhile.
_ASK_AGAIN_S = 1.0
_BROKER_BACK_S = 15.0


class NoBroker(ConnectionError):
    """No broker answers: the fleet is not running, or its broker is being restarted."""


def bus_request(run_directory: RunDirectory, request: Request, timeout_s: float = 60.0) -> Answer:
    """Ask the fleet's broker, and wait for the end of it: Done, Refused or FleetStatus.

    What takes long is asked for again and again with the same id, so it does not matter whether
    the broker that answers in the end is the one that began. Raises NoBroker when nobody
    answers, TimeoutError when it takes too long; then the fleet may still be at it.
    """
    if isinstance(request, DrainRequest | ReloadRequest | ScaleRequest) and not request.id:
        request = msgspec.structs.replace(request, id=os.urandom(8).hex())
    try:
        line = OperatorLine(run_directory)
    except UnusableKeys as error:
        raise NoBroker(str(error)) from None
    try:
        return _wait_for_end(line, run_directory, request, timeout_s)
    finally:
        line.close()


def _wait_for_end(
    line: OperatorLine, run_directory: RunDirectory, request: Request, timeout_s: float
) -> Answer:
    begun_s = heard_s = time.monotonic()
    accepted, wait_s = False, min(timeout_s, _ANSWER_S)
    line.send(encode(request))
    while True:
        answer = _answer(line, wait_s)
        now_s = time.monotonic()
        if isinstance(answer, Accepted):
            accepted, heard_s = True, now_s
        elif answer is not None:
            return answer
        elif not accepted or now_s - heard_s > _BROKER_BACK_S:
            raise NoBroker(
                f"no fleet answers in {run_directory.path}: it is not running, or its broker is"
                " being restarted; try again in a moment"
            )
        else:
            line.send(encode(request))
        wait_s = min(begun_s + timeout_s - now_s, _ASK_AGAIN_S)
        if wait_s <= 0:
            raise TimeoutError(f"the fleet has not finished within {timeout_s:g} s")


def _answer(line: OperatorLine, timeout_s: float) -> Answer | None:
    data = line.receive(timeout_s)
    if data is None:
        return None
    message = decode_from_broker(data).message
    if not isinstance(message, Accepted | Done | Refused | FleetStatus):
        raise UnknownMessage(f"a {type(message).__name__} is no answer")
    return message
