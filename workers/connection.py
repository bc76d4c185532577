"""One request at a time on a connection: its tasks, its time, its end.

`workers.protocol` reads the connection and decides who answers; what it begins ends here.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fs9.errors import (
    Fs9Error,
    MisdirectedRequest,
    Overloaded,
    OwnerUnavailable,
    RequestTimeout,
    RouteNotFound,
)
from workers.answering import write_reply
from workers.departure import Departure
from workers.intake import Intake
from workers.state import State

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from router.handoff import Handed
    from workers.node import Node
    from workers.request import Request
    from workers.sink import SocketBody

#: Unanswered input kept while a request is in progress; then the socket is not read.
INPUT_BYTES_MAX = 256 * 1024
#: How long a closing connection is read, so that a reset does not destroy the answer on its
#: way (RFC 9112, section 9.6).
LINGER_S = 2.0

#: Refusals after which the connection is as good as before.
_PASSING = (Overloaded, OwnerUnavailable, MisdirectedRequest, RouteNotFound)


class Connection(HttpToolsProtocol):
    """What every connection has, whoever answers its requests.

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
        self._private = private
        #: Who is at the other end (`workers.peer`), once it is made.
        self.peer = ""
        self._departure = Departure(self, handed)
        self._state = State.IDLE
        self.intake = Intake(handed.data if handed else b"")
        #: The request in progress.
        self.request: Request | None = None
        self._body: SocketBody | None = None
        self._task: asyncio.Task[None] | None = None
        #: Is the answer's first byte out, with which status (0: not ours), how much of its body?
        self.started = False
        self.status = self.sent_bytes = 0
        self._since_s = 0.0
        self._counted = False  # this request counts as one in progress
        self._ending = False  # no request after this one
        self._progress_s = self.loop.time()
        self._head_since_s: float | None = None

    # -- What the protocol class adds -------------------------------------------------------

    @abc.abstractmethod
    def _advance(self) -> None:
        """Start as many requests as can be started now."""

    @abc.abstractmethod
    def stay(self, request: Request) -> None:
        """Answer the request in this worker."""

    @abc.abstractmethod
    def _begin(self, request: Request) -> None:
        """The head is taken; what follows in the input is the body."""

    @abc.abstractmethod
    def _move_out(self) -> None:
        """Give the connection to a worker that stays."""

    # -- Tasks ------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, None], *, here: bool = True) -> None:
        """Run a part of the request in progress as a task; `here`: it is answered here."""
        self._count()
        self._watch(self.loop.create_task(work), here=here)

    def _watch(self, task: asyncio.Task[None], *, here: bool) -> None:
        key = self.request.key if here and self.request is not None else None
        if key is not None:
            # To the end of the task, even if the client leaves before: the namespace cannot
            # move while a thread is still at work on it.
            self.node.membership.begin(key)
            task.add_done_callback(lambda _: self.node.membership.end(key))
        self._task = task
        self.tasks.add(task)
        task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if self._task is task:
            self._task = None
        if not task.cancelled() and task.exception() is not None:
            self.node.log.error("a request failed", exc_info=task.exception())
            self.transport.abort()

    def _abandon_task(self) -> None:
        """Let go of the task; it ends in its own time and must not answer any more."""
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
        """There was progress: the request timeout starts again."""
        self._progress_s = self.loop.time()

    def check_deadline(self, now_s: float) -> None:
        """Called for every connection several times within the shortest timeout."""
        limits = self.node.limits
        idle_s = now_s - self._progress_s
        if self._state is State.IDLE:
            if self._head_since_s is not None:
                if now_s - self._head_since_s > limits.header_timeout_s:
                    self.refuse(RequestTimeout("the request head did not arrive in time"))
            elif idle_s > limits.keep_alive_s:
                self.transport.close()
        elif self._state is State.CLOSED:
            if idle_s > LINGER_S:
                self.transport.abort()
        elif idle_s > limits.request_timeout_s and self._state is not State.MOVE:
            self._time_out()

    def _time_out(self) -> None:
        self._departure.abort()
        if self.started:
            self.transport.abort()
        elif self._body is not None and not self._body.done:
            # The operation ends with this error and answers it; else the next round cuts it.
            self._body.fail(RequestTimeout("no byte of the body arrived in time"))
            self.end_after_this(True)
            self.touch()
        else:
            self._abandon_task()
            self.refuse(RequestTimeout("no progress was made in time"))

    def begin_forward(self, request: Request) -> None:
        self._begin(request)
        self._state = State.FORWARD
        self.flow.resume_reading()

    def let_go(self) -> None:
        """The connection lives on in another worker: close only our descriptor of it."""
        self.intake.data = b""
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
                or not (self.intake.framer.done or self.intake.drainable(self.request))
            )
        return self._ending

    def refuse(self, error: Fs9Error) -> None:
        """Answer a request that goes no further."""
        request = self.request
        if self._state is State.MOVE and request is not None:
            self._begin(request)
        self.end_after_this(not isinstance(error, _PASSING))
        self._state = State.ANSWER
        write_reply(self, request, self.node.account.refusal(error))
        self.finish()

    def finish(self) -> None:
        """The answer is written; what next on this connection?"""
        self._uncount()
        if self.status:
            self.node.account.end(self, self.loop.time() - self._since_s)
        self.request = None
        if self.transport.is_closing():
            self._state = State.CLOSED
            return
        if self.flow.read_paused:
            self._read_on()
        if self._ending:
            self._linger()
        elif self.intake.framer.done:
            self._state = State.IDLE
            if self.node.moving_out and not self._private:
                self.loop.call_soon(self._move_out)
            elif self.intake.data:
                self.loop.call_soon(self._advance)
        else:
            self._state = State.DRAIN
            self._drain()

    def _read_on(self) -> None:
        """Read the socket again, unless the client is far ahead of our answers."""
        if len(self.intake.data) <= INPUT_BYTES_MAX:
            self.flow.resume_reading()

    def _drain(self) -> None:
        self.intake.take_body()
        if self.intake.framer.done:
            self._state = State.IDLE
            self._advance()

    def _linger(self) -> None:
        """Close, but read on for a moment, lest a reset destroys the answer on its way."""
        self._state = State.CLOSED
        if self.intake.framer.done and not self.intake.data:
            self.transport.close()
        else:
            self.intake.data = b""
            if self.transport.can_write_eof():
                self.transport.write_eof()
