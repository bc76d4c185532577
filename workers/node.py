"""One worker process at work: its services, its application, its place in the fleet."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from fs9.auth.verifier import API_KEY_PREFIX
from fs9.errors import Fs9Error, Overloaded, OwnerUnavailable, TooManyRequests
from fs9.http.app import create_app
from fs9.http.context import Context
from fs9.http.gate import bearer_token
from fs9.http.operations import OPERATIONS
from fs9.observe.metrics import (
    CONNECTIONS,
    IN_PROGRESS,
    RING_SHARE,
    TOKEN_HITS,
    WORKERS,
    WORKERS_WANTED,
)
from fs9.services import Services
from fs9.wire.forwarded import TrustedProxies
from fs9.wire.route import PREFIX
from router.handoff import Handed, HandoffReceiver, HandoffSender
from workers.account import Account
from workers.admission import Admission
from workers.blocks import Blocks
from workers.connection_filter import ConnectionFilter
from workers.lending import Lender
from workers.membership import Membership
from workers.request import Heads
from workers.sessions import Sessions
from workers.sink import BufferPool

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from uvicorn.server import ServerState

    from fs9.config import Settings
    from fs9.http.operations import Operation
    from fs9.principal import Principal
    from router.framing import Block
    from workers.feed import Hearing
    from workers.protocol import Fs9Protocol
    from workers.slots import RunDirectory

#: How long a request waits for its owner to be replaced, and how often it looks.
_OWNER_WAIT_S = 10.0
_OWNER_RETRY_S = 0.05
#: How old the counts of other workers are at most in an answer of `/metrics`.
_METRICS_FLUSH_S = 1.0
#: Connections that wait for being accepted; the kernel may allow fewer (net.core.somaxconn).
_BACKLOG = 2048
#: Connections whose deadlines are looked at without letting requests pass.
_CHECKED_AT_ONCE = 100
_OPAQUE = f"Bearer {API_KEY_PREFIX}".encode()
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class Node:
    """What the connections of one worker share."""

    log = logging.getLogger("fs9.worker")
    owner_wait_s = _OWNER_WAIT_S
    owner_retry_s = _OWNER_RETRY_S

    def __init__(self, services: Services, run_directory: RunDirectory, slots: int) -> None:
        self.services = services
        self.slot = services.slot
        self.limits = services.limits
        self.auth = services.verifier is not None
        self.fast_lane = services.settings.fast_lane
        self.forwarding = services.settings.forwarding
        self.metrics = services.metrics
        self.context = Context.of(services)
        self.account = Account(services)
        self.app = create_app(self.context)
        self.run_directory = run_directory
        self.membership = Membership(services.slot, range(slots))
        services.owns = self.membership.owns
        services.end_requests = self._end_requests
        #: Is the worker leaving? Then a connection ends with the request that is in progress.
        self.leaving = False
        #: Does it leave while others stay? Then connections are handed to them instead.
        self.moving_out = False
        self.operations = _fixed_routes()
        self.sessions = Sessions(services)
        self.heads = Heads(self.limits, Blocks())
        prefix = services.settings.accel_redirect
        #: Lends files to nginx in front, if that is wanted.
        self.lender = (
            None if prefix is None else Lender(run_directory.lent, prefix, self.slot, services.pool)
        )
        self.buffers = BufferPool(self.limits.write_piece_bytes)
        #: Requests in progress in this worker, but for those answered without a task.
        self.active = 0
        #: Up to so many of them, no bound of theirs can be reached.
        self.active_unchecked = self._active_unchecked = min(
            self.limits.concurrent_requests_max, self.limits.concurrent_requests_per_namespace_max
        )
        #: Did it miss what is announced for too long?
        self._deaf = False
        self.admission = Admission(services)
        self.connection_filter = ConnectionFilter(
            asyncio.get_running_loop(),
            TrustedProxies(services.settings.trusted_proxies),
            self.limits.rate_limit_keys_max,
        )
        self.handoff = HandoffSender(
            run_directory.handoff_socket, self._adopt, asyncio.get_running_loop()
        )
        self._connection: Callable[..., Fs9Protocol] | None = None
        self._connections: Iterable[object] = ()
        self._heads: dict[tuple[int, str | None], bytes] = {}
        self._heads_made_of: object = None
        self._receiver: HandoffReceiver | None = None
        self._servers: list[asyncio.Server] = []
        self._housekeeping: list[asyncio.Task[None]] = []
        self._adopting: set[asyncio.Task[object]] = set()

    @classmethod
    async def open(
        cls, settings: Settings, *, slot: int, slots: int, run_directory: RunDirectory
    ) -> Node:
        services = await Services.open(settings, slot=slot, fleet=True)
        return cls(services, run_directory, slots)

    async def start(self, connection: Callable[..., Fs9Protocol], state: ServerState) -> None:
        """Take over connections, answer forwarded requests, watch deadlines.

        `connection(private=…, handed=…)` makes the protocol of one more connection.
        """
        loop = asyncio.get_running_loop()
        self._connection = connection
        self._connections = state.connections
        directory = self.run_directory
        self._servers = [
            await _listen(directory.private_socket(self.slot), lambda: connection(private=True)),
            await _listen(directory.front_socket(self.slot), connection),
        ]
        self._receiver = HandoffReceiver(
            self.run_directory.handoff_socket(self.slot), self._adopt, loop
        )
        self.metrics.watch(CONNECTIONS, lambda: len(state.connections))
        verifier = self.services.verifier
        if verifier is not None:
            self.metrics.watch(TOKEN_HITS, lambda: verifier.stats().hits + self.sessions.entered)
        self.metrics.watch(IN_PROGRESS, lambda: self.active)
        self.metrics.watch(WORKERS, lambda: 1)
        wanted = self.services.settings.workers
        self.metrics.watch(WORKERS_WANTED, lambda: self.run_directory.wanted() or wanted)
        self.metrics.watch(RING_SHARE, lambda: self.membership.share, str(self.slot))
        self._housekeeping = [
            loop.create_task(self._flush_metrics()),
            loop.create_task(self._watch_deadlines(state)),
            loop.create_task(self._sweep_handles()),
            *(loop.create_task(work) for work in self.services.housekeeping()),
        ]

    def _adopt(self, sock: socket.socket, handed: Handed) -> None:
        """Serve a connection that another worker accepted, or that came back from one."""
        make = self._connection
        assert make is not None
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(lambda: make(handed=handed), sock))
        self._adopting.add(task)
        task.add_done_callback(self._adopted)

    def _adopted(self, task: asyncio.Task[object]) -> None:
        self._adopting.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.log.warning("a connection was lost on its way", exc_info=task.exception())

    def forget_leavers(self) -> None:
        """The view has changed: connections to workers that do not serve are closed.

        What is held back in a namespace that moves is answered.
        """
        self.context.limiting.release()
        for connection in list(self._connections):
            cast("Fs9Protocol", connection).forget_leavers()

    def _end_requests(self, means: Callable[[Principal], bool], error: Fs9Error) -> None:
        """Cut what is in progress for those who may not go on, transfers above all."""
        for connection in list(self._connections):
            cast("Fs9Protocol", connection).end_for(means, error)

    def is_opaque(self, block: Block) -> bool:
        """Must somebody be asked whose credential it is?"""
        return block.fields.get(b"authorization", b"").startswith(_OPAQUE)

    async def namespace_of(self, block: Block, peer: str) -> str:
        """The namespace of an API key; "" when it does not hold: the gate says why."""
        assert self.services.verifier is not None
        fields = block.text_fields
        try:
            token = bearer_token(fields.get("authorization"))
            with self.context.limiting.identifying(token, peer, fields.get("x-forwarded-for")):
                return (await self.services.verifier.verify(token)).namespace
        except Fs9Error:
            return ""

    async def _watch_deadlines(self, state: ServerState) -> None:
        limits, loop = self.limits, asyncio.get_running_loop()
        shortest_s = min(
            *(limits.request_timeout_s, limits.header_timeout_s),
            *(limits.keep_alive_s, limits.transfer_period_s),
        )
        while True:
            await asyncio.sleep(min(1.0, shortest_s / 4))
            for number, connection in enumerate(list(state.connections)):
                cast("Fs9Protocol", connection).check_deadline(loop.time())
                if number % _CHECKED_AT_ONCE == _CHECKED_AT_ONCE - 1:
                    await asyncio.sleep(0)

    async def _flush_metrics(self) -> None:
        while True:
            await asyncio.sleep(_METRICS_FLUSH_S)
            self.metrics.flush()

    async def _sweep_handles(self) -> None:
        while True:
            await asyncio.sleep(self.limits.handle_sweep_interval_s)
            try:
                await self.services.namespaces.sweep()
            except Exception:
                self.log.exception("the sweep of idle handles failed; it is tried again")

    def stop_taking(self) -> None:
        """Take no connections from other workers and proxies any more."""
        self.services.readiness.leaving = "it is leaving"
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None
        for server in self._servers:
            server.close()

    async def aclose(self) -> None:
        self.stop_taking()
        for task in self._housekeeping:
            task.cancel()
        self.handoff.close()
        if self.lender is not None:
            self.lender.close()
        await self.services.aclose()

    # -- For the connections ----------------------------------------------------------------

    def heed(self, hearing: Hearing) -> None:
        """What has not been heard of for too long is not relied on."""
        bound_s = self.limits.feed_stale_s
        unheard = hearing.unheard_s > bound_s
        self.services.readiness.deaf = "it hears nothing from its fleet" if unheard else ""
        deaf = self.auth and hearing.stale_s > bound_s
        if deaf != self._deaf:
            text = (
                "neither bus nor metadata answer: requests are refused" if deaf else "heard again"
            )
            self.log.warning(text)
        self._deaf = deaf
        self.active_unchecked = 0 if deaf else self._active_unchecked

    def refusal(self, key: str | None) -> Fs9Error | None:
        """Why one more request must not begin, if it must not; `key`: its namespace.

        Refusals that are answered late are in progress, too, but no work.
        """
        if self._deaf and key is not None:
            return OwnerUnavailable("this worker does not hear of revoked tokens; try again")
        if self.active - self.context.limiting.held >= self.limits.concurrent_requests_max:
            return Overloaded("too many requests in progress; try again")
        busy = self.membership.in_progress(key) if key is not None else 0
        if busy >= self.limits.concurrent_requests_per_namespace_max:
            return TooManyRequests("Too many requests in progress in this namespace")
        return None

    def head_start(self, status: int, content_type: str | None, state: ServerState) -> bytes:
        """The first lines of an answer: status, Date and X-FS9-Slot as uvicorn keeps them.

        They stay the same for a second at a time.
        """
        if self._heads_made_of is not state.default_headers:
            self._heads_made_of = state.default_headers
            self._heads.clear()
        head = self._heads.get((status, content_type))
        if head is None:
            lines = [b"%b: %b\r\n" % header for header in state.default_headers]
            if content_type is not None:
                lines.append(f"content-type: {content_type}\r\n".encode("latin-1"))
            head = self._heads[status, content_type] = _STATUS_LINES[status] + b"".join(lines)
        return head


async def _listen(path: Path, connection: Callable[[], Fs9Protocol]) -> asyncio.Server:
    """At the path is what was there before, or the new socket with its listener."""
    new = path.with_name(f"{path.name}.new")
    with suppress(FileNotFoundError):
        os.unlink(new)
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(connection, str(new), backlog=_BACKLOG)
    os.replace(new, path)
    return server


def _fixed_routes() -> dict[tuple[bytes, bytes], Operation]:
    """The operations whose path has no parameter, by method and path below the tenant."""
    return {
        (operation.method.encode(), (PREFIX + operation.path).encode()): operation
        for operation in OPERATIONS
        if operation.prefixed and "{" not in operation.path
    }
