"""The worker's side of the control bus, without IO: announcements received, reports unconfirmed.

`Subscriber` turns announcements that may be lost, duplicated and reordered into an ordered sequence
without gaps; `Reporter` makes sure that the broker hears every report once and in order. Both are
given what arrived and the time, and return what to do (`Output`); `workers.bus` does it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from router.messages import (
    Acknowledged,
    Drained,
    Heartbeat,
    Joined,
    LeaveOrder,
    Ready,
    SnapshotRequest,
    Status,
    ViewChanged,
)

if TYPE_CHECKING:
    from router.messages import Announcement, Report, Snapshot
    from router.view import View

#: A lost snapshot or report is asked for or sent again after this.
RETRY_S = 0.03
#: Every consumer asks what it may have missed, even if nothing points to it.
RECONCILE_S = 5.0
#: The broker speaks every 200 ms; after so much silence the worker no longer counts as in sync.
SILENCE_S = 1.0
#: Announcements kept while a gap before them is filled; beyond, the snapshot has them all.
_AHEAD_MAX = 1000


class Deliver(NamedTuple):
    """The next announcement."""

    message: Announcement


class Adopt(NamedTuple):
    """A view to be taken instead of what was known; single announcements may be missing."""

    view: View
    epoch: str


class Send(NamedTuple):
    """Send to the broker, in an envelope with this epoch and number."""

    message: Report | Acknowledged | SnapshotRequest
    epoch: str
    number: int


Output = Deliver | Adopt | Send


class Subscriber:
    """`pid` is that of the worker: orders to an earlier process of its slot are passed over."""

    def __init__(self, slot: int, pid: int) -> None:
        self.slot = slot
        self.pid = pid
        self.epoch = ""
        self.view: View | None = None
        #: How often announcements were found missing, or the broker another one.
        self.gaps = 0
        #: The latest number applied, and the highest one heard of.
        self._last = self._known = 0
        #: Is there a snapshot of this epoch to count from?
        self._based = False
        self._ahead: dict[int, Announcement] = {}
        self._nonce = self._nonce_floor = 0
        self._asked_s: float | None = None
        self._answered_s = 0.0
        self._heard_s: float | None = None
        self._synced_s: float | None = None

    @property
    def applied(self) -> int:
        """The number of the latest announcement that was delivered."""
        return self._last

    @property
    def _complete(self) -> bool:
        return self._based and self._last >= self._known

    def in_sync(self, now_s: float) -> bool:
        """Is every announcement applied, as far as is known here?"""
        return self._complete and self._heard_s is not None and now_s - self._heard_s < SILENCE_S

    def lag_s(self, now_s: float) -> float:
        """Since the last moment at which nothing was missing; 0 before the first one."""
        return 0.0 if self._synced_s is None else max(0.0, now_s - self._synced_s)

    def on_announcement(
        self, epoch: str, sequence: int, message: Announcement | Heartbeat, now_s: float
    ) -> list[Output]:
        self._heard_s = now_s
        if epoch != self.epoch:
            self._begin(epoch)
        self._known = max(self._known, sequence)
        if isinstance(message, Heartbeat):
            late = self._complete and message.acknowledged < self._last
            return self._settle(now_s) + (self._acknowledgement() if late else [])
        if sequence > self._last and len(self._ahead) < _AHEAD_MAX:
            self._ahead[sequence] = message
        return self._settle(now_s)

    def on_snapshot(self, epoch: str, snapshot: Snapshot, now_s: float) -> list[Output]:
        if snapshot.nonce <= self._nonce_floor:
            return []
        self._heard_s = self._answered_s = now_s
        self._asked_s = None
        if epoch != self.epoch:
            self._begin(epoch)
        if self._based and snapshot.sequence < self._last:
            # What was missing arrived meanwhile.
            return self._settle(now_s)
        outputs: list[Output] = []
        if not (self._based and snapshot.complete):
            outputs += self._adopt(snapshot.view)
        for numbered in snapshot.messages:
            if numbered.sequence > self._last:
                outputs += self._deliver(numbered.message)
        if self.view != snapshot.view:
            outputs += self._adopt(snapshot.view)
        moved = not self._based or snapshot.sequence > self._last
        self._based, self._last = True, snapshot.sequence
        self._known = max(self._known, self._last)
        acknowledgement = self._acknowledgement() if moved else []
        return outputs + acknowledgement + self._settle(now_s)

    def on_tick(self, now_s: float) -> list[Output]:
        """To be called every RETRY_S, or more often."""
        if self._heard_s is None:
            # Before the first word the subscription may not be in force.
            return []
        if self._asked_s is not None:
            return self._ask(now_s) if now_s - self._asked_s >= RETRY_S else []
        return self._ask(now_s) if now_s - self._answered_s >= RECONCILE_S else []

    def _begin(self, epoch: str) -> None:
        """Start anew with another broker: earlier numbers mean nothing to it."""
        self.gaps += bool(self.epoch)
        self.epoch, self._based = epoch, False
        self._last = self._known = 0
        self._ahead.clear()
        self._nonce_floor = self._nonce
        self._asked_s = None

    def _settle(self, now_s: float) -> list[Output]:
        """Deliver what is next, acknowledge it, and request what is missing."""
        outputs: list[Output] = []
        if self._based:
            for number in [each for each in self._ahead if each <= self._last]:
                del self._ahead[number]
            while (message := self._ahead.pop(self._last + 1, None)) is not None:
                self._last += 1
                outputs += self._deliver(message)
            if outputs:
                outputs += self._acknowledgement()
        if self._complete:
            self._synced_s = now_s
        elif self._asked_s is None:
            self.gaps += self._based
            outputs += self._ask(now_s)
        return outputs

    def _ask(self, now_s: float) -> list[Output]:
        self._nonce += 1
        self._asked_s = now_s
        since = self._last if self._based else -1
        return [Send(SnapshotRequest(self._nonce, self.epoch, since), self.epoch, 0)]

    def _adopt(self, view: View) -> list[Output]:
        self.view = view
        return [Adopt(view, self.epoch)]

    def _deliver(self, message: Announcement) -> list[Output]:
        if isinstance(message, ViewChanged):
            self.view = message.view
        if isinstance(message, LeaveOrder) and message.pid not in {0, self.pid}:
            return []
        return [Deliver(message)]

    def _acknowledgement(self) -> list[Output]:
        return [Send(Acknowledged(self.epoch, self._last, self.slot), self.epoch, 0)]


class Reporter:
    """Sends reports in order, and again until the broker confirms them; a `Status` once.

    Another broker first hears what the worker is: `Joined`, then `Ready` or `Drained`.
    """

    def __init__(self) -> None:
        self._epoch = ""
        self._joined: Joined | None = None
        self._state: Ready | Drained | None = None
        self._unconfirmed: deque[tuple[int, Report]] = deque()
        self._number = 0
        self._sent_s = 0.0

    @property
    def outstanding(self) -> int:
        return len(self._unconfirmed)

    def report(self, message: Report, now_s: float) -> list[Output]:
        if isinstance(message, Status):
            return [Send(message, self._epoch, 0)] if self._epoch else []
        if isinstance(message, Joined):
            self._joined = message
        elif isinstance(message, Ready | Drained):
            self._state = message
        self._number += 1
        self._unconfirmed.append((self._number, message))
        if not self._epoch:
            return []
        if len(self._unconfirmed) == 1:
            self._sent_s = now_s
        return [Send(message, self._epoch, self._number)]

    def on_broker(self, epoch: str, now_s: float) -> list[Output]:
        """Note the broker's epoch; to be called for everything that it sends."""
        if epoch == self._epoch:
            return []
        self._epoch = epoch
        messages: list[Report] = [each for each in (self._joined, self._state) if each is not None]
        messages += [
            message
            for _, message in self._unconfirmed
            if not isinstance(message, Joined | Ready | Drained)
        ]
        self._number = len(messages)
        self._unconfirmed = deque(enumerate(messages, 1))
        return self._send_all(now_s)

    def on_introduce(self, epoch: str, now_s: float) -> list[Output]:
        """The broker does not know this worker: report its state again."""
        if epoch != self._epoch or self._unconfirmed:
            # It learns it from what is on its way.
            return []
        outputs: list[Output] = []
        for message in (self._joined, self._state):
            if message is not None:
                outputs += self.report(message, now_s)
        return outputs

    def on_received(self, epoch: str, number: int) -> None:
        if epoch == self._epoch:
            while self._unconfirmed and self._unconfirmed[0][0] <= number:
                self._unconfirmed.popleft()

    def on_tick(self, now_s: float) -> list[Output]:
        if self._epoch and self._unconfirmed and now_s - self._sent_s >= RETRY_S:
            return self._send_all(now_s)
        return []

    def _send_all(self, now_s: float) -> list[Output]:
        self._sent_s = now_s
        return [Send(message, self._epoch, number) for number, message in self._unconfirmed]
