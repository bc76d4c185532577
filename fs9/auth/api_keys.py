"""API keys (`fs9_…`) as credentials: looked up in the store by their SHA-256."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from fs9.auth.tokens import LEEWAY_S
from fs9.auth.verifier import REVOKED, digest_of
from fs9.errors import Fs9Error, NotFound, Unauthenticated
from fs9.meta.models import ACTIVE
from fs9.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fs9.clock import Clock
    from fs9.meta.models import ApiKeyRecord, UserRecord

log = logging.getLogger(__name__)

_UNKNOWN = "Invalid API key"


class KeyRecords(Protocol):
    """The part of the metadata that is used here."""

    async def api_key(self, key_digest: str) -> tuple[ApiKeyRecord, UserRecord]:
        """Raises NotFound."""


class ApiKeys:
    """A `Validator`. `touch` notes that a key was used."""

    def __init__(
        self,
        records: KeyRecords,
        clock: Clock,
        touch: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._records = records
        self._clock = clock
        self._touch = touch

    async def validate(self, token: str) -> Principal:
        """Whom the key stands for, with its roles in its namespace; as `Validator.validate`.

        Raises Unauthenticated also when its owner is not active.
        """
        try:
            record, owner = await self._records.api_key(digest_of(token).hex())
        except NotFound:
            raise Unauthenticated(_UNKNOWN) from None
        if record.revoked_at_s is not None:
            raise Unauthenticated(REVOKED)
        now_s = self._clock.now_s()
        if record.expires_at_s is not None and record.expires_at_s + LEEWAY_S < now_s:
            raise Unauthenticated("Invalid API key: expired")
        if owner.status != ACTIVE:
            raise Unauthenticated("Invalid API key: its owner is not active")
        await self._note_use(record.id)
        return Principal(
            owner.username,
            record.namespace,
            record.roles,
            record.expires_at_s,
            issued_at_s=record.created_at_s,
            key_id=record.id,
        )

    async def _note_use(self, key_id: str) -> None:
        if self._touch is not None:
            try:
                await self._touch(key_id)
            except Fs9Error as error:  # the key holds all the same
                log.warning("the last use of a key could not be recorded: %s", error)
