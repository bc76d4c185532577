"""What was revoked, packed: a worker keeps half a million revocations in about 13 MB.

A revocation is 24 bytes: the first 16 of a SHA-256 that identifies what is revoked, the time after
which it may be forgotten, and the time until which the revoked tokens were issued. Entries are
sorted within 256 shards by their first byte, so an insertion moves a few kilobytes and a look-up
takes a few steps. The garbage collector does not look into byte arrays.

    token      the SHA-256 of the token itself; tokens refreshed from it are revoked as well
    others     the SHA-256 of kind, namespace (empty: any) and subject
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from typing import TYPE_CHECKING

from fs9.principal import CREDENTIAL_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fs9.meta.models import Revocation
    from fs9.principal import Principal

_ENTRY_BYTES = 24
_TIMES = struct.Struct(">II")
_SHARDS = 256
#: The latest time that an entry can name: in the year 2106.
TIME_MAX_S = 2**32 - 1
#: How many shards one call of `forget_expired` looks through.
_SWEPT = 16


class Revocations:
    """All revocations that one worker knows of. For one event loop."""

    def __init__(self) -> None:
        self._shards = [bytearray() for _ in range(_SHARDS)]
        self._count = 0
        # How many of each kind there ever were: of most there are none to be looked for.
        self._kinds: Counter[str] = Counter()
        self._swept = 0

    def __len__(self) -> int:
        return self._count

    @property
    def size_bytes(self) -> int:
        """The memory of the entries."""
        return sum(shard.__sizeof__() for shard in self._shards)

    def add(self, revocation: Revocation) -> None:
        """One that is known gets the later times."""
        digest = _digest(revocation)
        until_s = revocation.issued_until_s
        issued_s = TIME_MAX_S if until_s is None else _clamped(until_s)
        expires_s = _clamped(revocation.expires_at_s)
        self._kinds[revocation.kind] += 1
        shard = self._shards[digest[0]]
        at, found = _search(shard, digest)
        if found:
            known_expires_s, known_issued_s = _TIMES.unpack_from(shard, at + CREDENTIAL_BYTES)
            times = (max(expires_s, known_expires_s), max(issued_s, known_issued_s))
            _TIMES.pack_into(shard, at + CREDENTIAL_BYTES, *times)
            return
        shard[at:at] = digest + _TIMES.pack(expires_s, issued_s)
        self._count += 1

    def mean(self, principal: Principal) -> bool:
        """Was what the principal has shown revoked, by itself or with others?"""
        if not self._count:
            return False
        if self._issued_until_s(principal.credential[:CREDENTIAL_BYTES]) is not None:
            return True
        if principal.origin and self._issued_until_s(principal.origin) is not None:
            return True
        for kind, subject, namespaces in _meant_by(principal):
            if not subject or not self._kinds[kind]:
                continue
            for namespace in namespaces:
                until_s = self._issued_until_s(_hashed(kind, namespace, subject))
                if until_s is not None and principal.issued_at_s <= until_s:
                    return True
        return False

    def mean_all_of(self, namespace: str, issued_at_s: float) -> bool:
        """Were all tokens of the namespace revoked that were issued then?"""
        if not self._kinds["namespace"]:
            return False
        until_s = self._issued_until_s(_hashed("namespace", "", namespace))
        return until_s is not None and issued_at_s <= until_s

    def forget_expired(self, now_s: float) -> int:
        """Drop what no token can be meant by any more, in the next few shards; how many."""
        dropped = 0
        for _ in range(_SWEPT):
            shard = self._shards[self._swept]
            kept = bytearray()
            for at in range(0, len(shard), _ENTRY_BYTES):
                if _TIMES.unpack_from(shard, at + CREDENTIAL_BYTES)[0] >= now_s:
                    kept += shard[at : at + _ENTRY_BYTES]
            if len(kept) < len(shard):
                dropped += (len(shard) - len(kept)) // _ENTRY_BYTES
                self._shards[self._swept] = kept
            self._swept = (self._swept + 1) % _SHARDS
        self._count -= dropped
        return dropped

    def _issued_until_s(self, digest: bytes) -> int | None:
        if len(digest) != CREDENTIAL_BYTES:
            return None
        shard = self._shards[digest[0]]
        at, found = _search(shard, digest)
        if not found:
            return None
        issued_s: int = _TIMES.unpack_from(shard, at + CREDENTIAL_BYTES)[1]
        return issued_s


def successors_of(origin: str) -> str:
    """By what a revocation of kind `jti` means all tokens that were made of one by refreshing."""
    return origin and f"origin:{origin}"


class Meant:
    """Whom some new revocations mean, for looking through what is open and in progress."""

    def __init__(self, revocations: Iterable[Revocation]) -> None:
        self._list = Revocations()
        for revocation in revocations:
            self._list.add(revocation)

    def __call__(self, principal: Principal) -> bool:
        return self._list.mean(principal)


def _meant_by(principal: Principal) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    both = ("", principal.namespace)
    return (
        ("jti", principal.jti, both),
        ("jti", principal.origin_jti, both),
        ("jti", successors_of(principal.origin.hex()), both),
        ("user", principal.user, both),
        ("namespace", principal.namespace, ("",)),
        ("key", principal.key_id, ("",)),
    )


def _digest(revocation: Revocation) -> bytes:
    if revocation.kind == "token":
        return bytes.fromhex(revocation.subject)[:CREDENTIAL_BYTES]
    # Of a namespace or a key the subject says all.
    narrowed = revocation.kind in {"jti", "user"}
    namespace = revocation.namespace or "" if narrowed else ""
    return _hashed(revocation.kind, namespace, revocation.subject)


def _hashed(kind: str, namespace: str, subject: str) -> bytes:
    text = f"{kind}\0{namespace}\0{subject}".encode(errors="surrogatepass")
    return hashlib.sha256(text).digest()[:CREDENTIAL_BYTES]


def _search(shard: bytearray, digest: bytes) -> tuple[int, bool]:
    """Where the entry is, or belongs."""
    low, high = 0, len(shard) // _ENTRY_BYTES
    while low < high:
        middle = (low + high) // 2
        at = middle * _ENTRY_BYTES
        if shard[at : at + CREDENTIAL_BYTES] < digest:
            low = middle + 1
        else:
            high = middle
    at = low * _ENTRY_BYTES
    return at, shard[at : at + CREDENTIAL_BYTES] == digest


def _clamped(time_s: int) -> int:
    return min(max(0, time_s), TIME_MAX_S)
