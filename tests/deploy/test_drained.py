"""A slot is drained: proxies with the old files and with new ones reach everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.cli.main import main
from router.ring import Ring
from tests.deploy.calls import ask
from tests.deploy.conftest import WORKERS, Proxy, slot_of
from tests.fix_fleet import Fleet

if TYPE_CHECKING:
    from pathlib import Path

TENANTS = [f"t{number}" for number in range(24)]
DRAINED = 1


@pytest.mark.parametrize("kind", ["nginx", "envoy"])
async def test_a_drained_slot_is_passed_on_by_the_old_files_and_unused_by_the_new(
    tmp_path: Path, kind: str
) -> None:
    fleet = Fleet(tmp_path, workers=WORKERS, environ={})
    old = new = None
    try:
        old = Proxy(kind, fleet, tmp_path / "old", auth=False)
        assert main(["fleet", "drain", str(DRAINED), "--data-dir", str(fleet.data_dir)]) == 0
        new = Proxy(kind, fleet, tmp_path / "new", auth=False)
        ring = Ring(slot for slot in range(WORKERS) if slot != DRAINED)
        before = Ring(range(WORKERS))
        for tenant in TENANTS:
            put = await ask(old, "PUT", f"/{tenant}/api/v1/upload?path=/f", {}, tenant.encode())
            got = await ask(new, "GET", f"/{tenant}/api/v1/download?path=/f")
            assert (put.status, got.body) == (200, tenant.encode())
            for answer in (put, got):
                assert answer.headers["x-fs9-slot"] == str(ring.owner(tenant))
        for proxy in (old, new):
            assert (await ask(proxy, "GET", "/health")).status == 200
        sent = [slot_of(line["to"]) for line in old.logged(len(TENANTS))[: len(TENANTS)]]
        assert sent == [str(before.owner(tenant)) for tenant in TENANTS]
        assert str(DRAINED) in sent, "or the test shows nothing"
        lines = new.logged(len(TENANTS) + 1)
        assert str(DRAINED) not in {slot_of(line["to"]) for line in lines}
        assert [slot_of(line["to"]) for line in lines[:-1]] == [line["slot"] for line in lines[:-1]]
    finally:
        for proxy in (old, new):
            if proxy is not None:
                proxy.stop()
        fleet.stop()
