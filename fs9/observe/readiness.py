"""Can this worker serve? Named checks, run concurrently, each with a deadline.

Anybody may ask, and often: the answer is cached for a moment, and a check that hangs is not started
a second time but reported as hanging until it returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from fs9.errors import Fs9Error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fs9.clock import Clock

#: Returns when all is well; a text says why there was nothing to be checked.
Check = Callable[[], Awaitable[str | None]]

KEPT_S = 1.0
TIMEOUT_S = 2.0


class Finding(NamedTuple):
    name: str
    ok: bool
    detail: str = ""


class Readiness:
    """The checks of one worker. Of one event loop."""

    def __init__(
        self, checks: Mapping[str, Check], clock: Clock, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._checks = dict(checks)
        self._clock = clock
        self._timeout_s = timeout_s
        self._running: dict[str, asyncio.Task[str | None]] = {}
        self._asking: asyncio.Task[list[Finding]] | None = None
        self._found: list[Finding] = []
        self._found_s = float("-inf")
        #: Why this worker is to get no work; empty while it is.
        self.leaving = ""
        #: What it has not heard for too long; empty while it has.
        self.deaf = ""

    async def findings(self) -> list[Finding]:
        """What each check says, in their order; the first one is whether the worker stays."""
        reason = self.leaving or self.deaf
        worker = Finding("worker", not reason, reason)
        if self._clock.monotonic_s() - self._found_s >= KEPT_S:
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask())
            # A caller that leaves must not cut the others' answer.
            return [worker, *await asyncio.shield(self._asking)]
        return [worker, *self._found]

    async def _ask(self) -> list[Finding]:
        try:
            for name, check in self._checks.items():
                if name not in self._running:
                    self._running[name] = asyncio.create_task(_run(check))
            await asyncio.wait(self._running.values(), timeout=self._timeout_s)
            self._found = [self._finding(name) for name in self._checks]
            self._found_s = self._clock.monotonic_s()
            return self._found
        finally:
            self._asking = None

    def _finding(self, name: str) -> Finding:
        task = self._running[name]
        if not task.done():
            return Finding(name, False, f"no answer within {self._timeout_s:g} s")
        del self._running[name]
        if task.cancelled():
            return Finding(name, False, "cancelled")
        error = task.exception()
        if error is not None:
            # What is no error of ours may hold anything, and anybody may read this.
            text = str(error) if isinstance(error, Fs9Error) else type(error).__name__
            return Finding(name, False, text)
        return Finding(name, True, task.result() or "")

    async def aclose(self) -> None:
        """End the checks that run."""
        tasks = [*self._running.values(), *filter(None, [self._asking])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run(check: Check) -> str | None:
    return await check()
