"""Takes a request to the slot that owns its namespace.

The connection itself is handed over (`router.handoff`); one that changes namespace at nearly
every request has its requests forwarded instead (`router.forward`). While the owner is being
replaced, both wait for it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from fs9.errors import MalformedRequest, MisdirectedRequest, OwnerUnavailable
from fs9.observe.metrics import FORWARDS, HANDOFFS
from router.forward import Upstream
from router.handoff import Handed
from workers.peer import forwarding_name, forwarding_view

if TYPE_CHECKING:
    from workers.connection import Connection
    from workers.request import Request

#: A connection handed over this often within so many requests is forwarded from then on.
MOVES_MAX = 8
MOVES_WINDOW_REQUESTS = 64
#: How long a connection waits for the view by which it was sent.
VIEW_WAIT_S = 2.0
#: How soon, at first, a waiting request checks again whether its namespace is free.
_RELEASE_RETRY_S = 0.005
#: Without a broker nobody ends a drain; a request does not wait for one longer than this.
_DRAIN_MAX_S = 600.0
#: Unsent body kept for an owner that does not take it; then the client is not read.
_BODY_AHEAD_BYTES_MAX = 256 * 1024


class Departure:
    """Takes the requests of one connection to their owners, and counts its moves."""

    def __init__(self, connection: Connection, handed: Handed | None) -> None:
        self._connection = connection
        self._view = handed.view if handed else 0
        self._moves = handed.moves if handed else 0
        self._requests = handed.requests if handed else 0
        self._upstreams: dict[int, Upstream] = {}
        #: The number of the view by which they forward.
        self._upstreams_view = 0
        self._active: Upstream | None = None
        #: Must earlier answers be out before the connection can go?
        self.waits_for_writes = False

    def count_request(self) -> None:
        self._requests += 1
        if self._requests >= MOVES_WINDOW_REQUESTS:
            self._requests, self._moves = 0, self._moves // 2

    def leave(self, request: Request, owner: int) -> None:
        """Hand the connection to `owner`, or forward the request.

        Called again, when the transport's buffer is empty, if earlier answers were not out.
        """
        connection = self._connection
        self.waits_for_writes = False
        if self._is_forwarded(request):
            connection.run(self._reach(request, owner, forward=True), here=False)
        elif connection.transport.get_write_buffer_size():
            self.waits_for_writes = True
            connection.flow.pause_reading()
            connection.transport.set_write_buffer_limits(high=0)
        else:
            try:
                self._hand_over(owner)
            except OwnerUnavailable:
                connection.run(self._reach(request, owner, forward=False), here=False)

    def _is_forwarded(self, request: Request) -> bool:
        """Should the request be forwarded, not handed over with the connection?

        Never for HTTP/1.0: its answer may end with the connection, so the owner must have that.
        """
        if not self._connection.node.forwarding or not request.line.minor:
            return False
        return self._moves >= MOVES_MAX

    def _hand_over(self, owner: int) -> None:
        connection = self._connection
        sock = connection.transport.get_extra_info("socket")
        connection.flow.pause_reading()
        view = connection.node.membership.number
        handed = Handed(connection.intake.data, self._moves + 1, self._requests, view)
        connection.node.handoff.send(owner, sock.fileno(), handed)
        connection.node.metrics.count(HANDOFFS)
        connection.let_go()

    def must_wait(self) -> bool:
        """Was the connection sent here according to a view that this worker does not know yet?"""
        return self._view > self._connection.node.membership.number

    async def wait_for_view(self) -> None:
        """Wait for that view, for a bounded time; then go on by the one that is known."""
        view, self._view = self._view, 0
        with suppress(TimeoutError):
            await self._connection.node.membership.wait_for_view(view, VIEW_WAIT_S)

    def move_out(self) -> None:
        """Hand the connection, between two requests, to a worker that stays.

        Called again, when the transport's buffer is empty, if earlier answers were not out.
        """
        connection = self._connection
        if connection.transport.is_closing():
            return
        if connection.transport.get_write_buffer_size():
            connection.flow.pause_reading()
            connection.transport.set_write_buffer_limits(high=0)
            return
        successor = connection.node.membership.successor()
        try:
            if successor is None:
                raise OwnerUnavailable("no worker stays")
            self._hand_over(successor)
        except OwnerUnavailable:
            connection.transport.close()

    async def wait_to_own(self, request: Request, key: str) -> None:
        """A forwarded request may come before the view by which it was forwarded, or after the
        next one. Then it goes on to the owner: by a newer view each time, so never in a loop.
        """
        connection, node = self._connection, self._connection.node
        view = forwarding_view(connection.transport)
        if view is not None and view < node.membership.number:
            await self._reach(request, node.membership.owner(key), forward=True)
        elif await node.membership.wait_to_own(key, VIEW_WAIT_S):
            self._come_home(request)
        else:
            connection.refuse(MisdirectedRequest(f"slot {node.slot} does not own {key}"))

    async def identify(self, request: Request) -> None:
        """Look up the namespace of a credential that does not name it: an API key."""
        connection, node = self._connection, self._connection.node
        request.identified = await node.namespace_of(request.block, connection.peer)
        connection.flow.resume_reading()
        connection.route(request)

    async def wait_for_release(self, request: Request, key: str) -> None:
        """Wait while the earlier owner of our namespace ends what it has begun there.

        The bytes of the request stay where they are, so that it can go elsewhere: a newer view
        may give the namespace back, or the earlier owner keeps it for a long transfer. The time
        of a drain, which has a deadline of its own, does not count.
        """
        connection, node = self._connection, self._connection.node
        left_s, pause_s, drain_s = node.limits.owner_wait_s, _RELEASE_RETRY_S, 0.0
        while node.membership.owns(key) and node.services.namespaces.elsewhere(key):
            if await self._send_back(request, key):
                return
            if left_s <= 0 or drain_s > _DRAIN_MAX_S:
                connection.refuse(OwnerUnavailable("another worker still has the namespace"))
                return
            await asyncio.sleep(pause_s)
            if node.membership.draining:
                drain_s += pause_s
            else:
                left_s -= pause_s
            pause_s = min(2 * pause_s, node.owner_retry_s)
        self._come_home(request)

    async def _send_back(self, request: Request, key: str) -> bool:
        """Send the request to the earlier owner if that still has the namespace; False if not."""
        connection, node = self._connection, self._connection.node
        keeper = node.services.namespaces.locks.noted(key)
        if not keeper.isdecimal() or int(keeper) == node.slot:
            return False
        try:
            if connection.private or self._is_forwarded(request):
                self._forward(request, await self._upstream(int(keeper)))
            elif connection.transport.get_write_buffer_size():
                return False  # earlier answers go out first
            else:
                self._hand_over(int(keeper))
        except OwnerUnavailable:
            return False
        return True

    def _come_home(self, request: Request) -> None:
        """Answer here: the namespace is ours now, though another worker may still hold it."""
        self._connection.flow.resume_reading()
        self._connection.route(request)

    async def _reach(self, request: Request, owner: int, *, forward: bool) -> None:
        """Try until the owner serves again, for at most the node's `owner_wait_s`.

        A new view may name another owner meanwhile.
        """
        connection, node = self._connection, self._connection.node
        deadline_s = connection.loop.time() + node.owner_wait_s
        while True:
            try:
                owner = node.membership.owner(request.key) if request.key else owner
                if owner == node.slot:
                    self._come_home(request)
                elif forward:
                    self._forward(request, await self._upstream(owner))
                else:
                    self._hand_over(owner)
            except OwnerUnavailable as error:
                if connection.loop.time() >= deadline_s:
                    connection.refuse(error)
                    return
                await asyncio.sleep(node.owner_retry_s)
            else:
                return

    # -- Forwarding -------------------------------------------------------------------------

    async def _upstream(self, owner: int) -> Upstream:
        number = self._connection.node.membership.number
        if number != self._upstreams_view:
            self._drop_upstreams()
            self._upstreams_view = number
        upstream = self._upstreams.get(owner)
        if upstream is None or not upstream.usable:
            path = self._connection.node.run_directory.private_socket(owner)
            upstream = self._upstreams[owner] = await Upstream.connect(
                path, self, forwarding_name(self._connection.peer, number)
            )
        return upstream

    def _forward(self, request: Request, upstream: Upstream) -> None:
        self.count_request()
        self._connection.node.metrics.count(FORWARDS)
        self._active = upstream
        upstream.begin(request.head, head_request=request.line.method == b"HEAD")
        self._connection.begin_forward(request)
        request.trail = None  # the owner tells of it
        self.feed()

    def feed(self) -> None:
        """Forward what the client has sent of the body."""
        connection = self._connection
        if self._active is None:
            return
        try:
            part = connection.intake.take_body()
        except MalformedRequest:
            # The owner sees the same bytes and refuses them.
            part = connection.intake.take_all()
        self._active.send_body(part)
        if connection.intake.left > _BODY_AHEAD_BYTES_MAX:
            connection.flow.pause_reading()

    def forget_leavers(self) -> None:
        """Close idle connections to workers that do not serve by the newest view."""
        serving = self._connection.node.membership.serving
        for slot in [slot for slot in self._upstreams if slot not in serving]:
            if self._upstreams[slot] is not self._active:
                self._upstreams.pop(slot).abort()

    def resume(self) -> None:
        """Go on with the forwarded answer: the client takes bytes again."""
        if self._active is not None:
            self._active.resume()

    def abort(self) -> None:
        """Stop forwarding: the client is gone, or gets another answer."""
        self._active = None
        self._drop_upstreams()

    def _drop_upstreams(self) -> None:
        for upstream in self._upstreams.values():
            upstream.abort()
        self._upstreams.clear()

    # router.forward.ForwardingClient

    def relay(self, data: bytes) -> bool:
        connection = self._connection
        connection.started = True
        connection.touch()
        if not connection.transport.is_closing():
            connection.transport.write(data)
        return not connection.flow.write_paused

    def forwarded(self, *, close: bool) -> None:
        if not self._connection.intake.framer.done and self._active is not None:
            # The owner still waits for the rest of the body, which is dropped here.
            self._active.abort()
        self._active = None
        self._connection.end_after_this(close)
        self._connection.finish()

    def forward_broken(self, *, started: bool) -> None:
        self._active = None
        connection = self._connection
        if started:
            connection.transport.abort()
        elif not connection.transport.is_closing():
            connection.end_after_this(True)
            connection.refuse(OwnerUnavailable("the namespace's worker went away; try again"))

    def hold_body(self, *, held: bool) -> None:
        if held:
            self._connection.flow.pause_reading()
        else:
            self._connection.flow.resume_reading()
