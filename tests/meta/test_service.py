"""The metadata service over both databases."""

import pytest

from fs9.clock import ManualClock
from fs9.meta.postgres import PostgresStore
from fs9.meta.sqlite import SqliteStore
from fs9.threads import BlockingPool
from tests.meta.service_suite import ServiceSuite
from tests.meta.store_suite import NOW_S


@pytest.fixture
def clock():
    return ManualClock(NOW_S)


class TestOnSqlite(ServiceSuite):
    @pytest.fixture
    async def store(self, tmp_path, clock):
        pool = BlockingPool(4)
        store = await SqliteStore.open(tmp_path / "meta.db", clock, pool)
        yield store
        await store.aclose()
        pool.shutdown()


class TestOnPostgres(ServiceSuite):
    @pytest.fixture
    async def store(self, postgres_dsn, clock):
        store = await PostgresStore.open(postgres_dsn, clock, connections_max=4, timeout_s=60.0)
        yield store
        await store.aclose()
