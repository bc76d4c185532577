"""The messages of the control bus, as values and as bytes; no IO.

Three conversations. The broker announces to all workers: each announcement has the broker's
epoch and a sequence number that grows by one; a `Heartbeat` repeats the latest number. A worker
reports to the broker: numbered per epoch and confirmed by `Received`, except for `Status` and
`Acknowledged`, of which only the latest counts. An operator sends requests, and gets `Accepted` at
once when the answer takes longer.

Everything travels in one `Envelope` with the version of the messages. A message of another version
or of an unknown kind is never guessed at: `UnknownMessage`.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from router.view import SlotState, View

VERSION = 1


class UnknownMessage(ValueError):
    """Bytes that this version of the program does not understand; the text says why."""


class Message(msgspec.Struct, frozen=True, tag=True, tag_field="kind"):
    """Base of all messages; the wire names each by its class."""


# -- Broker to all workers ------------------------------------------------------------------


class ViewChanged(Message, frozen=True):
    view: View


class LeaveOrder(Message, frozen=True):
    """Drain; with `exit`, leave the process after.

    For the process `pid` of the slot, or for any with 0. The process that replaces it must not
    follow the order.
    """

    slot: int
    exit: bool
    pid: int = 0


class ReturnOrder(Message, frozen=True):
    """Serve again, after a `LeaveOrder`."""

    slot: int


class LogLevel(Message, frozen=True):
    level: str


class NamespaceChanged(Message, frozen=True):
    """The mounts or settings of a namespace have changed: a worker reports it, all are told."""

    name: str
    #: By which the worker that reported it knows it again; here and below.
    ticket: str = ""


class Revoked(Message, frozen=True):
    """Revoked tokens, as the workers pack them; reported and announced in the same way."""

    packed: bytes
    ticket: str = ""


class Heartbeat(Message, frozen=True):
    """The envelope's sequence is that of the latest announcement, not one of its own."""

    #: Up to here all workers have acknowledged; who has applied more says so again.
    acknowledged: int


# -- Worker to broker -----------------------------------------------------------------------


class Joined(Message, frozen=True):
    slot: int
    #: Of the process that speaks, here and below; 0 is filled in by the bus.
    pid: int = 0


class Ready(Message, frozen=True):
    slot: int
    pid: int = 0


class Drained(Message, frozen=True):
    slot: int
    pid: int = 0
    #: The latest view that the worker knew then; filled in by the bus.
    view: int = 0


class Status(Message, frozen=True):
    slot: int
    pid: int = 0
    namespaces: int = 0
    handles: int = 0
    in_progress: int = 0
    uptime_s: float = 0.0


class Acknowledged(Message, frozen=True):
    """Every announcement of the epoch up to `sequence` has been applied."""

    epoch: str
    sequence: int
    slot: int


class SnapshotRequest(Message, frozen=True):
    """Asks for what came after `since` of `epoch` (-1: everything). The answer has `nonce`."""

    nonce: int
    epoch: str
    since: int


class Numbered(msgspec.Struct, frozen=True):
    """An earlier announcement, with its number."""

    sequence: int
    message: ViewChanged | LeaveOrder | ReturnOrder | LogLevel | NamespaceChanged | Revoked


class Snapshot(Message, frozen=True):
    """The state after `sequence` of the envelope's epoch.

    `complete`: `messages` is all that was announced after `since`. Otherwise it is what still
    holds of it (orders, log level), the view is to be taken, and the rest to be read anew.
    """

    nonce: int
    since: int
    sequence: int
    view: View
    complete: bool
    messages: tuple[Numbered, ...]


class Received(Message, frozen=True):
    """To the worker: the reports up to `number` have arrived."""

    number: int


class Introduce(Message, frozen=True):
    """To the worker: the broker does not know you; report your state again."""


# -- Operator and broker --------------------------------------------------------------------


class StatusRequest(Message, frozen=True):
    pass


class DrainRequest(Message, frozen=True):
    slot: int
    #: When it takes longer, it is taken back and refused.
    deadline_s: float = 30.0
    #: Who asks again with the same one, here and below, asks for the same thing.
    id: str = ""


class UndrainRequest(Message, frozen=True):
    slot: int


class ReloadRequest(Message, frozen=True):
    """Read code and settings anew, and replace the process of each slot, one after the other."""

    #: For the reading, and for each slot, once for draining and once for coming back.
    deadline_s: float = 30.0
    id: str = ""


class ScaleRequest(Message, frozen=True):
    workers: int
    deadline_s: float = 30.0
    id: str = ""


class LogLevelRequest(Message, frozen=True):
    level: str


class Accepted(Message, frozen=True):
    """The request is being worked on; another answer follows."""


class Done(Message, frozen=True):
    #: What the operator is to know about it.
    note: str = ""


class Refused(Message, frozen=True):
    reason: str


class SlotStatus(msgspec.Struct, frozen=True):
    slot: int
    state: SlotState
    #: 0: there is no process at present.
    pid: int
    ready: bool
    namespaces: int
    handles: int
    in_progress: int
    uptime_s: float
    #: Since the last word from it; None: none yet.
    silent_s: float | None
    #: The part of all namespaces that the ring gives it.
    ring_share: float


class FleetStatus(Message, frozen=True):
    view: int
    epoch: str
    #: How many are wanted.
    workers: int
    #: What is under way ("reload"), or "".
    operation: str
    slots: tuple[SlotStatus, ...]


#: What workers tell one another.
Told = NamespaceChanged | Revoked
Announcement = ViewChanged | LeaveOrder | ReturnOrder | LogLevel | Told
Report = Joined | Ready | Drained | Status | Told
Request = (
    StatusRequest | DrainRequest | UndrainRequest | ReloadRequest | ScaleRequest | LogLevelRequest
)
Answer = Accepted | Done | Refused | FleetStatus
#: All that the broker hears, and all that it publishes and answers.
ToBroker = Report | Acknowledged | SnapshotRequest | Request
FromBroker = Announcement | Heartbeat | Snapshot | Received | Introduce | Answer

T = TypeVar("T")


class Envelope(msgspec.Struct, Generic[T], frozen=True):
    v: int
    #: Of the broker that speaks, or that is spoken to; "" in the requests of operators.
    epoch: str
    #: Of an announcement or a report; 0 for what is not numbered.
    sequence: int
    message: T


_encoder = msgspec.msgpack.Encoder()
_envelope = msgspec.msgpack.Decoder(Envelope[msgspec.Raw])
_to_broker = msgspec.msgpack.Decoder(ToBroker)
_from_broker = msgspec.msgpack.Decoder(FromBroker)


def encode(message: ToBroker | FromBroker, epoch: str = "", sequence: int = 0) -> bytes:
    return _encoder.encode(Envelope(VERSION, epoch, sequence, message))


def decode_to_broker(data: bytes) -> Envelope[ToBroker]:
    """Raises UnknownMessage."""
    return _decode(data, _to_broker)


def decode_from_broker(data: bytes) -> Envelope[FromBroker]:
    """Raises UnknownMessage."""
    return _decode(data, _from_broker)


def _decode(data: bytes, decoder: msgspec.msgpack.Decoder[T]) -> Envelope[T]:
    try:
        envelope = _envelope.decode(data)
        if envelope.v != VERSION:
            raise UnknownMessage(
                f"a message of version {envelope.v} of the bus; this program speaks {VERSION}"
            )
        message = decoder.decode(envelope.message)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnknownMessage(f"not a message of the bus: {error}") from error
    return Envelope(envelope.v, envelope.epoch, envelope.sequence, message)
