"""A file server whose metadata is a service's: what that says holds, and nothing without it."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from fs9.auth.tokens import sign
from fs9.meta.administration import Administration, at_database
from tests.fix_meta import META_KEY, META_SECRET
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fix_fleet import Fleet
    from tests.fix_meta import MetaProcesses

#: How long a test waits for what must become true.
_PATIENCE_S = 60.0
#: For so long file servers ask to be told of changes.
_WAIT_S = 25.0
#: Nothing is asked for on the timer while a test runs: what is changed must be told.
_YAML = """
server:
  meta_resilience: {try_timeout_secs: 5, total_timeout_secs: 8, recovery_timeout_secs: 0.5}
  limits: {reconcile_interval_secs: 600}
"""


class World:
    """A service with a user in the namespace `acme`, and a fleet that asks it."""

    def __init__(self, meta: MetaProcesses, fleet: Fleet) -> None:
        self.meta = meta
        self.fleet = fleet

    def service(self, method: str, path: str, body: object = None) -> Any:
        reply = httpx2.request(
            method,
            f"{self.meta.url}/api/v1{path}",
            json=body,
            headers={"x-fs9-meta-key": META_KEY},
            timeout=_PATIENCE_S,
        )
        assert reply.status_code == 200, reply.text
        return reply.json()

    def token(self, user: str) -> str:
        body = {"user_id": user, "namespace": "acme", "roles": ["read-write"]}
        token: str = self.service("POST", "/tokens/generate", body)["token"]
        return token

    def get(self, token: str, path: str, **more: Any) -> httpx2.Response:
        return httpx2.request(
            more.pop("method", "GET"),
            f"{self.fleet.url}/api/v1{path}",
            headers={"authorization": f"Bearer {token}"},
            timeout=_PATIENCE_S,
            **more,
        )

    def wait_for(self, token: str, path: str, status: int) -> httpx2.Response:
        """Until it is answered so."""
        end_s = time.monotonic() + _PATIENCE_S
        while (reply := self.get(token, path)).status_code != status:
            assert time.monotonic() < end_s, reply.text
        return reply


@pytest.fixture
def world(
    start_meta: Callable[..., MetaProcesses], start_fleet: Callable[..., Fleet]
) -> Callable[..., World]:
    def make(dsn: str | None = None, processes: int = 1) -> World:
        meta = start_meta(dsn, processes)
        environ = {"FS9_META_ENDPOINTS": meta.url, "FS9_META_KEY": META_KEY}
        return World(meta, start_fleet(workers=2, yaml=_YAML, environ=environ))

    return make


def prepared(world: World) -> tuple[str, str]:
    """The user, and a token of theirs."""
    world.service("POST", "/namespaces", {"name": "acme"})
    for path, provider in (("/", "memfs"), ("/kv", "kvfs")):
        world.service("POST", "/namespaces/acme/mounts", {"path": path, "provider": provider})
    user = world.service("POST", "/users", {"username": "alice"})["id"]
    return user, world.token(user)


def test_namespaces_users_and_an_outage(
    world: Callable[..., World], metadata: dict[str, str]
) -> None:
    """A file server goes on while the service is killed and restarted; on either database."""
    w = world(metadata.get("FS9_META_DSN"))
    user, token = prepared(w)
    asyncio.run(first_requests(w, token))
    mounts = {each["path"] for each in w.get(token, "/mounts").json()}
    assert mounts == {"/", "/kv"}
    assert w.get(token, "/upload?path=/a", method="PUT", content=b"x").status_code < 300
    new = w.get(token, "/auth/refresh", method="POST").json()
    assert w.get(new["token"], "/stat?path=/a").status_code == 200
    key = w.service("POST", "/apikeys", {"namespace": "acme", "name": "ci"})
    assert w.get(key["key"], "/stat?path=/a").status_code == 200
    assert META_SECRET not in w.fleet.log.read_text()

    never_seen = w.token(user)
    w.meta.kill()
    assert w.get(token, "/stat?path=/a").status_code == 200, "one that is remembered goes on"
    refused = w.get(never_seen, "/stat?path=/a")
    assert refused.status_code == 503, refused.text
    refused = w.get(token, "/auth/refresh", method="POST")
    assert refused.status_code == 503, "nothing is signed here"
    w.meta.start()
    w.wait_for(never_seen, "/stat?path=/a", 200)

    w.service("DELETE", f"/apikeys/{key['id']}")
    w.wait_for(key["key"], "/stat?path=/a", 401)
    w.service("PUT", "/namespaces/acme/status", {"status": "suspended"})
    assert w.wait_for(token, "/stat?path=/a", 403).json()["error"] == "Namespace is not active"
    w.service("PUT", "/namespaces/acme/status", {"status": "active"})
    w.wait_for(token, "/mounts", 200)
    w.service("DELETE", f"/users/{user}")
    w.wait_for(token, "/mounts", 401)
    other = w.token(w.service("POST", "/users", {"username": "bob"})["id"])
    assert w.get(other, "/mounts").status_code == 200
    w.meta.kill()
    assert w.get(token, "/mounts").status_code == 401, "revoked stays revoked"
    assert w.get(new["token"], "/mounts").status_code == 401
    at_database(w.meta.dsn, suspend)
    w.meta.start()
    w.wait_for(other, "/mounts", 403)
    w.service("PUT", "/namespaces/acme/status", {"status": "active"})
    w.wait_for(other, "/mounts", 200)


async def suspend(service: Administration) -> None:
    """While nobody could be told of it."""
    names = {"ns": "acme"}
    await service.call("PUT", "/api/v1/namespaces/{ns}/status", names, body={"status": "suspended"})


async def first_requests(w: World, token: str) -> None:
    """Many at the same time, of a namespace that is not loaded: all succeed (W-C19)."""
    headers = {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(timeout=_PATIENCE_S, headers=headers) as http:
        url = f"{w.fleet.url}/api/v1/stat?path=/"
        replies = await asyncio.gather(*(http.get(url) for _ in range(40)))
    assert {reply.status_code for reply in replies} == {200}


def test_a_start_while_the_service_hangs(
    start_meta: Callable[..., MetaProcesses], start_fleet: Callable[..., Fleet]
) -> None:
    """The server is up at once, not ready, and lets nobody in; then the service answers."""
    resilience = "{try_timeout_secs: 50, total_timeout_secs: 50, recovery_timeout_secs: 0.5}"
    yaml = f"""
server:
  meta_resilience: {resilience}
  request_timeout_secs: 60
mounts: [{{path: /, provider: memfs}}]
"""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):  # says nothing
        environ = {"FS9_META_ENDPOINTS": f"http://127.0.0.1:{port}", "FS9_META_KEY": META_KEY}
        # Which waits for less long than a call of the service may take.
        fleet = start_fleet(workers=2, yaml=yaml, environ=environ)

        def ask(path: str, **more: Any) -> httpx2.Response:
            return httpx2.get(f"{fleet.url}{path}", timeout=_PATIENCE_S, **more)

        assert [ask(path).status_code for path in ("/health", "/livez")] == [200, 200]
        unready = ask("/readyz")
        assert (unready.status_code, "meta" in unready.json()["error"]) == (503, True)
        claims = {"sub": "a", "ns": "default", "roles": [], "iat": 1, "exp": 4_000_000_000}
        headers = {"authorization": f"Bearer {sign(claims, META_SECRET)}"}
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.get(f"{fleet.url}/api/v1/stat?path=/", headers=headers, timeout=0.5)
    refused = ask("/api/v1/stat?path=/", headers=headers)
    assert refused.status_code == 503, refused.text
    start_meta(port=port)
    end_s = time.monotonic() + _PATIENCE_S
    for path in ("/readyz", "/api/v1/stat?path=/"):  # with the mounts that are given to it now
        while (answer := ask(path, headers=headers)).status_code != 200:
            assert time.monotonic() < end_s, answer.text


def test_nothing_goes_on_without_its_parent(start_meta: Callable[..., MetaProcesses]) -> None:
    """The address is free for who is started next."""
    meta = start_meta(processes=2)
    meta.kill_parent()
    end_s = time.monotonic() + _PATIENCE_S
    while listens(meta.port):
        assert time.monotonic() < end_s
    meta.start()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_service_on_postgres(world: Callable[..., World], postgres_dsn: str) -> None:
    """The same calls; and it stops gracefully."""
    w = world(postgres_dsn, processes=2)
    user, token = prepared(w)
    assert w.get(token, "/stat?path=/").status_code == 200
    w.service("PUT", f"/users/{user}/status", {"status": "suspended"})
    w.wait_for(token, "/stat?path=/", 401)
    since_s = time.monotonic()
    assert w.meta.stop(signal.SIGTERM) == 0
    assert time.monotonic() - since_s < _WAIT_S, "who waits for changes is let go"
