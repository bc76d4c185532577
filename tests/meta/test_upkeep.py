"""What a metadata service removes by itself."""

import pytest

from fs9.clock import ManualClock
from fs9.meta.models import Revocation
from fs9.meta.sqlite import SqliteStore
from fs9.meta.upkeep import CHANGES_KEPT_S, Upkeep
from fs9.threads import BlockingPool
from tests.meta.store_suite import NOW_S


@pytest.fixture
async def store(tmp_path, clock):
    pool = BlockingPool(2)
    store = await SqliteStore.open(tmp_path / "meta.db", clock, pool)
    yield store
    await store.aclose()
    pool.shutdown()


@pytest.fixture
def clock():
    return ManualClock(NOW_S)


async def test_one_process_removes_what_is_over(store, clock):
    """Expired revocations and old changes; those that hold stay."""
    for subject, expires_s in (("old", NOW_S + 10), ("new", NOW_S + 10 * CHANGES_KEPT_S)):
        await store.revoke([Revocation("jti", subject, None, expires_s, NOW_S, "root")])
    await store.create_namespace("acme", "root", ())
    clock.advance(CHANGES_KEPT_S + 1)
    first, second = Upkeep(store, clock), Upkeep(store, clock)
    assert await first.once() == 1
    assert await second.once() is None
    assert await first.once() == 0
    changes = await store.changes_since(0)
    assert [each.subject for each in changes.revocations] == ["new"]
    assert not (await store.changes_since(1)).complete
