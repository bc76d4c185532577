"""The effects that the broker's decisions (`router.control`) have, and its record of a process."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from router.messages import (
    Announcement,
    Answer,
    Done,
    Heartbeat,
    Introduce,
    Received,
    Refused,
    Snapshot,
    Status,
)
from router.operations import AnyOperation
from router.view import View


class Work(msgspec.Struct, frozen=True):
    """The operation that an operator waits for, or the result of the last one.

    `id` is the request's: asking again with it, for example after the broker was replaced, waits
    for the same operation or gets the same answer.
    """

    id: str = ""
    operation: AnyOperation | None = None
    answer: Done | Refused | None = None


class Saved(msgspec.Struct, frozen=True):
    """The state that a broker leaves to the next one."""

    view: View
    #: How many workers are wanted.
    workers: int
    pids: dict[int, int] = {}
    log_level: str = ""
    work: Work = Work()
    #: Slots that an operator has drained: they stay so, whatever becomes of their process.
    resting: tuple[int, ...] = ()


class Publish(NamedTuple):
    sequence: int
    message: Announcement | Heartbeat


class Reply(NamedTuple):
    client: bytes
    message: Answer | Snapshot | Received | Introduce


class Persist(NamedTuple):
    saved: Saved


class Watch(NamedTuple):
    """Call `on_died(slot, pid)` when the process ends, or at once when there is none."""

    slot: int
    pid: int


class Kill(NamedTuple):
    """End the process of a slot, whatever it does; the arbiter replaces it."""

    slot: int
    pid: int


class Renew(NamedTuple):
    """Have the arbiter load new code and settings; `on_renewed` with this id reports the end."""

    id: str


class WriteWorkers(NamedTuple):
    """Tell the arbiter how many workers to keep; `on_written` reports whether that succeeded."""

    workers: int


Effect = Publish | Reply | Persist | Watch | Kill | Renew | WriteWorkers


class Process(msgspec.Struct):
    """The process of a slot."""

    pid: int
    client: bytes = b""
    #: Has it told this broker that it can serve?
    ready: bool = False
    heard_s: float | None = None
    #: From when on its silence counts.
    silent_from_s: float = 0.0
    applied: int = 0
    status: Status | None = None
    #: Was it told to leave?
    dismissed: bool = False
    #: Was it killed because it was silent?
    killed: bool = False
