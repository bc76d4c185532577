"""A fleet whose metadata is in PostgreSQL, while that is restarted, killed and gone for a while."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

import httpx2
import pytest

from tests.e2e.conftest import bearer, make_token
from tests.fix_fleet import SECRET, Fleet
from tests.fix_postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: How long a test waits for what must become true.
_PATIENCE_S = 90.0
_YAML = """
meta: {timeout_secs: 3}
namespace_template:
- {path: /, provider: memfs}
server:
  limits: {reconcile_interval_secs: 0.5}
"""
ADMIN = bearer(roles=["admin"])


@pytest.fixture
def own_server(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A server that a test may ill-treat."""
    server = PostgresServer(postgres.programs)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def fleet(own_server: PostgresServer, tmp_path: Path) -> Iterator[Fleet]:
    environ = {"FS9_JWT_SECRET": SECRET, "FS9_META_DSN": own_server.new_database()}
    running = Fleet(tmp_path, workers=2, yaml=_YAML, environ=environ)
    try:
        yield running
    finally:
        status = running.stop()
    assert status == 0


class Tenant:
    def __init__(self, fleet: Fleet, name: str) -> None:
        self.url = f"{fleet.url}/api/v1/"
        self.name = name
        self.headers = bearer(ns=name, roles=["read-write"])

    def put(self, path: str) -> int:
        url = f"{self.url}upload?path={path}"
        return httpx2.put(url, content=b"x", headers=self.headers, timeout=60).status_code

    def stat(self, path: str) -> int:
        url = f"{self.url}stat?path={path}"
        return httpx2.get(url, headers=self.headers, timeout=60).status_code


def create(fleet: Fleet, name: str) -> httpx2.Response:
    url = f"{fleet.url}/api/v1/namespaces"
    return httpx2.post(url, json={"name": name}, headers=ADMIN, timeout=60)


def revoke(fleet: Fleet, token: str) -> httpx2.Response:
    url = f"{fleet.url}/api/v1/auth/revoke"
    return httpx2.post(url, json={"token": token}, headers=ADMIN, timeout=60)


def create_until_made(fleet: Fleet, name: str) -> None:
    """Also when an earlier try made it, and did not come to say so."""
    end_s = time.monotonic() + _PATIENCE_S
    while (answer := create(fleet, name)).status_code not in {201, 409}:
        assert answer.status_code in {503, 504}, answer.text
        assert time.monotonic() < end_s, answer.text


def names(fleet: Fleet) -> set[str]:
    """What the database knows."""
    answer = httpx2.get(f"{fleet.url}/api/v1/namespaces", headers=ADMIN, timeout=60)
    assert answer.status_code == 200, answer.text
    return {record["name"] for record in answer.json()}


class Creating:
    """Makes namespaces, one after the other, while it is entered."""

    def __init__(self, fleet: Fleet, prefix: str) -> None:
        self._fleet = fleet
        self._prefix = prefix
        self._over = threading.Event()
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._create)
        #: Those that were answered 201.
        self.made: list[str] = []
        self.odd: list[str] = []

    def _create(self) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            answer = create(self._fleet, name := f"{self._prefix}{number}")
            if answer.status_code not in {201, 503, 504}:
                self.odd.append(answer.text)
            elif answer.status_code == 201:
                with self._more:
                    self.made.append(name)
                    self._more.notify_all()

    def wait_for_more(self) -> None:
        with self._more:
            known = len(self.made)
            assert self._more.wait_for(lambda: len(self.made) > known, _PATIENCE_S), self.odd

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        assert self.odd == []


def test_restarted_killed_and_gone_while_the_fleet_serves(
    fleet: Fleet, own_server: PostgresServer
) -> None:
    """Known tenants go on, changes of metadata fail clean, and all is well when it is back."""
    assert create(fleet, "acme").status_code == 201
    acme = Tenant(fleet, "acme")
    assert acme.put("/a") == 200
    revoked = make_token(ns="acme", jti="gone")
    assert revoke(fleet, revoked).status_code == 204

    for end, name in ((own_server.stop, "restarted"), (own_server.kill, "killed")):
        with Creating(fleet, name) as creating:
            creating.wait_for_more()
            end()
            own_server.start()
            creating.wait_for_more()
        assert acme.stat("/a") == 200
        assert Tenant(fleet, creating.made[-1]).put("/b") == 200
        assert set(creating.made) <= names(fleet), "what was answered is there"

    own_server.stop("immediate")
    assert acme.stat("/a") == 200, "what is in memory needs no database"
    assert acme.put("/during") == 200, "a change is journaled until its event can be stored"
    answer = create(fleet, "during")
    assert answer.status_code in {503, 504}, answer.text
    assert answer.json()["kind"] in {"BackendUnavailable", "Transient", "Timeout"}
    assert "postgresql://" not in answer.text
    late = make_token(ns="acme", jti="late")
    assert revoke(fleet, late).status_code in {503, 504}, "what is not kept is not promised"
    headers = {"Authorization": f"Bearer {revoked}"}
    url = f"{fleet.url}/api/v1/stat?path=/a"
    assert httpx2.get(url, headers=headers, timeout=60).status_code == 401, "revoked stays revoked"
    unknown = Tenant(fleet, "nowhere").stat("/")
    assert unknown in {403, 503, 504}, "nobody is let in because nobody can be asked"

    own_server.start()
    create_until_made(fleet, "during")
    assert revoke(fleet, late).status_code == 204
    assert httpx2.get(url, headers={"Authorization": f"Bearer {late}"}).status_code == 401
    assert acme.stat("/during") == 200
    assert {"acme", "during"} <= names(fleet)
    _events_are_whole(fleet)


def _events_are_whole(fleet: Fleet) -> None:
    """What was done without the database is in the trail when it is back."""
    url = f"{fleet.url}/api/v1/events"
    end_s = time.monotonic() + _PATIENCE_S
    while True:
        answer = httpx2.get(url, headers=bearer(ns="acme", roles=["admin"]), timeout=60)
        if answer.status_code == 200:
            paths = [event["path"] for event in answer.json() if event["event_type"] == "upload"]
            assert paths == ["/during", "/a"]
            return
        assert time.monotonic() < end_s, answer.text
