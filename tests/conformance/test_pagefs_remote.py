"""pagefs on the stores that hosts can share passes the same suite."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from fs9.providers.pagefs import backends
from fs9.providers.registry import ProviderContext
from tests.conformance.driver import ProviderDriver
from tests.conformance.suite import TreeSuite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.limits import Limits
    from fs9.threads import BlockingPool
    from tests.fix_postgres import PostgresServer
    from tests.fix_s3 import S3Server

_numbers = itertools.count()


@pytest.fixture(scope="module")
def module_dsn(postgres: PostgresServer) -> str:
    return postgres.new_database()


class TestPageFsOnPostgresAndS3(TreeSuite):
    @pytest.fixture
    async def driver(
        self,
        tmp_path: Path,
        limits: Limits,
        clock: ManualClock,
        pool: BlockingPool,
        module_dsn: str,
        s3: S3Server,
        s3_bucket: str,
    ) -> AsyncIterator[ProviderDriver]:
        blocks = {"type": "s3", "bucket": s3_bucket, **s3.settings}
        backend = {"type": "postgres", "dsn": module_dsn, "blocks": blocks}
        # Files of every size go to S3, so that the suite's small ones do.
        config = {"backend": backend, "inline_bytes": 0}
        context = ProviderContext(f"ns{next(_numbers)}", tmp_path, limits, clock, pool)
        provider = await backends.create(config, context)
        yield ProviderDriver(provider)
        await provider.aclose()
