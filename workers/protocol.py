"""The HTTP protocol class of the workers: from bytes to the lane that answers.

    head complete ─> whose namespace? ─ another slot's ─> hand the connection over, or forward
                          │ ours, or nobody's                          (workers.departure)
                          ├─ small hot operation ──────> answered here, often without a task
                          ├─ body or answer in pieces ─> answered here    (workers.answering)
                          └─ everything else ──────────> uvicorn's ASGI cycle, Falcon

All lanes drive the same operations (`fs9.http.operations`). One request at a time is in
progress on a connection (`workers.connection`); what a client pipelines behind it waits, so
that the connection can move at every request boundary. Only this class reads the connection,
but for bodies, which `SocketBody` receives.

Everything here runs on one event loop, and no method here awaits: each runs to its end without
interleaving.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httptools

from fs9.errors import (
    Fs9Error,
    MalformedRequest,
    RouteNotFound,
)
from fs9.names import is_namespace_name
from router.key import API, routing_key
from workers.answering import run_in_pieces, run_small
from workers.connection import INPUT_BYTES_MAX, Connection
from workers.cycle import cancellable, take_over
from workers.peer import peer_of
from workers.sink import CUT_SHORT, SocketBody
from workers.state import IN_PROGRESS, UNANSWERED, State

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from fs9.http.operations import Operation
    from fs9.vfs.namespaces import Namespaces
    from router.framing import Block
    from workers.request import Request

#: Bytes of an answer that may wait in the transport before the next piece is read. Measured:
#: with 1 MiB more pieces are in flight than the cache holds, a sixth more CPU per GiB.
WRITE_AHEAD_BYTES = 256 * 1024

#: Operations whose body or answer goes in pieces.
_PIECEWISE = frozenset({"read", "write", "upload", "download", "follow"})

#: A connection without a request stays open for so long when its worker leaves: a client that is
#: just sending one learns from the answer that it is the last, instead of losing it.
PARTING_S = 0.3

_EMPTY_LINE = b"\r\n"

# What every request compares with: the name of an enum's member costs four times as much.
_IDLE, _COLLECT, _ANSWER = State.IDLE, State.COLLECT, State.ANSWER


class Fs9Protocol(Connection):
    """One client connection: reads requests, and passes each to the lane that answers it."""

    # -- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.peer = peer_of(transport, private=self.private)
        self.client = (self.peer, 0)  # what the ASGI application hears
        transport.set_write_buffer_limits(high=WRITE_AHEAD_BYTES)
        refusal = None if self.private else self.enter()
        if refusal is not None:
            self.turn_away(refusal)
        elif self._departure.must_wait():
            self._state = State.MOVE
            self.run(self._wait_for_view(), here=False)
        elif self.node.leaving:
            # Accepted or handed over at the last moment: what it brought is answered.
            self._ending = not self.node.moving_out
            self._advance()
            self.shutdown()
        else:
            self._advance()

    async def _wait_for_view(self) -> None:
        await self._departure.wait_for_view()
        self._state = _IDLE
        self._uncount()
        self._advance()

    def data_received(self, data: bytes) -> None:
        if data == _EMPTY_LINE and self._state is _IDLE and not self.intake.left:
            return  # before a request (RFC 9112, 2.2), or instead of one for ever: no progress
        self._progress_s = self.loop.time()
        self.intake.add(data)
        state = self._state
        if (state is _IDLE or state is _COLLECT) and not self._advance_due:
            self._advance()
        elif state is State.APP:
            self._feed_app()
        elif state is State.FORWARD:
            self._departure.feed()
        elif state is State.DRAIN:
            self._drain()
        elif state is State.CLOSED:
            self.intake.clear()
            self._linger_bytes -= len(data)
            if self._linger_bytes < 0:
                self.flow.pause_reading()
        elif self.intake.left > INPUT_BYTES_MAX or self._is_held:
            self.flow.pause_reading()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep a half-closed connection until the requests that arrived completely are answered."""
        self._eof = True
        if self.is_endless:
            return False
        if self._state in UNANSWERED and not self.intake.framer.done:
            error = MalformedRequest(CUT_SHORT)
            if self._body is not None:
                self._body.fail(error)  # seen after what is here of it, which may be all
                return True
            self._end_request(error, error)
            return not self.transport.is_closing()
        if self._state is _IDLE and self.intake.left:
            self._advance_soon()
            return True
        return self._state in IN_PROGRESS

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if self._body is not None:
            self._body.fail(MalformedRequest(CUT_SHORT))
        if self._task is not None:
            self._task.cancel()
        self._departure.abort()
        self._uncount()
        self.exit()
        if self._is_held:
            self._tell_filter(refused=True)
        self.node.account.broke_off(self, self.loop.time() - self._since_s)
        self._state = State.CLOSED
        self.intake.clear()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.touch()
        self._departure.resume()
        if self._state is State.IDLE:
            self._read_on()
        if self._state is State.MOVE and self.request is None:
            self.loop.call_soon(self._departure.move_out)
        elif self._state in {State.IDLE, State.MOVE}:
            # Not from here: a transport that is aborted inside resume_writing closes twice.
            self._advance_soon()

    def shutdown(self) -> None:
        """The worker is leaving: no request after the one in progress is answered here."""
        if self.node.moving_out:
            # A private connection is closed by the worker at its other end: only that one knows
            # that it has no request on its way here.
            if self._state in {State.IDLE, State.COLLECT} and not self.private:
                self._move_out()
            return
        self._ending = True
        if self._state is State.IDLE:
            self.loop.call_later(PARTING_S, self._part)
        elif self._state is State.APP:
            self.cycle.keep_alive = False

    def _part(self) -> None:
        """Close unless a request has come; that one is answered with `connection: close`."""
        if self._state is State.IDLE:
            self.transport.close()

    def forget_leavers(self) -> None:
        """After a change of the view: close connections to workers that may leave."""
        self._departure.forget_leavers()

    def _move_out(self) -> None:
        """Give the connection to a worker that stays, with what was read of the next request."""
        if self._state is State.COLLECT and self.request is not None:
            self.intake.give_back(self.request.head)
        self.request = None
        self._state = State.MOVE
        self._departure.move_out()

    # -- The head of a request --------------------------------------------------------------

    def _advance(self) -> None:
        """Start as many requests as can be started now, within a turn."""
        left = self._turn_requests
        while self.intake.left and not self.transport.is_closing():
            state = self._state
            if state is _COLLECT:
                if not self._answer_collected():
                    return
            elif state is State.MOVE:
                if self._departure.waits_for_writes and self.request is not None:
                    self.route(self.request)
                return
            elif state is _IDLE:
                if self.flow.write_paused:
                    self.flow.pause_reading()  # a client that sends and never reads
                    return
                if not left:
                    self._advance_soon()
                    return
                left -= 1
                try:
                    request = self._next_request()
                except Fs9Error as error:
                    self.refuse(error)
                    return
                if request is None:
                    self.flow.resume_reading()  # there may be much of its head
                    break
                self.request = request
                self.route(request)
            else:
                return
        if self._eof and self._state is _IDLE:
            self.transport.close()  # nothing completes what may be there

    def _next_request(self) -> Request | None:
        request = self.intake.next_request(self.node.heads)
        if request is not None:
            self._head_since_s = None
        elif self._head_since_s is None and self.intake.left:
            self._head_since_s = self.loop.time()
        return request

    # -- Whose request is it, and which lane? -----------------------------------------------

    def route(self, request: Request) -> None:
        """Answer here, or take the connection or the request to the owner."""
        node = self.node
        claimed = request.block.claimed_namespace
        if claimed is None and node.auth and request.path.startswith(API):
            claimed = request.identified
            if claimed is None and node.is_opaque(request.block):
                self._state = State.MOVE
                self.run(self._departure.identify(request), here=False)
                return
        key = routing_key(request.path, request.tenant, claimed or None, auth=node.auth)
        request.key = key
        if key is not None:
            owner = node.membership.owner(key)
            if owner != node.slot and not self._still_has(key):
                self._state = State.MOVE
                if self.private:
                    self.run(self._departure.wait_to_own(request, key), here=False)
                else:
                    self._departure.leave(request, owner)
                return
            namespaces = node.services.namespaces
            if namespaces.loaded(key) is None and _is_elsewhere(namespaces, key):
                self._state = State.MOVE
                self.run(self._departure.wait_for_release(request, key), here=False)
                return
        self.stay(request)

    def _still_has(self, key: str) -> bool:
        """Was the request sent back to this worker, which has the namespace for a moment more?"""
        return self.private and self.node.services.namespaces.loaded(key) is not None

    def stay(self, request: Request) -> None:
        """Answer the request in this worker."""
        node = self.node
        self._departure.count_request()
        self._begin(request)
        if self._eof and self.intake.left < (request.block.length or 0):
            self.refuse(MalformedRequest(CUT_SHORT))
            return
        if node.active >= node.active_unchecked:
            refusal = node.refusal(request.key)
            if refusal is not None:
                self.refuse(refusal)
                return
        self._choose_lane(request)

    def _begin(self, request: Request) -> None:
        """The head is taken; what follows in the input is the body."""
        self._state = _IDLE
        self.intake.begin(request)
        self.started = False
        self.status = 0
        self._since_s = self._progress_s
        self.node.account.begin(request)

    def _choose_lane(self, request: Request) -> None:
        node, block, method = self.node, request.block, request.line.method
        if node.fast_lane:
            name = b"GET" if method == b"HEAD" else method
            operation = request.operation = node.operations.get((name, request.path))
            if operation is not None:
                if operation.fast and name is method and self._is_small(block):
                    self._state = _COLLECT
                    self._answer_collected()
                    return
                if operation.name in _PIECEWISE:
                    self._answer_in_pieces(request, operation)
                    return
        self._start_app(request)

    def _is_small(self, block: Block) -> bool:
        return (
            block.length is not None
            and block.length <= self.node.limits.fast_body_bytes_max
            and not block.expect_continue
        )

    # -- Lanes 1 and 2: operations answered here --------------------------------------------

    def _answer_collected(self) -> bool:
        """Answer a small request if its body is complete."""
        request = self.request
        assert request is not None
        assert request.operation is not None
        length = request.block.length or 0
        if self.intake.left < length:
            self.flow.resume_reading()  # it may be more than what is kept of requests ahead
            return False
        key = request.key
        if key is not None and not (self.node.membership.owns(key) or self._still_has(key)):
            # The namespace moved while the body was on its way.
            self.intake.give_back(request.head)
            self.route(request)
            return True
        body = self.intake.take_body() if length else b""
        self._state = _ANSWER
        rest = run_small(self, request, request.operation, body)
        if rest is None:
            self.finish()
        else:
            self.run(self._then_finish(rest))
            if self._is_held:
                self._tell_filter(refused=True)
            assert self._task is not None
            # Cut before the task's first step, it is awaited by nobody.
            self._task.add_done_callback(lambda _: rest.close())
        return True

    def _answer_in_pieces(self, request: Request, operation: Operation) -> None:
        self._state = State.ANSWER
        self._body = SocketBody(
            self,
            self.intake.framer,
            request.block.length,
            self.node.buffers,
            expect_continue=request.block.expect_continue,
        )
        self.run(self._then_finish(run_in_pieces(self, request, operation, self._body)))

    async def _then_finish(self, work: Coroutine[Any, Any, None]) -> None:
        await work
        self._body = None
        self.finish()

    # -- Lane 3: the ASGI application -------------------------------------------------------

    def _start_app(self, request: Request) -> None:
        if request.line.path == b"*":
            self.refuse(RouteNotFound("*"))
            return
        self._state = State.APP
        self._count()
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(request.head_for_app())
        except httptools.HttpParserError:
            self.refuse(MalformedRequest("the request is not HTTP/1.1"))
            return
        self._feed_app()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        take_over(self, cycle)
        self._watch(self.loop.create_task(cycle.run_asgi(cancellable(app, cycle))), here=True)

    def _feed_app(self) -> None:
        try:
            part = self.intake.take_body()
            if part:
                self.parser.feed_data(part)
        except (Fs9Error, httptools.HttpParserError):
            if self.started:
                self.transport.abort()
            else:
                self._abandon_task()
                self.refuse(MalformedRequest("the body is not framed as HTTP/1.1 requires"))

    def on_response_complete(self) -> None:
        if self._state is State.APP:
            self.end_after_this(not self.cycle.keep_alive)
            self.finish()


def _is_elsewhere(namespaces: Namespaces, key: str) -> bool:
    """Does an earlier owner still have the namespace? Invalid names are refused later."""
    return is_namespace_name(key) and namespaces.elsewhere(key)
