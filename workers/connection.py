"""The request in progress on a connection: its tasks, its deadline and its end.

`workers.protocol` reads the connection and decides who answers; this module is its base.
"""

from __future__ import annotations

import abc
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fs9.errors import (
    Fs9Error,
    MisdirectedRequest,
    Overloaded,
    OwnerUnavailable,
    RequestTimeout,
    RouteNotFound,
    TooManyRequests,
)
from fs9.observe.metrics import SLOW_CLIENTS
from router.framing import ChunkedFramer
from workers.answering import write_reply
from workers.departure import Departure
from workers.intake import DRAIN_BYTES_MAX, Intake
from workers.pace import ANSWER, BODY, HEAD, REST, Pace
from workers.state import State

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from fs9.http.exchange import Exchange
    from fs9.principal import Principal
    from router.framing import Framer
    from router.handoff import Handed
    from workers.membership import Membership
    from workers.node import Node
    from workers.request import Request
    from workers.sink import SocketBody

#: Unanswered input kept while a request is in progress; then the socket is not read.
INPUT_BYTES_MAX = 16 * 1024
#: Requests of one connection that are begun in one turn of the event loop: who sends many without
#: waiting for answers must not keep all other connections waiting for its own.
TURN_REQUESTS = 8
#: How long a closing connection is read, so that a reset does not destroy the answer on its
#: way (RFC 9112, section 9.6).
LINGER_S = 2.0
#: The value of SO_LINGER with which a close resets the connection (socket(7)).
_RESET = struct.pack("ii", 1, 0)

#: Refusals after which the connection can go on.
_PASSING = (Overloaded, OwnerUnavailable, MisdirectedRequest, RouteNotFound, TooManyRequests)

_TOO_MANY = TooManyRequests.status


class Progress:
    """Counts a request as in progress until `end`: its namespace does not move before."""

    __slots__ = ("_key", "_membership", "_over")

    def __init__(self, membership: Membership, key: str) -> None:
        self._membership = membership
        self._key = key
        self._over = False
        membership.begin(key)

    def end(self) -> None:
        """May be called again."""
        if not self._over:
            self._over = True
            self._membership.end(self._key)


class Connection(HttpToolsProtocol):
    """The base of every connection, whichever lane answers its requests.

    `private`: it came over the slot's own socket from another worker, so it never moves.
    `handed`: what another worker had read from it.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        node: Node,
        private: bool = False,
        handed: Handed | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.node = node
        self.private = private
        #: The client's address (`workers.peer`), once the connection is made.
        self.peer = ""
        self._departure = Departure(self, handed)
        self._state = State.IDLE
        self.intake = Intake(handed.data if handed else b"")
        #: The request in progress.
        self.request: Request | None = None
        #: The exchange that answers it, once there is one.
        self.exchange: Exchange | None = None
        self._body: SocketBody | None = None
        self._task: asyncio.Task[None] | None = None
        self._progress: Progress | None = None
        #: Is the answer's first byte out, with which status (0: not ours), how much of its body?
        self.started = False
        self.status = self.sent_bytes = 0
        self._since_s = 0.0
        self._counted = False  # this request counts as one in progress
        self._ending = False  # no request after this one
        self._eof = False  # the client sends nothing more
        self._progress_s = self._closed_s = self.loop.time()
        self._pace = Pace()
        self._advance_due = False  # `_advance` is called in the next turn of the loop
        self._turn_requests = TURN_REQUESTS
        #: Is its first request still to come? Others came by another worker, before the hand-off.
        self._is_new = not (private or (handed and handed.requests))
        #: What is still dropped of a body that was refused, while the connection closes.
        self._linger_bytes = 0
        self._admitted = False
        self._head_since_s: float | None = None

    # -- What the protocol class adds -------------------------------------------------------

    @abc.abstractmethod
    def _advance(self) -> None:
        """Start as many requests as can be started now."""

    def _advance_soon(self) -> None:
        """Go on in the next turn of the event loop, once however often this is called."""
        if not self._advance_due:
            self._advance_due = True
            self.loop.call_soon(self._advance_now)

    def _advance_now(self) -> None:
        self._advance_due = False
        self._advance()

    @abc.abstractmethod
    def route(self, request: Request) -> None:
        """Answer here, or take the connection or the request to the owner."""

    @abc.abstractmethod
    def stay(self, request: Request) -> None:
        """Answer the request in this worker."""

    @abc.abstractmethod
    def _begin(self, request: Request) -> None:
        """The head is taken; what follows in the input is the body."""

    @abc.abstractmethod
    def _move_out(self) -> None:
        """Give the connection to a worker that stays."""

    # -- Admission --------------------------------------------------------------------------

    def enter(self) -> Fs9Error | None:
        """Count the connection; the refusal if there are too many."""
        self._admitted = True
        return self.node.admission.enter(self.peer)

    def exit(self) -> None:
        """The connection is gone."""
        if self._admitted:
            self._admitted = False
            self.node.admission.leave(self.peer)

    def turn_away(self, error: Fs9Error) -> None:
        """Answer with the error and close the connection, if there is room for that."""
        self.intake.clear()
        self._is_new = False
        if isinstance(error, TooManyRequests):
            self.node.connection_filter.refused(self.peer)
        if not self.node.admission.may_bid_farewell:
            self._state = State.CLOSED
            self.transport.abort()
            return
        self.end_after_this(True)
        write_reply(self, None, self.node.account.refusal(error))
        self.node.account.end(self, 0.0)
        self._linger(unread=True)

    def _tell_filter(self, *, refused: bool) -> None:
        """Tell the filter what became of the first request, as soon as that is known."""
        if self._is_new:
            self._is_new = False
            connections = self.node.connection_filter
            (connections.refused if refused else connections.served)(self.peer)

    # -- Tasks ------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, None], *, here: bool = True) -> None:
        """Run a part of the request in progress as a task; `here`: it is answered here.

        One that only waits for its owner counts there: thousands for one that is late must not
        take the places of those that are answered here. The connections bound their number.
        """
        if here:
            self._count()
        self._watch(self.loop.create_task(work), here=here)

    def _watch(self, task: asyncio.Task[None], *, here: bool) -> None:
        key = self.request.key if here and self.request is not None else None
        if key is not None:
            # To the end of the task, even if the client leaves before: the namespace cannot
            # move while a thread is still at work on it.
            self._progress = progress = Progress(self.node.membership, key)
            task.add_done_callback(lambda _: progress.end())
        self._task = task
        self.tasks.add(task)
        task.add_done_callback(self._ran)

    def release_endless(self) -> None:
        """Stop counting an endless answer as in progress: nothing waits for its end."""
        if self.is_endless:
            self._uncount()
            if self._progress is not None:
                self._progress.end()

    @property
    def _is_held(self) -> bool:
        """Is a refusal being delayed? Until it is sent nothing more is read."""
        return self.exchange is not None and self.exchange.held

    @property
    def is_endless(self) -> bool:
        """Is the answer in progress one that goes on as long as the client stays?"""
        return self.exchange is not None and self.exchange.endless

    def _ran(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if self._task is task:
            self._task = None
        if not task.cancelled() and task.exception() is not None:
            self.node.log.error("a request failed", exc_info=task.exception())
            self.transport.abort()

    def _abandon_task(self) -> None:
        """Cancel the task without waiting for its end; it must not answer any more."""
        if self.cycle is not None:
            self.cycle.disconnected = True
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _count(self) -> None:
        if not self._counted:
            self._counted = True
            self.node.active += 1

    def _uncount(self) -> None:
        if self._counted:
            self._counted = False
            self.node.active -= 1

    # -- Time -------------------------------------------------------------------------------

    def touch(self) -> None:
        """Note progress: the request timeout starts again."""
        self._progress_s = self.loop.time()

    def check_deadline(self, now_s: float) -> None:
        """Called for every connection several times within the shortest timeout."""
        if self._is_held:
            return  # the client is not the slow one
        limits = self.node.limits
        idle_s, state = now_s - self._progress_s, self._state
        unsent = unsent_bytes(self.transport)
        doing, moved = self._doing(unsent)
        if self._pace.too_slow(doing, self._since_s, moved, now_s, limits):
            self._cut(doing)
        elif state is State.IDLE:
            if self._head_since_s is not None:
                if now_s - self._head_since_s > limits.header_timeout_s:
                    self.node.metrics.count(SLOW_CLIENTS, HEAD)
                    self.refuse(RequestTimeout("the request head did not arrive in time"))
            elif idle_s > limits.keep_alive_s and not unsent:
                self.transport.close()
        elif state is State.CLOSED:
            if now_s - self._closed_s > LINGER_S and not unsent:
                self.transport.abort()
        elif idle_s > limits.request_timeout_s and state is not State.MOVE:
            self._cut(doing)

    def _doing(self, unsent: int) -> tuple[str | None, int]:
        """What we wait for the client to do, if we do, and how many bytes of it are done."""
        state, framer = self._state, self.intake.framer
        if state is State.COLLECT:
            return BODY, self.intake.left
        if state in {State.ANSWER, State.APP}:
            waits = self._body is None or self._body.waits
            if not (framer.done or self.flow.read_paused) and waits and not self.started:
                return BODY, _moved(framer)
            return (ANSWER, self.sent_bytes - unsent) if self.flow.write_paused else (None, 0)
        if state is State.DRAIN:
            return BODY, _moved(framer)
        # Where a request is forwarded its owner sees how slow it is.
        return (REST, -unsent) if unsent and state is not State.FORWARD else (None, 0)

    def _cut(self, doing: str | None) -> None:
        if doing is not None:
            self.node.metrics.count(SLOW_CLIENTS, ANSWER if doing is REST else doing)
        if self._state in {State.COLLECT, State.ANSWER, State.APP, State.FORWARD}:
            self._end_request(
                RequestTimeout("no byte of the body arrived in time"),
                RequestTimeout("no progress was made in time"),
            )
        else:
            self.transport.abort()

    def notice(self, exchange: Exchange) -> None:
        """Note the exchange that answers the request in progress."""
        self.exchange = exchange

    def end_for(self, means: Callable[[Principal], bool], error: Fs9Error) -> None:
        """Cut the request in progress here, if its principal matches."""
        exchange = self.exchange
        if exchange is not None and exchange.principal is not None and means(exchange.principal):
            self._end_request(error, error)

    def _end_request(self, in_body: Fs9Error, else_: Fs9Error) -> None:
        """End the request: with an error when its answer has not begun, else with the connection.

        `in_body`: its body is still on its way.
        """
        self._departure.abort()
        if self.started:
            # What waits in the kernel, some megabytes, must neither reach who may not have it
            # any more nor be kept for who does not take it.
            self.break_off(reset=True)
        elif self._body is not None and not self._body.done:
            # The operation ends with this error and answers it; else the next round cuts it.
            self._body.fail(in_body)
            self.end_after_this(True)
            self.touch()
        else:
            self._abandon_task()
            self.refuse(else_)

    def begin_forward(self, request: Request) -> None:
        self._begin(request)
        self._state = State.FORWARD
        self.flow.resume_reading()

    def break_off(self, *, reset: bool = False) -> None:
        """Abort the connection within an answer, so that it cannot look complete.

        `reset`: what is on its way to the client is given up.
        """
        # HTTP/1.0: an orderly end of the connection could be that of the answer.
        reset = reset or (self.request is not None and not self.request.line.minor)
        if reset and not self.transport.is_closing():
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def let_go(self) -> None:
        """Close only our descriptor: the connection lives on in another worker."""
        self.intake.clear()
        self._state = State.CLOSED
        self.transport.abort()

    # -- The end of a request, and of the connection ----------------------------------------

    def end_after_this(self, end: bool) -> None:
        self._ending = self._ending or end

    def decide_to_close(self, request: Request | None) -> bool:
        """Will the connection be closed after the answer that is about to be written?"""
        if not self._ending:
            self._ending = (
                request is None
                or request.block.close
                or (self._eof and not (self.intake.left and self.intake.framer.done))
                or not (self.intake.framer.done or self.intake.drainable(self.request))
            )
        return self._ending

    def refuse(self, error: Fs9Error) -> None:
        """Answer a request with an error that was found before its operation began."""
        request = self.request
        if self._state is State.MOVE and request is not None:
            self._begin(request)
        self.end_after_this(not isinstance(error, _PASSING))
        self._state = State.ANSWER
        write_reply(self, request, self.node.account.refusal(error))
        self.finish()

    def finish(self) -> None:
        """After the answer is written: go on with the next request, or close."""
        self._uncount()
        if self.status:
            self.node.account.end(self, self.loop.time() - self._since_s)
        if self.status == _TOO_MANY:
            self._turn_requests = 1
        if self._is_new and self.exchange is not None:
            self._tell_filter(refused=self.status == _TOO_MANY)
        self.request = self.exchange = None
        if self.transport.is_closing():
            self._state = State.CLOSED
            return
        if self.flow.read_paused:
            self._read_on()
        if self._ending:
            self._linger()
        elif self.intake.framer.done:
            self._state = State.IDLE
            if self.node.moving_out and not self.private:
                self.loop.call_soon(self._move_out)
            elif self.intake.left or self._eof:
                self._advance_soon()
        else:
            self._state = State.DRAIN
            self._drain()

    def client_ended(self) -> None:
        """The client sends nothing more, and this answer is the last one."""
        self._eof = True
        self.end_after_this(True)

    def _read_on(self) -> None:
        """Read the socket again, unless the client is far ahead of our answers."""
        if self.intake.left <= INPUT_BYTES_MAX:
            self.flow.resume_reading()

    def _drain(self) -> None:
        self.intake.take_body()
        if self.flow.read_paused:
            self._read_on()
        if self.intake.framer.done:
            self._state = State.IDLE
            self._advance()

    def _linger(self, *, unread: bool = False) -> None:
        """Close, but read on for a moment: a reset could destroy the answer before it arrives.

        `unread`: something may be on its way that nobody has asked for.
        """
        self._state = State.CLOSED
        self._closed_s = self.loop.time()
        # Who is told to send less is not given all of our time for what it sends.
        self._linger_bytes = DRAIN_BYTES_MAX if self.status == _TOO_MANY else sys.maxsize
        if self._eof or (self.intake.framer.done and not (self.intake.left or unread)):
            self.transport.close()
        else:
            self.intake.clear()
            self.flow.resume_reading()
            if self.transport.can_write_eof():
                self.transport.write_eof()


def _moved(framer: Framer) -> int:
    """A count of bytes of a body that grows with progress."""
    return framer.received if isinstance(framer, ChunkedFramer) else -framer.remaining


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Bytes that the transport has not written yet; 0 for a closed one."""
    try:
        return transport.get_write_buffer_size()
    except RuntimeError:  # uvloop's, of a handle that is closed
        return 0
