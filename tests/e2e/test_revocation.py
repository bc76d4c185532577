"""Revocations in a running fleet: every worker, whatever connection, and after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from tests.e2e.conftest import bearer, make_token
from tests.fix_fleet import SECRET, Fleet

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [f"tenant{number}" for number in range(6)]


def statuses(fleet: Fleet, tokens: list[str]) -> list[int]:
    """What each is answered on a connection of its own."""
    found = []
    for token in tokens:
        headers = {"authorization": f"Bearer {token}"}
        answer = httpx2.get(f"{fleet.url}/api/v1/stat?path=/", headers=headers, timeout=30)
        found.append(answer.status_code)
    return found


def test_a_user_is_revoked_in_all_workers_and_stays_so(
    tmp_path: Path, metadata: dict[str, str]
) -> None:
    """Tokens of one user in namespaces of all workers, known to them; then a new fleet."""
    environ = {"FS9_JWT_SECRET": SECRET} | metadata
    fleet = Fleet(tmp_path, workers=2, environ=environ)
    tokens = [make_token(ns=name, sub="mallory", roles=[]) for name in NAMES]
    others = [make_token(ns=name, sub="alice", roles=[]) for name in NAMES]
    try:
        with httpx2.Client(base_url=f"{fleet.url}/api/v1/", timeout=30) as client:
            admin = bearer(roles=["admin"])
            for name in NAMES:
                made = client.post("namespaces", json={"name": name}, headers=admin)
                assert made.status_code == 201
            assert statuses(fleet, tokens) == [200] * len(NAMES)
            answer = client.post("auth/revoke", json={"user": "mallory"}, headers=admin)
            assert answer.status_code == 204
        # No waiting: the answer came when all workers knew.
        assert statuses(fleet, tokens) == [401] * len(NAMES)
        assert statuses(fleet, others) == [200] * len(NAMES)
        assert fleet.stop() == 0
        log = fleet.log.read_text()
        assert not any(token in log for token in tokens)
        assert SECRET not in log
        fleet = Fleet(tmp_path, workers=2, environ=environ)
        assert statuses(fleet, tokens) == [401] * len(NAMES)
        assert statuses(fleet, others) == [200] * len(NAMES)
    finally:
        fleet.stop()
