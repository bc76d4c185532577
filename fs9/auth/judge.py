"""How a metadata service judges tokens: by their keys, and by what was revoked.

    store ── changes_since ──> Revocations <── revoked? ── Judge ── claims, sign ── keys

Before each judgement the store is asked what was revoked since the last one, so that all processes
of the service give the same answers; simultaneous calls share one query.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from fs9.auth.revocations import Revocations
from fs9.auth.tokens import LEEWAY_S, Claims, Keys, sign, verify
from fs9.auth.verifier import digest_of, origin_of, principal_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fs9.clock import Clock
    from fs9.meta.models import Changes


class ChangeRecords(Protocol):
    """The part of the store that is used here."""

    async def changes_since(self, change_id: int, limit: int = ...) -> Changes:
        """As `fs9.meta.store.Metadata.changes_since`."""


class Judge:
    """A `fs9.meta.issuing.Tokens`, with one secret. Of one event loop."""

    def __init__(self, secret: str, records: ChangeRecords, clock: Clock) -> None:
        """Raises ValueError when the secret cannot be one."""
        self._keys = Keys.of_secrets((secret,))
        self._secret = secret
        self._records = records
        self._clock = clock
        self._revocations = Revocations()
        self._last_id = 0
        self._reading: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    def claims(self, token: str, grace_s: float = LEEWAY_S) -> Claims:
        """As `fs9.auth.tokens.verify`; raises Unauthenticated."""
        return verify(token, self._keys, self._clock.now_s(), grace_s=grace_s)

    def sign(self, claims: Mapping[str, Any]) -> str:
        return sign(claims, self._secret)

    def origin(self, token: str, claims: Claims) -> Mapping[str, str]:
        """What a token that is made of this one has to say of it."""
        return origin_of(token, claims)

    async def revoked(self, token: str, claims: Claims) -> bool:
        """Was it revoked before this was asked? Raises what the store raises."""
        await self._catch_up()
        return self._revocations.mean(principal_of(claims, digest_of(token)))

    async def _catch_up(self) -> None:
        # A reading in progress may have begun before the revocation: only the next one counts.
        if self._reading is None:
            task = self._reading = asyncio.create_task(self._read())
            task.add_done_callback(self._turn)
        else:
            if self._next is None:
                self._next = asyncio.create_task(self._read_after(self._reading))
            task = self._next
        await asyncio.shield(task)

    def _turn(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # seen, even if every caller went away
        self._reading, self._next = self._next, None
        if self._reading is not None:
            self._reading.add_done_callback(self._turn)

    async def _read_after(self, earlier: asyncio.Task[None]) -> None:
        await asyncio.wait([earlier])
        await self._read()

    async def _read(self) -> None:
        more = True
        while more:
            changes = await self._records.changes_since(self._last_id)
            if not changes.complete:
                changes = await self._records.changes_since(0)
            for revocation in changes.revocations:
                self._revocations.add(revocation)
            more = changes.more and changes.last_id != self._last_id
            self._last_id = changes.last_id
        self._revocations.forget_expired(self._clock.now_s())
