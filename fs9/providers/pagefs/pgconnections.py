"""Connections of one process to one PostgreSQL database, shared by all its stores there.

Every statement is one transaction of its own, and may be sent again: so a connection that
breaks (the server was restarted, another one took over) is replaced, and the call goes on, until
its deadline. A statement without an answer by then has its connection cut: whatever the network
does, the caller gets an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from fs9.errors import BackendUnavailable, Fs9Error, InvalidArgument, Transient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

T = TypeVar("T")
Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]

_RETRY_FIRST_S, _RETRY_MAX_S = 0.05, 0.5
#: Statements are ended by the server itself before nobody waits for them any more.
_STATEMENT_SHARE = 0.5


class Attempt:
    """How often a call was sent: after more than once, one of them may yet arrive."""

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent = 0


class Connections:
    """At most `connections_max`; `acquire` and `release` count the users."""

    #: (event loop, DSN) -> its connections.
    _shared: ClassVar[dict[tuple[asyncio.AbstractEventLoop, str], Connections]] = {}

    def __init__(
        self, key: tuple[asyncio.AbstractEventLoop, str], connections_max: int, timeout_s: float
    ) -> None:
        self._key = key
        self._conninfo = _conninfo(key[1], timeout_s)
        self._timeout_s = timeout_s
        self._free = asyncio.Semaphore(connections_max)
        self._idle: list[Connection] = []
        self._users = 0
        self._running: set[asyncio.Task[Any]] = set()
        #: What all users share: the tables are made once, and leases renewed by one task.
        self.making = asyncio.Lock()
        self.attached: dict[str, Any] = {}

    @classmethod
    def acquire(cls, dsn: str, connections_max: int, timeout_s: float) -> Connections:
        """Connects at the first use. Raises InvalidArgument for a DSN that is none."""
        key = (asyncio.get_running_loop(), dsn)
        found = cls._shared.get(key)
        if found is None:
            found = cls._shared[key] = cls(key, connections_max, timeout_s)
        found._users += 1
        return found

    async def release(self) -> None:
        self._users -= 1
        if self._users:
            return
        del self._shared[self._key]
        for task in list(self.attached.values()):
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=self._timeout_s)
        while self._idle:
            await self._idle.pop().close()

    async def run(
        self, sql: str, values: Sequence[object] = (), attempt: Attempt | None = None
    ) -> list[TupleRow]:
        """The rows of one statement; a cancelled caller does not end it.

        Raises Transient (busy), BackendUnavailable (no answer, or an error of the server).
        """
        return await asyncio.shield(self.spawn(self._run(sql, values, attempt or Attempt())))

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """To its end whatever happens to the caller; `release` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen: a cancelled caller does not look

    async def _run(self, sql: str, values: Sequence[object], attempt: Attempt) -> list[TupleRow]:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._timeout_s
        delay_s = _RETRY_FIRST_S
        while True:
            try:
                async with self._connection(deadline_s) as connection:
                    attempt.sent += 1
                    return await _execute(connection, sql, values, deadline_s)
            except (psycopg.Error, TimeoutError, Fs9Error) as error:
                failure = _translated(error)
                if not _is_outage(error):
                    raise failure from error
                if loop.time() + delay_s >= deadline_s:
                    raise failure from error
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _RETRY_MAX_S)

    @contextlib.asynccontextmanager
    async def _connection(self, deadline_s: float) -> AsyncIterator[Connection]:
        left_s = max(0.01, deadline_s - asyncio.get_running_loop().time())
        async with asyncio.timeout(left_s):
            await self._free.acquire()
        try:
            connection = self._idle.pop() if self._idle else await self._connect(deadline_s)
            try:
                yield connection
            finally:
                if connection.closed:
                    # After a restart all the others are dead, too: the next call need not try.
                    while self._idle:
                        await self._idle.pop().close()
                else:
                    self._idle.append(connection)
        finally:
            self._free.release()

    async def _connect(self, deadline_s: float) -> Connection:
        async with asyncio.timeout(max(0.01, deadline_s - asyncio.get_running_loop().time())):
            return await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[Connection]:
        """One more connection, beyond the count. Errors become ours."""
        try:
            connection = await self._connect(asyncio.get_running_loop().time() + self._timeout_s)
            try:
                yield connection
            finally:
                await connection.close()
        except (psycopg.Error, TimeoutError) as error:
            raise _translated(error) from error


async def _execute(
    connection: Connection, sql: str, values: Sequence[object], deadline_s: float
) -> list[TupleRow]:
    deadline = asyncio.get_running_loop().call_at(deadline_s, _cut, connection)
    try:
        cursor = await connection.execute(sql.encode(), values or None, binary=True)
        return [] if cursor.description is None else await cursor.fetchall()
    except psycopg.Error:
        if connection.broken:
            await connection.close()
        raise
    finally:
        deadline.cancel()


def _cut(connection: Connection) -> None:
    """The deadline is over: whoever waits for the server sees the end of the connection."""
    if connection.closed:
        return
    with socket.socket(fileno=os.dup(connection.fileno())) as connected:
        try:
            connected.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended by itself


def _is_outage(error: Exception) -> bool:
    """Did the connection end, or never begin? A server that starts or stops says so (57P)."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    state = error.sqlstate
    return state is None or state[:2] == "08" or (state[:3] == "57P" and state != "57014")


def _translated(error: Exception) -> Fs9Error:
    if isinstance(error, Fs9Error):
        return error
    if isinstance(error, TimeoutError):
        return BackendUnavailable("the database of pagefs did not answer in time")
    assert isinstance(error, psycopg.Error)
    state = error.sqlstate or ""
    if state in {"57014", "55P03", "40P01", "40001", "53300"}:
        return Transient("the database of pagefs is busy")
    text = str(error).strip().split("\n", 1)[0]
    return BackendUnavailable(f"the database of pagefs: {text}")


def check_dsn(dsn: str) -> dict[str, Any]:
    """Its parts. Raises InvalidArgument."""
    try:
        return conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # Not in the parser's words: they may contain the password.
        raise InvalidArgument("pagefs: the dsn of the backend cannot be read") from None


def _conninfo(dsn: str, timeout_s: float) -> str:
    given = check_dsn(dsn)
    statement_ms = int(timeout_s * _STATEMENT_SHARE * 1000)
    merged: dict[str, Any] = {
        "application_name": "fs9 pagefs",
        "connect_timeout": max(2, int(timeout_s / 2)),
        # After a failover: not the one that became a replica.
        "target_session_attrs": "read-write",
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        **given,
    }
    options = f"-c statement_timeout={statement_ms} {given.get('options') or ''}".strip()
    return make_conninfo("", **{**merged, "options": options})
