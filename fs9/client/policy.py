"""What may be tried again, and when: one table, consulted by the drivers after a failure.

| what happened to the attempt                                 | REPEATABLE | ONCE    |
|--------------------------------------------------------------|------------|---------|
| NOT_SENT: no connection was made                             | again      | again   |
| TURNED_AWAY: the server refused before doing anything: 429,  | again      | again   |
|   421, 503 `Overloaded`, `OwnerUnavailable`,                 |            |         |
|   `CircuitBreakerOpen`, 503 without a kind but `Retry-After` |            |         |
| UNKNOWN: the connection broke or fell silent, or the server  | again      | give up |
|   answered that something behind it failed (a retryable      |            |         |
|   kind: 408, 503 `Transient`, `BackendUnavailable`, 504)     |            |         |
| ANSWERED: any other answer                                   | give up    | give up |

REPEATABLE are the requests whose second execution changes nothing more: everything that
reads (also read by handle), write at an offset, close, and upload without a precondition.
ONCE are rename, remove, wstat, open for creating or truncating, append, and uploads with a
precondition (after a first success the second would fail). A request whose body cannot be
sent from its start again is never repeated once a byte of it was taken.

Between attempts the client waits as `fs9.resilience.backoff` says, and at least as long as
`Retry-After` asks. While a client has never been answered, a refused connection is retried
for `FIRST_CONTACT` only: most likely there is no server, and a person is waiting.
"""

from __future__ import annotations

import enum

import msgspec

from fs9.errors import (
    CircuitBreakerOpen,
    Fs9Error,
    MisdirectedRequest,
    Overloaded,
    OwnerUnavailable,
    TooManyRequests,
)
from fs9.resilience.backoff import BackoffPolicy
from fs9.wire.messages import Problem


class Repeat(enum.Enum):
    """May the request be executed twice?"""

    REPEATABLE = enum.auto()
    ONCE = enum.auto()


class Outcome(enum.Enum):
    """What became of an attempt."""

    NOT_SENT = enum.auto()
    TURNED_AWAY = enum.auto()
    UNKNOWN = enum.auto()
    ANSWERED = enum.auto()


#: Kinds that a server answers only when it did nothing.
_TURNED_AWAY = frozenset(
    error.kind
    for error in (
        CircuitBreakerOpen,
        MisdirectedRequest,
        Overloaded,
        OwnerUnavailable,
        TooManyRequests,
    )
)

_AGAIN = {
    (Repeat.REPEATABLE, Outcome.NOT_SENT),
    (Repeat.REPEATABLE, Outcome.TURNED_AWAY),
    (Repeat.REPEATABLE, Outcome.UNKNOWN),
    (Repeat.ONCE, Outcome.NOT_SENT),
    (Repeat.ONCE, Outcome.TURNED_AWAY),
}

#: Retries while the server has never answered this client.
FIRST_CONTACT = BackoffPolicy(attempts_max=3, delay_first_s=0.1, delay_max_s=0.4, budget_s=1.0)


def may_try_again(repeat: Repeat, outcome: Outcome) -> bool:
    return (repeat, outcome) in _AGAIN


def outcome_of(error: Fs9Error, body: bytes, retry_after_s: float | None) -> Outcome:
    """How an error answer counts. `body` is looked at only for whether it is ours."""
    if error.kind in _TURNED_AWAY:
        return Outcome.TURNED_AWAY
    if error.status == 503 and retry_after_s is not None and not _is_ours(body):
        return Outcome.TURNED_AWAY
    return Outcome.UNKNOWN if error.retryable else Outcome.ANSWERED


def _is_ours(body: bytes) -> bool:
    """Does an error answer carry a kind? If not, a proxy or a foreign server has answered."""
    try:
        return bool(msgspec.json.decode(body, type=Problem).kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def retry_after_s(value: str | None) -> float | None:
    """Seconds from a Retry-After header; its date form (RFC 9110, section 10.2.3) counts as 0.

    Servers and proxies of this field send seconds; a date would need their clock.
    """
    if value is None:
        return None
    digits = value.strip()
    return float(digits) if digits.isascii() and digits.isdigit() and len(digits) < 7 else 0.0
