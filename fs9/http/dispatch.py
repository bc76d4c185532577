"""Runs one operation: authenticates the caller, calls it, and turns errors into replies.

Both drivers come through here, so the order of checks is the same on both: credentials, query,
body, namespace, and then what the operation itself finds.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING

from fs9.errors import Fs9Error
from fs9.http.failures import reply_to_bug, reply_to_error
from fs9.http.refusals import REFUSALS, record_refusal
from fs9.wire.hops import HOP_COUNT, hops_of, hops_so_far
from fs9.wire.route import Access

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange, Reply
    from fs9.http.operations import Operation, Run

_UNCHECKED = frozenset({Access.OPEN, Access.EXPIRED})
_SESSION = Access.SESSION


async def answer(
    operation: Operation, exchange: Exchange, authorization: str | None, tenant: str | None
) -> Reply:
    """The reply of `operation`; raises nothing but CancelledError.

    `authorization` and `tenant` as for `Gate.principal`; they are not looked at when the
    exchange has a session already. A HEAD request runs the operation of
    its GET route: the driver sends the reply's headers, with the Content-Length that the body
    has, leaves the body out and closes the stream.
    """
    try:
        if exchange.session is None and operation.access not in _UNCHECKED:
            limiting = exchange.context.limiting
            principal = limiting.authenticate_nowait(exchange, authorization, tenant)
            if principal is None:
                principal = await limiting.authenticate(exchange, authorization, tenant)
            exchange.principal = principal
            if limiting.requests.on:
                await limiting.admit(exchange, operation.name, principal)
            if operation.access is _SESSION:
                # None when it must be loaded: the operation does that, after decoding.
                exchange.session = exchange.context.gate.enter_cached(principal)
        elif operation.access in _UNCHECKED:
            exchange.tenant = tenant
        elif exchange.session is not None and exchange.context.limiting.requests.on:
            principal = exchange.session.principal
            await exchange.context.limiting.admit(exchange, operation.name, principal)
        if HOP_COUNT in exchange.headers:
            return await _passed_on(operation.run, exchange)
        return await operation.run(exchange)
    except Fs9Error as error:
        exchange.context.services.metrics.count_refusal(error)
        if isinstance(error, REFUSALS):
            record_refusal(exchange, operation.name, error)
        return reply_to_error(error)
    except Exception as error:
        return reply_to_bug(error)


async def _passed_on(run: Run, exchange: Exchange) -> Reply:
    """Run a request that other servers have passed on, and note how many they were.

    In a task of its own, because the caller's context variables outlive the request.
    """
    hops_max = exchange.context.limits.proxy_hops_max
    hops = hops_of(exchange.headers[HOP_COUNT], hops_max)
    context = copy_context()
    context.run(hops_so_far.set, hops)
    loop = asyncio.get_running_loop()
    return await loop.create_task(run(exchange), context=context)
