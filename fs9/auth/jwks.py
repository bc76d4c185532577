"""Public keys of token issuers: JSON Web Key Sets (RFC 7517), from a file or an address.

A set is read after the start (which does not wait for it), on a timer, and when a token names an
unknown key, but then at most every `READ_MIN_S`. An issuer rotates keys by publishing the old and
the new one together. When a set cannot be read, the known keys stay in force. This is the only user
of cryptography.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from fs9.auth.fetching import fetch
from fs9.auth.tokens import EDDSA, RS256, TEXT_BYTES_MAX, Key
from fs9.config.loader import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from fs9.clock import Clock
    from fs9.threads import BlockingPool

log = logging.getLogger(__name__)

#: Between two readings that tokens of unknown keys lead to.
READ_MIN_S = 10.0
_SET_BYTES_MAX = 1024 * 1024
_KEYS_MAX = 100
_FETCH_TIMEOUT_S = 5.0
#: Smaller moduli can be factored, larger ones make each verification slow.
_RSA_BITS_MIN, _RSA_BITS_MAX = 2048, 8192
_ALGORITHMS = {"RSA": RS256, "OKP": EDDSA}


class UnusableKeySet(Exception):
    """It cannot be read, or no key of it can be used; the text says why."""


class _Jwk(msgspec.Struct):
    """One key as it stands in a set; members for other uses are not read."""

    kty: str
    kid: str | None = None
    alg: str | None = None
    use: str | None = None
    key_ops: list[str] | None = None
    crv: str | None = None
    x: str = ""
    n: str = ""
    e: str = ""
    d: str | None = None
    k: str | None = None


class _Set(msgspec.Struct):
    keys: list[msgspec.Raw]


_decode_set = msgspec.json.Decoder(_Set).decode
_decode_key = msgspec.json.Decoder(_Jwk).decode


def parse(data: bytes) -> tuple[Key, ...]:
    """The usable keys of a set: RS256 and EdDSA (Ed25519), for signatures.

    Others are passed over, with a line in the log. Raises UnusableKeySet when it is no set.
    """
    try:
        members = _decode_set(data).keys
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnusableKeySet(f"not a JSON Web Key Set: {error}") from None
    if len(members) > _KEYS_MAX:
        raise UnusableKeySet(f"more than {_KEYS_MAX} keys")
    found = []
    for number, member in enumerate(members):
        try:
            found.append(_key(_decode_key(member)))
        except (ValueError, UnicodeDecodeError, UnsupportedAlgorithm) as error:
            log.warning("key %d of the set is ignored: %s", number, error)
    return tuple(found)


def _key(jwk: _Jwk) -> Key:
    algorithm = _ALGORITHMS.get(jwk.kty)
    if algorithm is None or jwk.k is not None:
        raise ValueError(f"keys of type {jwk.kty!r} cannot be used")
    if jwk.d is not None:
        raise ValueError("it is a private key, which nobody but the issuer should have")
    if jwk.alg not in {None, algorithm} or jwk.use not in {None, "sig"}:
        raise ValueError(f"it is for {jwk.alg or jwk.use!r}")
    if jwk.key_ops is not None and "verify" not in jwk.key_ops:
        raise ValueError("it is not for verifying")
    if jwk.kid is not None and len(jwk.kid.encode()) > TEXT_BYTES_MAX:
        raise ValueError("its name is too long")
    if algorithm == RS256:
        return Key(algorithm, _rsa(jwk), jwk.kid)
    if jwk.crv != "Ed25519":
        raise ValueError(f"the curve {jwk.crv!r} cannot be used")
    return Key(algorithm, Ed25519PublicKey.from_public_bytes(_bytes(jwk.x)), jwk.kid)


def _rsa(jwk: _Jwk) -> RSAPublicKey:
    modulus, exponent = (int.from_bytes(_bytes(text)) for text in (jwk.n, jwk.e))
    if not _RSA_BITS_MIN <= modulus.bit_length() <= _RSA_BITS_MAX:
        raise ValueError(f"its modulus has {modulus.bit_length()} bits")
    return RSAPublicNumbers(exponent, modulus).public_key()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("a member is not base64url") from None


def check_place(place: str) -> None:
    """Raise ValueError unless it is a file, an https address, or an http one of this host."""
    parts = urlsplit(place)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError(f"{place}: anybody on the way could change these keys; use https")
    if "://" in place and (parts.scheme not in {"http", "https"} or not parts.hostname):
        raise ValueError(f"{place}: expected a file or an https address")


class KeySet:
    """The keys of one place; `use` is called with each set of keys that is another one."""

    def __init__(
        self, place: str, clock: Clock, pool: BlockingPool, use: Callable[[tuple[Key, ...]], None]
    ) -> None:
        """Raises ValueError as `check_place`."""
        check_place(place)
        self._place = place
        self._clock = clock
        self._pool = pool
        self._use = use
        self._read_s: float | None = None
        self._lock = asyncio.Lock()

    async def read(self) -> None:
        """Read it now. Raises UnusableKeySet; the keys that are known stay in force then."""
        self._read_s = self._clock.monotonic_s()
        data = await self._pool.run(_read, self._place, self._clock)
        self._use(parse(data))

    async def read_if_due(self) -> None:
        """For a token of an unknown key; callers at the same time share one reading."""
        async with self._lock:
            now_s = self._clock.monotonic_s()
            if self._read_s is None or now_s - self._read_s >= READ_MIN_S:
                await self.read_or_log()

    async def read_or_log(self) -> None:
        try:
            await self.read()
        except UnusableKeySet as error:
            log.error("the key set: %s", error)

    async def read_forever(self, interval_s: float) -> None:
        """At once, and then again and again; tokens that come meanwhile wait for the first time."""
        await self.read_if_due()
        while True:
            await asyncio.sleep(interval_s)
            await self.read_or_log()


def _read(place: str, clock: Clock) -> bytes:
    try:
        if "://" not in place:
            with Path(place).open("rb") as file:
                data = file.read(_SET_BYTES_MAX + 1)
        else:
            data = fetch(place, _FETCH_TIMEOUT_S, _SET_BYTES_MAX + 1, clock)
    except (OSError, ValueError, HTTPException) as error:
        raise UnusableKeySet(f"{place}: {str(error) or type(error).__name__}") from None
    if len(data) > _SET_BYTES_MAX:
        raise UnusableKeySet(f"{place}: more than {_SET_BYTES_MAX} bytes")
    return data
