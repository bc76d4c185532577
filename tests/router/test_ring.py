"""router.ring: every process places every namespace alike, and evenly."""

from __future__ import annotations

from collections import Counter
from zlib import crc32

import pytest

from router.ring import BUCKETS, Ring

NAMES = [f"tenant-{number}" for number in range(20_000)]


def test_a_namespace_has_the_same_owner_whatever_the_order_of_the_slots() -> None:
    one, other = Ring([0, 1, 2, 3]), Ring([3, 1, 0, 2])
    assert [one.owner(name) for name in NAMES] == [other.owner(name) for name in NAMES]


def test_the_fullest_of_eight_slots_has_at_most_a_tenth_more_than_the_mean() -> None:
    ring = Ring(range(8))
    counts = Counter(ring.owner(name) for name in NAMES)
    assert max(counts.values()) <= 1.1 * len(NAMES) / 8


def test_a_slot_that_leaves_moves_only_its_own_namespaces() -> None:
    before, after = Ring(range(5)), Ring([0, 1, 2, 4])
    moved = [name for name in NAMES if before.owner(name) != after.owner(name)]
    assert moved
    assert all(before.owner(name) == 3 for name in moved)


def test_a_ring_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Ring([])


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_the_table_of_the_buckets_places_as_the_ring_does(slots: int) -> None:
    """What a proxy in front has: no more than the table and a CRC-32."""
    ring = Ring(range(slots))
    table = Ring(range(slots)).table()
    assert len(table) == BUCKETS
    assert all(table[crc32(name.encode()) % BUCKETS] == ring.owner(name) for name in NAMES)


def test_any_text_that_a_token_can_name_has_an_owner() -> None:
    """Also a lone surrogate, which JSON can spell and UTF-8 cannot."""
    ring = Ring(range(3))
    assert all(ring.owner(text) in ring.slots for text in ("", "\ud800", "ä", "\0", "x" * 10_000))


def test_the_shares_are_those_of_the_whole_table() -> None:
    """By a sample, so only about."""
    ring = Ring(range(4))
    table = ring.table()
    for slot in range(4):
        assert abs(ring.share(slot) - table.count(slot) / len(table)) < 0.05
    assert sum(ring.share(slot) for slot in range(4)) == 1
    assert ring.share(9) == 0
