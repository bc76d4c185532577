"""Who may revoke what, and for how long that is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.auth.identity import Identity
from fs9.auth.revoking import Revoking
from fs9.clock import ManualClock
from fs9.config import Settings
from fs9.errors import Forbidden, UnprocessableBody
from fs9.meta.sqlite import SqliteStore
from fs9.principal import Principal
from fs9.threads import BlockingPool
from fs9.wire.messages import RevokeRequest
from tests.fix_http import SECRET, token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from fs9.meta.models import Revocation

ROOT = Principal("root", "default", ("admin",))
BOUND_S = 3600


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_800_000_000)


@pytest.fixture
def pool() -> Iterator[BlockingPool]:
    pool = BlockingPool(1)
    yield pool
    pool.shutdown()


@pytest.fixture
async def store(
    tmp_path: Path, clock: ManualClock, pool: BlockingPool
) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "meta.db", clock, pool)
    yield store
    await store.aclose()


def rules(store: SqliteStore, clock: ManualClock, pool: BlockingPool, **more: object) -> Revoking:
    settings = Settings(jwt_secret=SECRET, token_ttl_s=BOUND_S, **more)  # type: ignore[arg-type]
    return Revoking(store, Identity(settings, clock, pool, store).verifier, settings, clock)


async def test_only_admins_of_the_namespace_or_server_revoke(
    store: SqliteStore, clock: ManualClock, pool: BlockingPool
) -> None:
    """A tenant's admin ends what is of its own namespace alone."""
    revoking = rules(store, clock, pool)

    async def made(by: Principal, **what: str) -> list[Revocation]:
        return await revoking.revocations(by, RevokeRequest(**what))

    tenant = Principal("boss", "one", ("admin",))
    theirs = token("two", "read-write", sub="ann", clock=clock)
    own = token("one", "read-write", sub="ann", clock=clock)
    narrowed = Principal("boss", "one", ("admin",), permissions=("read",))
    for by, what in (
        (Principal("o", "default", ("operator",)), {"token": own}),
        (Principal("w", "default", ("read-write",)), {"user": "ann"}),
        (Principal("a", "one"), {"token": own}),
        (tenant, {"token": theirs}),
        (tenant, {"namespace": "two"}),
        (tenant, {"user": "ann", "namespace": "two"}),
        (narrowed, {"user": "x"}),
    ):
        with pytest.raises(Forbidden):
            await made(by, **what)
    (user,) = await made(tenant, user="ann")
    assert (user.kind, user.subject, user.namespace) == ("user", "ann", "one")
    assert user.issued_until_s == clock.now_s()
    assert [each.namespace for each in await made(ROOT, user="ann")] == [None]
    assert [each.namespace for each in await made(ROOT, token=theirs)] == ["two"]
    (text,) = await made(tenant, token="any text that is none of ours")
    assert (text.kind, text.namespace) == ("token", None)
    for wrong in ({}, {"token": "a", "user": "b"}):
        with pytest.raises(UnprocessableBody):
            await made(tenant, **wrong)


@pytest.mark.parametrize("lifetime_max_s", [None, BOUND_S])
async def test_revocations_are_kept_until_no_such_token_can_hold(
    store: SqliteStore, clock: ManualClock, pool: BlockingPool, lifetime_max_s: int | None
) -> None:
    """For ever, unless lifetimes are bounded: then that long, but for who has API keys."""
    revoking = rules(store, clock, pool, token_lifetime_max_s=lifetime_max_s)
    await store.ensure_namespace("default", "root", ())
    user = await store.create_user("ann", password_hash=None, email=None)
    await store.create_api_key(user.id, "default", "ci", ["read-only"], "0" * 64, None)
    kept = {}
    for what in ({"jti": "x"}, {"user": "bob"}, {"user": "ann"}, {"namespace": "acme"}):
        (made,) = await revoking.revocations(ROOT, RevokeRequest(**what))
        kept[made.subject] = made.expires_at_s - int(clock.now_s())
    least_s, most_s = BOUND_S + 4 * 3600, BOUND_S + 5 * 3600
    assert kept.pop("ann") > most_s
    for left_s in kept.values():
        assert (least_s < left_s < most_s) is (lifetime_max_s is not None)
