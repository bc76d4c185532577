"""A worker's life in the fleet: join, follow the views, drain, come back, leave.

The only place where a message of the bus changes the worker. Each message is acted on by bringing
the worker into the state that the newest view demands, so a lost, late or duplicated one does no
harm.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from fs9.observe.log import set_levels
from fs9.observe.metrics import BUS_GAPS, BUS_LAG, DRAINS
from router.messages import (
    Drained,
    Joined,
    LeaveOrder,
    LogLevel,
    NamespaceChanged,
    Ready,
    ReturnOrder,
    Revoked,
    Status,
    ViewChanged,
)
from router.view import SlotState
from workers.changes import from_message, to_message
from workers.feed import Feed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fs9.meta.announce import Change
    from router.messages import Announcement
    from router.view import View
    from workers.bus import BusClient
    from workers.node import Node

log = logging.getLogger("fs9.lifecycle")

#: After this long without a broker at its start, a worker serves by what it knows.
_JOIN_WAIT_S = 3.0
_STATUS_EVERY_S = 1.0
#: A namespace that is another's now is kept when requests begun here take longer than this; the
#: next owner has others wait meanwhile, for `owner_wait_s` at most, of which this is a part.
_MOVE_WAIT_S, _MOVE_WAIT_PART = 2.0, 0.5
#: For connections that came to our front before it was another's.
_ACCEPT_S = 0.1
#: For how long, before the worker tries again to give it up.
_KEPT_S = 10.0
#: Until the last request has come that was sent back to us while we kept it.
_SENT_BACK_S = 0.2


class Lifecycle:
    def __init__(self, node: Node, bus: BusClient, leave: Callable[[], None]) -> None:
        """`leave` ends the process in order; other workers stay."""
        self._node = node
        self._bus = bus
        self._leave = leave
        self._started_s = asyncio.get_running_loop().time()
        self._tasks: set[asyncio.Task[None]] = set()
        self._giving_up: dict[str, asyncio.Task[None]] = {}
        self._drained = False
        self._move_wait_s = min(_MOVE_WAIT_S, _MOVE_WAIT_PART * node.limits.owner_wait_s)
        node.services.announce = self._announce
        node.metrics.watch(BUS_LAG, self._bus_lag_s)
        node.metrics.watch(BUS_GAPS, lambda: bus.gaps)

    async def join(self) -> None:
        """Learn the view before serving, if there is a broker."""
        try:
            await asyncio.wait_for(
                self._bus.start(self._on_message, self._on_snapshot), _JOIN_WAIT_S
            )
        except TimeoutError:
            log.warning("no broker answers; serving without one for now")
        self._bus.report(Joined(self._node.slot))

    def serve(self) -> None:
        """Called when the worker listens: start to serve."""
        self._bus.report(Ready(self._node.slot))
        self._start(self._report_status())

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._bus.close()

    # -- Messages ---------------------------------------------------------------------------

    def _on_message(self, message: Announcement) -> None:
        node = self._node
        match message:
            case ViewChanged(view=view):
                self._on_view(view)
            case LeaveOrder(slot=node.slot, exit=leaves):
                self._start(self._drain(leaves=leaves))
            case ReturnOrder(slot=node.slot):
                self._drained = False
                self._bus.report(Ready(node.slot))
            case LogLevel(level=level):
                set_levels(level)
            case NamespaceChanged() | Revoked():
                node.services.apply(from_message(message))

    def _on_snapshot(self, view: View) -> None:
        """Announcements may have been missed, so read the changes from the store."""
        self._on_view(view)
        self._node.services.changes.hurry()

    async def _announce(self, change: Change) -> bool:
        """Tell every worker, at once this one; see `fs9.meta.announce.Announce`."""
        services = self._node.services
        services.apply(change)
        return await self._bus.tell(to_message(change), services.limits.announce_wait_s)

    def _on_view(self, view: View) -> None:
        draining = bool(view.within(SlotState.DRAINING))
        if self._node.membership.apply(view.number, view.serving, draining=draining):
            if self._node.slot not in view.serving:
                for name in self._giving_up:
                    self._let_move(name)
            self._node.forget_leavers()
            if not self._node.leaving:
                state = view.state(self._node.slot)
                out = state in {SlotState.DRAINING, SlotState.DRAINED}
                self._node.services.readiness.leaving = f"it is {state.value}" if out else ""
            # A request that was routed by the last view may be about to load its namespace.
            for name in [*self._node.services.namespaces.names(), *self._node.membership.busy()]:
                if not self._node.membership.is_assigned(name):
                    self._give_up(name)

    # -- Namespaces that go -----------------------------------------------------------------

    def _give_up(self, name: str) -> None:
        if name not in self._giving_up:
            self._giving_up[name] = self._start(self._give_up_when_quiet(name))

    async def _give_up_when_quiet(self, name: str) -> None:
        """Give the namespace to its new owner once everything begun here has ended.

        A newer view may give it back meanwhile: then nothing more is done.
        """
        membership, namespaces = self._node.membership, self._node.services.namespaces
        try:
            while not membership.is_assigned(name):
                namespaces.end_followers(name)  # later those that came back to us
                if await membership.wait_quiet(name, self._move_wait_s):
                    break
                await self._keep(name)
            if not membership.is_assigned(name):
                await namespaces.give_up(name)
        finally:
            # Without an await after the last look: the next view may take it away once more.
            del self._giving_up[name]

    async def _keep(self, name: str) -> None:
        """A long transfer is in progress: answer for the namespace meanwhile, if we stay.

        The next owner sends back to us who waits there (`workers.departure`).
        """
        membership, namespaces = self._node.membership, self._node.services.namespaces
        if membership.is_assigned(name) or name not in namespaces.names():
            return
        if membership.keep(name):
            namespaces.locks.note(name, str(self._node.slot))
            await membership.wait_quiet(name, _KEPT_S)
            self._let_move(name)
            await asyncio.sleep(_SENT_BACK_S)

    def _let_move(self, name: str) -> None:
        self._node.membership.let_move(name)
        self._node.services.namespaces.locks.note(name, "")

    async def _drain(self, *, leaves: bool) -> None:
        """The view without us has been published before the order; end what is left."""
        since_s = asyncio.get_running_loop().time()
        while self._giving_up:
            await asyncio.wait(list(self._giving_up.values()))
        if (
            not self._drained and not leaves
        ):  # the order to leave follows a drain, and orders repeat
            self._drained = True
            self._node.metrics.observe(DRAINS, asyncio.get_running_loop().time() - since_s)
        self._bus.report(self._status())
        self._bus.report(Drained(self._node.slot))
        if leaves:
            await self._bus.flush()
            # Alone, it answers what came; what comes waits for its successor at the listener.
            successor = self._node.membership.successor()
            self._node.moving_out = successor is not None
            if successor is not None:
                self._node.run_directory.lend_front(self._node.slot, successor)
                await asyncio.sleep(_ACCEPT_S)
            self._leave()

    # -- Reports ----------------------------------------------------------------------------

    async def _report_status(self) -> None:
        now_s = asyncio.get_running_loop().time
        feed = Feed(self._bus_lag_s, lambda: self._node.services.changes.caught_up, now_s())
        while True:
            self._node.heed(feed.hearing(now_s()))
            self._bus.report(self._status())
            await asyncio.sleep(_STATUS_EVERY_S)

    def _bus_lag_s(self) -> float:
        if self._bus.view is None:  # no broker has ever spoken
            return asyncio.get_running_loop().time() - self._started_s
        return self._bus.lag_s

    def _status(self) -> Status:
        namespaces = self._node.services.namespaces
        return Status(
            slot=self._node.slot,
            namespaces=len(namespaces),
            handles=namespaces.open_handles,
            in_progress=self._node.active,
            uptime_s=asyncio.get_running_loop().time() - self._started_s,
        )

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a step of the worker's life failed", exc_info=task.exception())
