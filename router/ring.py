"""The ring: which slot owns a namespace. Immutable; the only user of uhashring.

A namespace falls into one of 65,536 buckets by the CRC-32 of its name, and the ring places the
buckets. So a program without such a ring, for example a proxy in front, can place every namespace
in the same way from a table of the buckets (`Ring.table`, rendered by `router.render`): CRC-32
takes a few lines in any language.

Measured (fullest slot against the mean, a million names; in brackets the ring asked for each
name itself): 8 slots 1.05 (1.03), 32 slots 1.07 (1.06), 64 slots 1.10 (1.09). With 16,384
buckets 64 slots were at 1.18, with 1,024 buckets 8 slots at 1.19. xxh3 and 1,000 points a slot
are more even than the library's md5 and 160 points (8 slots: 1.13). Owners are memoised by
name, which makes the common look-up a dict hit.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING
from zlib import crc32

import xxhash
from uhashring import HashRing

if TYPE_CHECKING:
    from collections.abc import Iterable

POINTS_PER_SLOT = 1000
#: Changing it moves nearly every namespace, and the files of the proxies must be made anew.
BUCKETS = 65_536
_MEMO_MAX = 100_000
#: Buckets asked for a share. The ring scatters neighbours, so any will do.
_SAMPLES = 1024
#: Rings of other slots that are kept: views with and without one of them follow each other.
_KEPT = 8


def prepare(slots: Iterable[int]) -> None:
    """Compute the points of these slots now, so that forked processes share them."""
    _shares(Ring(slots).slots)


class Ring:
    def __init__(self, slots: Iterable[int]) -> None:
        self.slots = tuple(sorted(set(slots)))
        if not self.slots:
            raise ValueError("a ring needs at least one slot")
        self._ring = _placed(self.slots)
        self._memo: dict[str, int] = {}

    def owner(self, namespace: str) -> int:
        """The slot that owns `namespace`; the same in every process with the same slots."""
        owner = self._memo.get(namespace)
        if owner is None:
            if len(self._memo) >= _MEMO_MAX:
                self._memo.clear()
            owner = self._memo[namespace] = self._owner_of_bucket(bucket_of(namespace))
        return owner

    def share(self, slot: int) -> float:
        """The share of all names that a slot owns, from a sample; off by about 0.02 at most."""
        return _shares(self.slots).get(slot, 0.0)

    def table(self) -> tuple[int, ...]:
        """The owner of each bucket."""
        return tuple(self._owner_of_bucket(bucket) for bucket in range(BUCKETS))

    def _owner_of_bucket(self, bucket: int) -> int:
        return int(self._ring.get_node(str(bucket)))


@lru_cache(_KEPT)
def _placed(slots: tuple[int, ...]) -> HashRing:
    """The points of the slots on the ring; cached, because four slots take 5 ms."""
    return HashRing(nodes=[str(slot) for slot in slots], hash_fn=_hash, vnodes=POINTS_PER_SLOT)


@lru_cache(_KEPT)
def _shares(slots: tuple[int, ...]) -> dict[int, float]:
    owners = Counter(int(_placed(slots).get_node(str(bucket))) for bucket in range(_SAMPLES))
    return {slot: count / _SAMPLES for slot, count in owners.items()}


def bucket_of(namespace: str) -> int:
    """The bucket of a namespace name; any text has one, also a name that is not valid."""
    return crc32(namespace.encode("utf-8", "surrogatepass")) % BUCKETS


def _hash(key: str) -> int:
    return xxhash.xxh3_64_intdigest(key.encode())
