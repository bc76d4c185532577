"""The ring: which slot owns a namespace. Immutable; the only user of uhashring.

Measured with a million namespaces: xxh3 and 1,000 points a slot load the fullest of 8 slots
1.05 times the mean (md5 and 160 points, the library's default: 1.13), and look up in 0.8 µs.
Owners are memoised, which makes the common look-up a dict hit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash
from uhashring import HashRing

if TYPE_CHECKING:
    from collections.abc import Iterable

POINTS_PER_SLOT = 1000
_MEMO_MAX = 100_000


class Ring:
    def __init__(self, slots: Iterable[int]) -> None:
        self.slots = tuple(sorted(set(slots)))
        if not self.slots:
            raise ValueError("a ring needs at least one slot")
        self._ring = HashRing(
            nodes=[str(slot) for slot in self.slots],
            hash_fn=_hash,
            vnodes=POINTS_PER_SLOT,
        )
        self._memo: dict[str, int] = {}

    def owner(self, namespace: str) -> int:
        """The slot that owns `namespace`; the same in every process with the same slots."""
        owner = self._memo.get(namespace)
        if owner is None:
            if len(self._memo) >= _MEMO_MAX:
                self._memo.clear()
            owner = self._memo[namespace] = int(self._ring.get_node(namespace))
        return owner


def _hash(key: str) -> int:
    return xxhash.xxh3_64_intdigest(key.encode())
