"""fs9.quota: counts that are exact whatever the order of those who charge."""

from __future__ import annotations

import threading

import pytest

from fs9.errors import QuotaExceeded
from fs9.quota import NO_BOUNDS, NamespaceQuota, Quota, Refusals
from fs9.types import FsStats


def test_charges_stop_exactly_at_the_maximum():
    quota = Quota(bytes_max=10, files_max=2)
    quota.charge(10, 2)
    for bytes_, files in ((1, 0), (0, 1), (1, -1)):
        with pytest.raises(QuotaExceeded):
            quota.charge(bytes_, files)
    assert (quota.bytes_used, quota.files_used) == (10, 2)
    quota.charge(-3, -1)
    quota.charge(3, 1)
    with pytest.raises(QuotaExceeded, match="may hold 10 bytes; 0 are free"):
        quota.charge(1)


def test_what_is_found_may_be_more():
    """Then nothing can be added, and everything given back."""
    quota = Quota(bytes_max=10)
    quota.found(25, 3)
    with pytest.raises(QuotaExceeded, match="0 are free"):
        quota.charge(1)
    quota.charge(-20, -1)
    quota.charge(5, 100)
    assert (quota.bytes_used, quota.files_used) == (10, 102)


def test_no_maximum_no_refusal():
    quota = Quota()
    assert not quota.limited
    quota.charge(2**70, 2**70)
    assert (quota.bytes_used, quota.files_used) == (2**70, 2**70)


def test_refusals_are_counted_together():
    refusals = Refusals()
    for quota in (Quota(1, 1, refusals), Quota(1, 1, refusals)):
        for bytes_, files in ((2, 0), (2, 2), (0, 2)):
            with pytest.raises(QuotaExceeded):
                quota.charge(bytes_, files)
    assert (refusals.bytes, refusals.files) == (4, 2)


def test_many_threads_fill_it_to_the_last_byte():
    quota = Quota(bytes_max=10_000)
    granted = []

    def charge() -> None:
        count = 0
        try:
            while True:
                quota.charge(7)
                quota.charge(-6)
                count += 1
        except QuotaExceeded:
            granted.append(count)

    threads = [threading.Thread(target=charge) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert quota.bytes_used == sum(granted) <= 10_000


async def test_a_bound_waits_until_all_is_counted():
    quota = Quota()

    async def count() -> None:
        assert not quota.limited
        quota.found(50, 5)

    quota.uncounted.append(count)
    await quota.limit(None, None)
    assert quota.bytes_used == 0
    await quota.limit(60, None)
    assert (quota.bytes_used, quota.uncounted, quota.limited) == (50, [], True)
    await quota.limit(70, 7)
    assert (quota.bytes_used, quota.bytes_max, quota.files_max) == (50, 70, 7)


async def test_a_count_that_fails_is_tried_again():
    quota = Quota(5, 5)
    outcomes = [OSError("disk"), None]

    async def count() -> None:
        error = outcomes.pop(0)
        if error is not None:
            raise error

    quota.uncounted.append(count)
    with pytest.raises(OSError, match="disk"):
        await quota.limit(9, 9)
    assert (quota.bytes_max, quota.files_max) == (5, 5)
    await quota.limit(9, 9)
    assert (quota.bytes_max, quota.uncounted) == (9, [])


@pytest.mark.parametrize(
    ("bounds", "used", "expected"),
    [
        ((None, None), (10, 1), (1000, 400, 100, 40)),
        ((500, 50), (100, 20), (500, 400, 50, 30)),
        ((500, None), (450, 20), (500, 50, 100, 40)),
        ((500, 50), (600, 60), (500, 0, 50, 0)),
        ((5000, 5000), (0, 0), (1000, 400, 100, 40)),
    ],
)
def test_statfs_shows_the_lesser(bounds: tuple, used: tuple, expected: tuple):
    quota = Quota(*bounds)
    quota.found(*used)
    stats = quota.within(FsStats(1000, 400, 100, 40, 512, 255))
    found = (stats.total_bytes, stats.free_bytes, stats.total_inodes, stats.free_inodes)
    assert found == expected
    assert (stats.block_size, stats.max_name_len) == (512, 255)


def test_what_a_namespace_has_not_the_settings_have():
    own = NamespaceQuota(bytes_max=5, handles_max=3)
    defaults = NamespaceQuota(bytes_max=9, files_max=8)
    assert own.or_else(defaults) == NamespaceQuota(5, 8, 3, None)
    assert NO_BOUNDS.or_else(defaults) == defaults
