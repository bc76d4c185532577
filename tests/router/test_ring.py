"""router.ring: every process places every namespace alike, and evenly."""

from __future__ import annotations

from collections import Counter

import pytest

from router.ring import Ring

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
