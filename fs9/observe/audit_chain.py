"""The hash chain of one namespace's events, as pure values.

    digest = SHA-256(digest before, in hexadecimal ‖ canonical JSON of the event), in hexadecimal

The canonical JSON is an array of the event's fields, without white space, the names of `details`
sorted. The first event follows the empty text. What was stored is checked by `ChainCheck`: an
event that is edited, removed, added or moved breaks the chain at it or right after it. Cutting off
only the end leaves a valid chain: to detect that, note the tip elsewhere and look for it later.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

_canonical = msgspec.json.Encoder(order="deterministic").encode


#: In the details of an event whose row in the store was spoiled: the columns that cannot be read.
UNREADABLE = "unreadable"


class AuditRecord(msgspec.Struct, frozen=True):
    """One event of a namespace, as it is kept: a link of the namespace's hash chain.

    `sequence` counts from 1 without gaps. `digest` is the SHA-256, in hexadecimal, of the
    digest before and of this event. `outcome` is "ok" or the kind of the
    error that refused it. `details`: what else is known (a rename's target, bytes written).
    `previous` is the digest before, "" in the first event; the store fills it in.
    """

    sequence: int
    timestamp_ns: int
    event_type: str
    path: str
    user: str
    count: int
    outcome: str
    details: dict[str, Any]
    digest: str
    previous: str = ""


def digest_of(record: AuditRecord, previous: str) -> str:
    """What the record's digest must be after `previous`."""
    fields = (
        *(record.sequence, record.timestamp_ns, record.event_type, record.path, record.user),
        *(record.count, record.outcome, record.details),
    )
    return hashlib.sha256(previous.encode() + _canonical(fields)).hexdigest()


class Tip(msgspec.Struct, frozen=True):
    """Where a chain ends; sequence 0 and no digest before its first event."""

    sequence: int = 0
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.sequence}:{self.digest}"


def tip_of(record: AuditRecord | None) -> Tip:
    return Tip() if record is None else Tip(record.sequence, record.digest)


def continued(tip: Tip, events: Iterable[AuditRecord]) -> list[AuditRecord]:
    """The events, whose own sequence and digests do not matter, as links after the tip."""
    records = []
    for event in events:
        link = msgspec.structs.replace(
            event, sequence=tip.sequence + 1, previous=tip.digest, digest=""
        )
        link = msgspec.structs.replace(link, digest=digest_of(link, tip.digest))
        tip = tip_of(link)
        records.append(link)
    return records


class Break(msgspec.Struct, frozen=True):
    """The first link that does not hold."""

    sequence: int
    reason: str

    def __str__(self) -> str:
        return f"event {self.sequence}: {self.reason}"


class ChainCheck:
    """Feed it all events that are kept, oldest first; it stops at the first broken link.

    Where the chain begins, after older events were forgotten, the first one's `previous` is
    believed. `noted`: a tip that somebody saw earlier, which must be in the chain unless it is
    older than that.
    """

    def __init__(self, noted: Tip | None = None) -> None:
        self.count = 0
        self.first: int | None = None
        self.tip = Tip()
        self.broken: Break | None = None
        self._noted = noted

    @property
    def extent(self) -> str:
        """How many events there are and, when older ones are gone, with which they begin."""
        if self.first is None or self.first == 1:
            return f"{self.count} events"
        return f"{self.count} events from {self.first} on (older ones were removed)"

    def feed(self, records: Iterable[AuditRecord]) -> None:
        for record in records:
            if self.broken is None:
                self._check(record)

    def end(self) -> Break | None:
        """There are no more; the first broken link, if any."""
        noted = self._noted
        if self.broken is None and noted is not None and noted.sequence > self.tip.sequence:
            self.broken = Break(noted.sequence, "this event was there and is not any more")
        return self.broken

    def _check(self, record: AuditRecord) -> None:
        if self.first is None:
            self.first = record.sequence
            self.tip = Tip(record.sequence - 1, record.previous)
        unreadable = record.details.get(UNREADABLE)
        if unreadable is not None:
            number = record.sequence or self.tip.sequence + 1
            self.broken = Break(number, f"it cannot be read any more ({unreadable})")
            return
        reason = self._wrong(record)
        if reason is not None:
            self.broken = Break(record.sequence, reason)
            return
        self.tip = tip_of(record)
        self.count += 1

    def _wrong(self, record: AuditRecord) -> str | None:
        expected = self.tip.sequence + 1
        if record.sequence != expected:
            return f"event {expected} should be here"
        if record.previous != self.tip.digest:
            return "it does not follow the event before it"
        if record.sequence == 1 and record.previous:
            return "the first event follows nothing"
        if record.digest != digest_of(record, record.previous):
            return "its digest is not that of what it says"
        noted = self._noted
        if (
            noted is not None
            and noted.sequence == record.sequence
            and noted.digest != record.digest
        ):
            return "it had another digest"
        return None
