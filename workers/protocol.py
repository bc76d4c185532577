"""The HTTP protocol class of the workers: from bytes to the lane that answers.

    head complete ─> whose namespace? ─ another slot's ─> hand the connection over, or forward
                          │ ours, or nobody's                          (workers.departure)
                          ├─ small hot operation ──────> answered here, often without a task
                          ├─ body or answer in pieces ─> answered here    (workers.answering)
                          └─ everything else ──────────> uvicorn's ASGI cycle, Falcon

All lanes drive the same operations (`fs9.http.operations`). One request at a time is in
progress on a connection; what a client pipelines behind it stays in `_input`, so that the
connection can move at every request boundary. Only this class reads the connection, but for
bodies, which `SocketBody` receives.

Everything here runs on one event loop, and no method here awaits: each runs to its end without
interleaving.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fs9.errors import (
    Fs9Error,
    HeadersTooLarge,
    MalformedRequest,
    MethodNotAllowed,
    MisdirectedRequest,
    Overloaded,
    OwnerUnavailable,
    RequestTimeout,
    RouteNotFound,
    UriTooLong,
)
from fs9.http.failures import reply_to_error
from router.framing import (
    Block,
    Framer,
    LengthFramer,
    RequestLine,
    body_framer,
    parse_request_line,
)
from router.key import routing_key, split_tenant
from workers.answering import run_in_pieces, run_small, write_reply
from workers.departure import Departure
from workers.sink import SocketBody

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from uvicorn._types import ASGI3Application, ASGISendEvent
    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

    from fs9.http.operations import Operation
    from router.handoff import Handed
    from workers.node import Node

#: Unanswered input kept while a request is in progress; then the socket is not read.
INPUT_BYTES_MAX = 256 * 1024
#: Part of a refused body that is read and dropped to keep the connection, and how long a
#: closing connection is read so that the answer is not lost to a reset (RFC 9112, 9.6).
DRAIN_BYTES_MAX = 256 * 1024
LINGER_S = 2.0
#: Bytes of an answer that may wait in the transport before the next piece is read.
WRITE_AHEAD_BYTES = 1024 * 1024

_LONE_LF = re.compile(rb"(?<!\r)\n")
#: Operations whose body or answer goes in pieces.
_PIECEWISE = frozenset({"read", "write", "upload", "download"})
#: Refusals after which the connection is as good as before.
_PASSING = (Overloaded, OwnerUnavailable, MisdirectedRequest, RouteNotFound)


class State(enum.Enum):
    IDLE = enum.auto()  # between requests, or collecting a head
    COLLECT = enum.auto()  # a small body is not complete yet
    ANSWER = enum.auto()  # an operation runs here
    APP = enum.auto()  # the ASGI application runs
    MOVE = enum.auto()  # on the way to the owner
    FORWARD = enum.auto()  # the owner answers through us
    DRAIN = enum.auto()  # answered; the rest of the body is read and dropped
    CLOSED = enum.auto()  # answered, or gone; whatever still comes is dropped


_IN_PROGRESS = frozenset({State.ANSWER, State.APP, State.MOVE, State.FORWARD})


class Request:
    """The head of one request."""

    __slots__ = ("block", "head", "line", "operation", "path", "tenant")

    def __init__(self, line: RequestLine, block: Block, head: bytes) -> None:
        self.line = line
        self.block = block
        self.head = head
        self.tenant, self.path = split_tenant(line.path)
        self.operation: Operation | None = None


class Fs9Protocol(HttpToolsProtocol):
    """One client connection.

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
        self._departure = Departure(self, handed)
        self._state = State.IDLE
        self._input = handed.data if handed else b""
        self._request: Request | None = None
        self._framer: Framer = LengthFramer(0)
        self._body: SocketBody | None = None
        self._task: asyncio.Task[None] | None = None
        #: Is the first byte of the answer out?
        self.started = False
        self._counted = False  # this request counts as one in progress
        self._ending = False  # no request after this one
        self._progress_s = self.loop.time()
        self._head_since_s: float | None = None

    # -- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_AHEAD_BYTES)
        self._advance()

    def data_received(self, data: bytes) -> None:
        self.touch()
        self._input = self._input + data if self._input else data
        state = self._state
        if state is State.IDLE or state is State.COLLECT:
            self._advance()
        elif state is State.APP:
            self._feed_app()
        elif state is State.FORWARD:
            self._departure.feed()
        elif state is State.DRAIN:
            self._drain()
        elif state is State.CLOSED:
            self._input = b""
        elif len(self._input) > INPUT_BYTES_MAX:
            self.flow.pause_reading()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep a half-closed connection while its last request is answered."""
        self._ending = True
        if self._body is not None:
            self._body.eof_received()
            return True
        return self._state in _IN_PROGRESS and self._framer.done

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if self._body is not None:
            self._body.eof_received()
        if self._task is not None:
            self._task.cancel()
        self._departure.abort()
        self._uncount()
        self._state = State.CLOSED
        self._input = b""

    def resume_writing(self) -> None:
        super().resume_writing()
        self.touch()
        self._departure.resume()
        if self._state in {State.IDLE, State.MOVE}:
            # Not from here: a transport that is aborted inside resume_writing closes twice.
            self.loop.call_soon(self._advance)

    def shutdown(self) -> None:
        """The worker is leaving: no request after the one in progress."""
        self._ending = True
        if self._state is State.IDLE:
            self.transport.close()
        elif self._state is State.APP:
            self.cycle.keep_alive = False

    # -- The head of a request --------------------------------------------------------------

    def _advance(self) -> None:
        """Start as many requests as can be started now."""
        while self._input and not self.transport.is_closing():
            if self._state is State.COLLECT:
                if not self._answer_collected():
                    return
            elif self._state is State.MOVE:
                assert self._request is not None
                if self._departure.waits_for_writes:
                    self._route(self._request)
                return
            elif self._state is State.IDLE:
                if self.flow.write_paused:
                    self.flow.pause_reading()  # a client that sends and never reads
                    return
                try:
                    request = self._next_head()
                except Fs9Error as error:
                    self.refuse(error)
                    return
                if request is None:
                    return
                self._request = request
                self._route(request)
            else:
                return

    def _next_head(self) -> Request | None:
        data = self._input
        if data.startswith(b"\r\n"):  # an empty line before the request line (RFC 9112, 2.2)
            data = self._input = data[2:]
        line_end = data.find(b"\r\n")
        head_end = data.find(b"\r\n\r\n", line_end) if line_end >= 0 else -1
        self._check_head_size(len(data), line_end, head_end)
        if head_end < 0:
            if _LONE_LF.search(data):
                raise MalformedRequest("a line does not end with CRLF")
            if self._head_since_s is None and data:
                self._head_since_s = self.loop.time()
            return None
        self._head_since_s = None
        line = parse_request_line(data[:line_end])
        block = self.node.block(data[line_end + 2 : head_end + 2], line.minor)
        return Request(line, block, data[: head_end + 4])

    def _check_head_size(self, size: int, line_end: int, head_end: int) -> None:
        limits = self.node.limits
        if (line_end if line_end >= 0 else size) > limits.request_line_bytes_max:
            raise UriTooLong(f"at most {limits.request_line_bytes_max} bytes")
        if (head_end if head_end >= 0 else size) - line_end > limits.headers_bytes_max:
            raise HeadersTooLarge(f"at most {limits.headers_bytes_max} bytes")

    # -- Whose request is it, and which lane? -----------------------------------------------

    def _route(self, request: Request) -> None:
        """Answer here, or bring the connection or the request to the owner."""
        node, block = self.node, request.block
        key = routing_key(request.path, request.tenant, block.claimed_namespace, auth=node.auth)
        if key is not None:
            owner = node.ring.owner(key)
            if owner != node.slot and not self._private:
                self._state = State.MOVE
                self._departure.leave(request, owner)
                return
            if owner != node.slot:
                self._begin(request)
                self.refuse(MisdirectedRequest(f"slot {node.slot} does not own {key}"))
                return
        self._departure.count_request()
        self._begin(request)
        if node.active >= node.limits.concurrent_requests_max:
            self.refuse(Overloaded("too many requests in progress; try again"))
            return
        self._choose_lane(request)

    def _begin(self, request: Request) -> None:
        """The head is taken; what follows in the input is the body."""
        self._state = State.IDLE
        self._input = self._input[len(request.head) :]
        self._framer = body_framer(request.block)
        self.started = False

    def _choose_lane(self, request: Request) -> None:
        node, block, method = self.node, request.block, request.line.method
        if node.fast_lane:
            name = b"GET" if method == b"HEAD" else method
            operation = request.operation = node.operations.get((name, request.path))
            if operation is not None:
                if operation.fast and name is method and self._is_small(block):
                    self._state = State.COLLECT
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
        request = self._request
        assert request is not None
        assert request.operation is not None
        length = request.block.length or 0
        if len(self._input) < length:
            return False
        body = self.take_body() if length else b""
        self._state = State.ANSWER
        rest = run_small(self, request, request.operation, body)
        if rest is None:
            self.finish()
        else:
            self.run(self._then_finish(rest))
        return True

    def _answer_in_pieces(self, request: Request, operation: Operation) -> None:
        self._state = State.ANSWER
        self._body = SocketBody(
            self,
            self._framer,
            request.block.length,
            self.node.buffers,
            expect_continue=request.block.expect_continue,
        )
        self.run(self._then_finish(run_in_pieces(self, request, operation, self._body)))

    async def _then_finish(self, work: Coroutine[Any, Any, None]) -> None:
        await work
        self._body = None
        self.finish()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a part of the request in progress as a task."""
        self._count()
        self._watch(self.loop.create_task(work))

    def _watch(self, task: asyncio.Task[None]) -> None:
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

    # -- Lane 3: the ASGI application -------------------------------------------------------

    def _start_app(self, request: Request) -> None:
        if request.line.path == b"*":
            self.refuse(RouteNotFound("*"))
            return
        self._state = State.APP
        self._count()
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(_without_upgrade(request))
        except httptools.HttpParserUpgrade:
            pass  # CONNECT, which is refused like every method that a route has not
        except httptools.HttpParserInvalidMethodError:
            self.refuse(MethodNotAllowed(request.line.method.decode("ascii")))
            return
        except httptools.HttpParserError:
            self.refuse(MalformedRequest("the request is not HTTP/1.1"))
            return
        self._feed_app()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        send = cycle.send

        async def watched_send(message: ASGISendEvent) -> None:
            if not self.started:
                cycle.keep_alive = cycle.keep_alive and not self.decide_to_close(self._request)
                self.started = True
            self.touch()
            await send(message)

        cycle.send = watched_send  # type: ignore[method-assign]
        cycle.transport = cast("asyncio.Transport", CycleTransport(self, cycle))
        self._watch(self.loop.create_task(cycle.run_asgi(app)))

    def _feed_app(self) -> None:
        try:
            part = self.take_body()
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

    # -- What the lanes use -----------------------------------------------------------------

    def touch(self) -> None:
        """There was progress: the request timeout starts again."""
        self._progress_s = self.loop.time()

    def unanswered(self) -> bytes:
        """What was received and not taken yet."""
        return self._input

    def take_input(self) -> bytes:
        data, self._input = self._input, b""
        return data

    def give_back_input(self, data: bytes) -> None:
        self._input = data + self._input

    def take_body(self) -> bytes:
        """What has arrived of the body, with its framing. Raises MalformedRequest."""
        end, _ = self._framer.feed(self._input, 0, len(self._input))
        part, self._input = self._input[:end], self._input[end:]
        return part

    @property
    def body_done(self) -> bool:
        return self._framer.done

    def begin_forward(self, request: Request) -> None:
        self._begin(request)
        self._state = State.FORWARD
        self.flow.resume_reading()

    def let_go(self) -> None:
        """The connection lives on in another worker: close only our descriptor of it."""
        self._input = b""
        self._state = State.CLOSED
        self.transport.abort()

    def end_after_this(self, end: bool) -> None:
        self._ending = self._ending or end

    def decide_to_close(self, request: Request | None) -> bool:
        """Will the connection be closed after the answer that is about to be written?"""
        self.end_after_this(request is None or request.block.close or not self._drainable())
        return self._ending

    # -- The end of a request ---------------------------------------------------------------

    def refuse(self, error: Fs9Error) -> None:
        """Answer a request that goes no further."""
        request = self._request
        if self._state is State.MOVE and request is not None:
            self._begin(request)
        self.end_after_this(not isinstance(error, _PASSING))
        self._state = State.ANSWER
        write_reply(self, request, reply_to_error(error))
        self.finish()

    def finish(self) -> None:
        """The answer is written; what next on this connection?"""
        self._uncount()
        self.server_state.total_requests += 1
        self._request = None
        if self.transport.is_closing():
            self._state = State.CLOSED
            return
        self.flow.resume_reading()
        if self._ending:
            self._linger()
        elif self._framer.done:
            self._state = State.IDLE
            if self._input:
                self.loop.call_soon(self._advance)
        else:
            self._state = State.DRAIN
            self._drain()

    def _drainable(self) -> bool:
        """Is what is left of the body small enough to be read and dropped?"""
        framer, request = self._framer, self._request
        if framer.done:
            return True
        waits = request is not None and request.block.expect_continue and not self._input
        return (
            not waits and isinstance(framer, LengthFramer) and framer.remaining <= DRAIN_BYTES_MAX
        )

    def _drain(self) -> None:
        self.take_body()
        if self._framer.done:
            self._state = State.IDLE
            self._advance()

    def _linger(self) -> None:
        """Close, but read on for a moment, lest a reset destroys the answer on its way."""
        self._state = State.CLOSED
        if self._framer.done and not self._input:
            self.transport.close()
        else:
            self._input = b""
            if self.transport.can_write_eof():
                self.transport.write_eof()

    # -- Counting and deadlines -------------------------------------------------------------

    def _count(self) -> None:
        if not self._counted:
            self._counted = True
            self.node.active += 1

    def _uncount(self) -> None:
        if self._counted:
            self._counted = False
            self.node.active -= 1

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

    def _abandon_task(self) -> None:
        """Let go of the task; it ends in its own time and must not answer any more."""
        if self.cycle is not None:
            self.cycle.disconnected = True
        if self._task is not None:
            self._task.cancel()
            self._task = None


class CycleTransport:
    """The transport as uvicorn's cycle sees it; it does not decide how a connection ends.

    After a complete answer `Fs9Protocol.finish` closes the connection, lingering; before that
    the cycle closes it only because the answer broke off, and it must look so.
    """

    def __init__(self, connection: Fs9Protocol, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle

    def write(self, data: bytes) -> None:
        self._connection.transport.write(data)

    def is_closing(self) -> bool:
        return self._connection.transport.is_closing()

    def close(self) -> None:
        if not self._cycle.response_complete:
            self._connection.transport.abort()


def _without_upgrade(request: Request) -> bytes:
    """The head for uvicorn's parser, without the offer to change protocols (it is declined)."""
    fields = request.block.fields
    if b"upgrade" not in fields:
        return request.head
    first = request.head[: request.head.index(b"\r\n") + 2]
    kept = (b"%b: %b\r\n" % item for item in fields.items() if item[0] != b"upgrade")
    return first + b"".join(kept) + b"\r\n"
