"""Every route, asked by every kind of caller: the answers are those of `tests.e2e.auth_table`."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import itertools
import json
import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from fs9.auth.tokens import sign
from fs9.clock import SystemClock
from fs9.config.settings import Settings
from fs9.meta.models import Revocation
from fs9.meta.open import open_store
from fs9.threads import BlockingPool
from fs9.types import MountSpec
from fs9.wire.routes import BY_NAME, ROUTES
from tests.e2e.auth_table import NEEDS, OUTCOMES, Need
from tests.e2e.conftest import meta_environ
from tests.fix_fleet import SECRET, Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fs9.meta.sql.store import SqlStore
    from fs9.wire.route import Route

_YAML = """
mounts: &mounts
- {path: /, provider: memfs}
- {path: /in, provider: memfs}
- {path: /in/logs, provider: streamfs}
- {path: /out, provider: memfs}
- {path: /out/logs, provider: streamfs}
namespace_template: *mounts
server:
  plugins: {api: true, directories: [PLUGINS]}
  limits: {max_failed_credentials_per_minute: 1000000}
"""
_MOUNTS = (
    MountSpec("/", "memfs"),
    *(MountSpec(path, "memfs") for path in ("/in", "/out")),
    *(MountSpec(path, "streamfs") for path in ("/in/logs", "/out/logs")),
)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_NOW_S = int(time.time())
#: Both lanes and both databases, in as few fleets.
_FLEETS = {"fast lane, sqlite": ("true", "sqlite"), "web lane, postgres": ("false", "postgres")}

_numbers = itertools.count()

#: Status and body.
Answer = tuple[int, bytes]


class Caller:
    """What one caller sends, and where: the tenant of the path, the directory they ask about.

    `user` is the caller's name where the credential is one that holds.
    """

    def __init__(
        self,
        credential: str | None,
        namespace: str = "tenant",
        *,
        user: str = "ann",
        prefix: str = "",
        place: str = "/in",
    ) -> None:
        self.headers = {} if credential is None else {"Authorization": credential}
        self.namespace = namespace
        #: Where the files are made that the caller asks for.
        self.home = namespace if namespace in {"tenant", "default"} else "tenant"
        self.user = user
        self.prefix = prefix
        self.place = place


def token(secret: str = SECRET, **claims: Any) -> str:
    held = {"sub": "ann", "ns": "tenant", "roles": ["read-write"], "iat": 1, "exp": 2**32}
    return f"Bearer {sign(held | claims, secret)}"


def key(name: str) -> str:
    return f"fs9_{hashlib.sha256(name.encode()).hexdigest()}"


_REVOKED = token(jti="revoked", roles=["admin"], ns="tenant")
_READING: dict[str, Any] = {"mounts": ["/in"], "permissions": ["list", "read"]}

CALLERS: dict[str, Caller] = {
    "no-token": Caller(None),
    "other-scheme": Caller("Basic YW5uOmFubg=="),
    "garbage": Caller("Bearer a.b.c"),
    "other-secret": Caller(token("another secret of more than thirty-two bytes", roles=["admin"])),
    "expired": Caller(token(exp=_NOW_S - 600)),
    "expired-long-ago": Caller(token(exp=_NOW_S - 86_400)),
    "not-yet": Caller(token(nbf=2**31)),
    "unknown-namespace": Caller(token(ns="nowhere", roles=["admin"]), "nowhere"),
    "foreign-prefix": Caller(token(roles=["admin"]), prefix="/default"),
    "no-roles": Caller(token(roles=[])),
    "unknown-role": Caller(token(roles=["root"])),
    "read-only": Caller(token(roles=["read-only"])),
    "read-write": Caller(token()),
    "operator": Caller(token(roles=["operator"])),
    "admin": Caller(token(roles=["admin"]), prefix="/tenant"),
    "server-operator": Caller(token(ns="default", roles=["operator"]), "default"),
    "server-admin": Caller(token(ns="default", roles=["admin"]), "default"),
    "narrowed-to-reading": Caller(token(**_READING)),
    "narrowed-elsewhere": Caller(token(**_READING), place="/out"),
    "narrowed-admin": Caller(token(mounts=["/in"], roles=["admin"])),
    "narrowed-server-admin": Caller(
        token(mounts=["/in"], ns="default", roles=["admin"]), "default"
    ),
    "revoked": Caller(_REVOKED),
    "revoked-user": Caller(token(sub="mallory", iat=_NOW_S - 60)),
    "suspended-namespace": Caller(token(ns="closed", roles=["admin"]), "closed"),
    "suspended-user": Caller(token(sub="sleepy")),
    "key": Caller(f"Bearer {key('good')}", user="keeper"),
    "read-only-key": Caller(f"Bearer {key('reading')}", user="keeper"),
    "unknown-key": Caller(f"Bearer {key('unknown')}"),
    "expired-key": Caller(f"Bearer {key('expired')}"),
    "revoked-key": Caller(f"Bearer {key('revoked')}"),
    "key-of-suspended-user": Caller(f"Bearer {key('sleepy')}"),
}


async def _prepare(data_dir: Path, dsn: str | None) -> None:
    """Namespaces, users, keys and revocations, as they are when the fleet starts."""
    clock, pool = SystemClock(), BlockingPool(2)
    store = await open_store(Settings(data_dir=data_dir, meta_dsn=dsn), clock, pool)
    try:
        await _fill(store)
    finally:
        await store.aclose()
        pool.shutdown()


async def _fill(store: SqlStore) -> None:
    for name in ("tenant", "closed"):
        await store.create_namespace(name, "test", _MOUNTS)
    await store.set_status("closed", "suspended", "test")
    keeper = await store.create_user("keeper", password_hash=None, email=None)
    sleepy = await store.create_user("sleepy", password_hash=None, email=None)
    keys = {"good": ["read-write"], "reading": ["read-only"], "expired": [], "revoked": []}
    for name, roles in keys.items():
        expires_at_s = 1_700_000_000 if name == "expired" else None
        digest = hashlib.sha256(key(name).encode()).hexdigest()
        made = await store.create_api_key(keeper.id, "tenant", name, roles, digest, expires_at_s)
        if name == "revoked":
            await store.revoke_api_key(made.id)
    digest = hashlib.sha256(key("sleepy").encode()).hexdigest()
    await store.create_api_key(sleepy.id, "tenant", "sleepy", ["admin"], digest, None)
    await store.set_user_status(sleepy.id, "suspended")
    times: dict[str, Any] = {"expires_at_s": 2**33, "created_at_s": _NOW_S, "created_by": "test"}
    await store.revoke(
        [
            Revocation("jti", "revoked", "tenant", **times),
            Revocation("user", "mallory", "tenant", issued_until_s=_NOW_S, **times),
            Revocation("user", "sleepy", None, **times),
        ]
    )


class World:
    """The fleet, with a keep-alive connection for each caller and one for each namespace's root."""

    def __init__(self, fleet: Fleet) -> None:
        self._port = fleet.port
        self._connections: dict[str, http.client.HTTPConnection] = {}

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    def ask(
        self,
        who: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes | None = None,
    ) -> Answer:
        connection = self._connections.get(who)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            self._connections[who] = connection
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def as_root(
        self, namespace: str, method: str, path: str, body: Any = None, *, user: str = "root"
    ) -> Answer:
        """By a token that may everything in the namespace."""
        headers = {"Authorization": token(ns=namespace, sub=user, roles=["admin"])}
        if body is not None and not isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
            body = json.dumps(body).encode()
        return self.ask(f"root of {namespace}", method, f"/api/v1{path}", headers, body)

    def send(self, name: str, method: str, path: str, need: Need, words: dict[str, str]) -> Answer:
        """The request of the table, as the caller sends it."""
        caller = CALLERS[name]
        headers = dict(caller.headers)
        body = need.data
        if need.json is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(_filled(need.json, words)).encode()
        query = urlencode(_filled(need.query, words))
        return self.ask(name, method, f"{path}?{query}" if query else path, headers, body)

    def put_in_place(self, caller: Caller, need: Need) -> dict[str, str]:
        """What this request is about: files of its own, and an open one."""
        number = next(_numbers)
        place, home = caller.place, caller.home
        words = {
            "dir": place,
            "file": f"{place}/file-{number}",
            "new": f"{place}/new-{number}",
            "log": f"{place}/logs/log",
            "ns": caller.namespace,
            "n": str(number),
        }
        wanted = json.dumps([need.query, need.json])
        if "{file}" in wanted or "{handle}" in wanted:
            status, _ = self.as_root(home, "PUT", f"/upload?path={words['file']}", b"first")
            assert status == 200
        if "{handle}" in wanted:
            flags = {"read": True, "write": True}
            opened = {"path": words["file"], "flags": flags}
            status, body = self.as_root(home, "POST", "/open", opened, user=caller.user)
            assert status == 200
            words["handle"] = json.loads(body)["handle_id"]
        return words

    def seen(self, caller: Caller, words: dict[str, str]) -> list[Answer]:
        """What root sees at the paths of a request: what a refused change must not change."""
        return [
            self.as_root(caller.home, "GET", f"/{route}?path={words[place]}")
            for place in ("file", "new")
            for route in ("stat", "download")
        ]


def _filled(value: Any, words: dict[str, str]) -> Any:
    if isinstance(value, str):
        return value.format(**words)
    if isinstance(value, dict):
        return {name: _filled(each, words) for name, each in value.items()}
    return value


@pytest.fixture(scope="module", params=_FLEETS)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("matrix")
    (directory / "plugins").mkdir()
    (directory / "data").mkdir()
    fast_lane, database = _FLEETS[request.param]
    environ = meta_environ(request, database)
    asyncio.run(_prepare(directory / "data", environ.get("FS9_META_DSN")))
    yaml = _YAML.replace("PLUGINS", os.fspath(directory / "plugins"))
    environ |= {"FS9_JWT_SECRET": SECRET, "FS9_FAST_LANE": fast_lane}
    fleet = Fleet(directory, workers=2, yaml=yaml, environ=environ)
    made = World(fleet)
    try:
        for namespace, place in itertools.product(("tenant", "default"), ("/in", "/out")):
            log = f"/upload?path={place}/logs/log"
            assert made.as_root(namespace, "PUT", log, b"message")[0] == 200
        yield made
    finally:
        made.close()
        status = fleet.stop()
    log = fleet.log.read_text()
    assert status == 0
    assert "Traceback" not in log, log[-5000:]


def test_the_table_is_complete() -> None:
    """Each route has a line, no line is of no route; each caller has a row."""
    assert set(NEEDS) == set(BY_NAME), "give every route an entry in tests/e2e/auth_table.py"
    assert set(OUTCOMES) == set(CALLERS)


def _expected(route: Route, caller: str) -> tuple[int, str] | None:
    need = NEEDS[route.name]
    if caller in need.but:
        return need.but[caller]
    if not need.hides and caller == "narrowed-elsewhere":
        return None
    return OUTCOMES[caller][need.need]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_each_caller_gets_what_the_table_says(world: World, route: Route) -> None:
    """The status and kind of the refusal, or the success; a refused change changes nothing."""
    need = NEEDS[route.name]
    wrong: list[tuple[str, object, object, bytes]] = []
    for name, caller in CALLERS.items():
        expected = _expected(route, name)
        words = world.put_in_place(caller, need)
        path = route.path.replace("{ns}", caller.namespace)
        if route.prefixed:
            path = f"{caller.prefix}/api/v1{path}"
        elif caller.prefix:
            continue  # there is no such path with a prefix
        watched = need.need == "change" and expected is not None
        before = world.seen(caller, words) if watched else []
        status, body = world.send(name, route.method, path, need, words)
        got = None if status == need.status else (status, json.loads(body).get("kind"))
        if got != expected:
            wrong.append((name, got, expected, body[:200]))
        if watched and world.seen(caller, words) != before:
            wrong.append((name, "changed something", expected, body[:200]))
    assert not wrong, "\n".join(map(str, wrong))


def test_a_handle_is_its_users_alone(world: World) -> None:
    """Whatever roles another user of the namespace has, and whatever the handle is used for."""
    caller = CALLERS["admin"]
    for name in ("read", "write", "close"):
        need = NEEDS[name]
        words = world.put_in_place(Caller(None, user="bob"), need)
        status, body = world.send("admin", "POST", f"/api/v1/{name}", need, words)
        assert (status, json.loads(body)["kind"]) == (400, "InvalidHandle")
        words = world.put_in_place(caller, need)
        assert world.send("admin", "POST", f"/api/v1/{name}", need, words)[0] == need.status


def test_no_method_of_any_path_is_a_way_around(world: World) -> None:
    """Methods that a path does not have are 405 for who holds a token, else what a route says."""
    methods: dict[str, set[str]] = {}
    is_open = {route.path for route in ROUTES if NEEDS[route.name].need == "open"}
    for route in ROUTES:
        path = f"/api/v1{route.path}" if route.prefixed else route.path
        methods.setdefault(path, set()).add(route.method)
    wrong = []
    expected = {"no-token": 401, "expired": 401, "revoked": 401, "key-of-suspended-user": 401}
    for path, known in methods.items():
        for method in _METHODS:
            if method in known or (method == "HEAD" and "GET" in known):
                continue
            for who, status in {**expected, "server-admin": 405, "read-only": 405}.items():
                headers = CALLERS[who].headers
                wanted = 405 if path in is_open else status
                answer, _ = world.ask(who, method, path.replace("{ns}", "tenant"), headers)
                if answer != wanted:
                    wrong.append((method, path, who, answer, wanted))
    assert not wrong, "\n".join(map(str, wrong))
