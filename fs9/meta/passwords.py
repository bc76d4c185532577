"""Passwords of users, as Argon2id hashes (RFC 9106). This is the only module that uses argon2.

A hash takes about ten milliseconds and 64 MiB on purpose, so hashes are made in threads, and only a
few at a time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from fs9.errors import InvalidArgument

if TYPE_CHECKING:
    from fs9.threads import BlockingPool

#: Longer ones are refused: nobody types them.
PASSWORD_BYTES_MAX = 1024
_AT_A_TIME = 2


class Passwords:
    """Hashes and checks passwords, for one process."""

    def __init__(self, pool: BlockingPool) -> None:
        self._pool = pool
        # RFC 9106, section 4, the second recommended option: 3 passes, 64 MiB, 4 lanes.
        self._hasher = PasswordHasher()
        self._turns = asyncio.Semaphore(_AT_A_TIME)

    async def hash(self, password: str) -> str:
        """The hash to store; raises InvalidArgument for an empty or too long password."""
        data = password.encode(errors="surrogatepass")
        if not 1 <= len(data) <= PASSWORD_BYTES_MAX:
            raise InvalidArgument(f"a password has 1 to {PASSWORD_BYTES_MAX} bytes")
        async with self._turns:
            return await self._pool.run(self._hasher.hash, data)

    async def fits(self, kept: str | None, password: str) -> bool:
        """Does the password match? Takes as long with None, for a user that does not exist."""
        data = password.encode(errors="surrogatepass")[: PASSWORD_BYTES_MAX + 1]
        async with self._turns:
            if kept is None:
                await self._pool.run(self._hasher.hash, data)
                return False
            return await self._pool.run(self._verify, kept, data)

    def _verify(self, kept: str, data: bytes) -> bool:
        try:
            return self._hasher.verify(kept, data)
        except (VerificationError, InvalidHashError):
            return False
