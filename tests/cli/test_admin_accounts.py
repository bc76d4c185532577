"""`fs9 admin users`, `roles` and `keys`, in a database and at a metadata service."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import sys
import threading

import pytest
import uvicorn

from fs9.auth.judge import Judge
from fs9.cli.main import main
from fs9.clock import SystemClock
from fs9.meta.app import MetaApplication
from fs9.meta.issuing import Issuer
from fs9.meta.passwords import Passwords
from fs9.meta.service import MetaService
from fs9.meta.sqlite import SqliteStore
from fs9.threads import BlockingPool
from tests.cli.test_admin import VARIABLES
from tests.fix_http import SECRET

#: With a letter that is not ASCII: its bytes are sent as they are.
KEY = "an admin key of the tests, ü"


class MetaServer:
    """The metadata service on a real socket, in a thread of this process."""

    def __init__(self, path):
        self._path = path
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._started.wait(30)

    async def _serve(self):
        pool, clock = BlockingPool(2), SystemClock()
        store = await SqliteStore.open(self._path, clock, pool)
        service = MetaService(store, Passwords(pool), clock)

        async def start():
            return service, Issuer(service, Judge(SECRET, store, clock))

        async def stop():
            await store.aclose()
            pool.shutdown()

        app = MetaApplication(KEY, start, stop).app
        self._server = _Announced(uvicorn.Config(app, log_level="warning"), self._started)
        await self._server.serve([self._socket])

    def stop(self):
        self._server.should_exit = True
        self._thread.join(30)
        self._socket.close()


class _Announced(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config, listening):
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self._listening.set()


def make_database(path):
    async def run():
        pool = BlockingPool(1)
        store = await SqliteStore.open(path, SystemClock(), pool)
        await store.create_namespace("acme", "tests", ())
        await store.aclose()
        pool.shutdown()

    asyncio.run(run())


def asked(path, question):
    """What `question` of the database comes to."""

    async def run():
        pool = BlockingPool(2)
        store = await SqliteStore.open(path, SystemClock(), pool)
        try:
            return await question(store, pool)
        finally:
            await store.aclose()
            pool.shutdown()

    return asyncio.run(run())


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "data" / "meta.db"
    path.parent.mkdir()
    make_database(path)
    return path


@pytest.fixture(params=["database", "service"])
def where(request, database, monkeypatch):
    """The options for both ways to the same rules."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    if request.param == "database":
        yield ["--data-dir", str(database.parent)]
        return
    server = MetaServer(database)
    monkeypatch.setenv("FS9_META_KEY", KEY)
    yield ["--meta", server.url]
    server.stop()


@pytest.fixture
def run(where, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = main(["admin", *arguments, *where])
        out, err = capsys.readouterr()
        return code, out, err

    def data(*arguments, stdin=""):
        code, out, err = run(*arguments, "--json", stdin=stdin)
        assert (code, err) == (0, "")
        return json.loads(out)

    run.data = data
    return run


def test_users_come_and_go(run, database):
    """By name and by id; whoever is suspended or deleted loses it by a revocation."""
    made = run.data(
        "users", "create", "ann", "--email", "a@b.c", "--password-file", "-", stdin="pw\n"
    )
    assert (made["username"], made["email"], made["status"]) == ("ann", "a@b.c", "active")
    code, _, err = run("users", "create", "ann")
    assert (code, err) == (1, "Error: User 'ann' already exists\n")
    run.data("users", "create", "bob", "-n", "acme", "-r", "admin")
    assert [each["username"] for each in run.data("users", "list")] == ["ann", "bob"]
    code, out, _ = run("users", "list")
    assert out.splitlines()[0].split() == ["USER", "STATUS", "EMAIL", "CREATED", "ID"]
    assert "bob   active  -" in out
    bob = run.data("users", "get", "bob")
    assert [(each["namespace"], each["role"]) for each in bob["roles"]] == [("acme", "admin")]
    assert "acme: admin" in run("users", "get", bob["id"])[1]
    assert run.data("users", "suspend", "bob")["status"] == "suspended"
    assert run.data("users", "get", "bob")["status"] == "suspended"
    assert run.data("users", "activate", bob["id"])["status"] == "active"
    assert run("users", "delete", "bob")[1] == "✓ User bob is deleted\n"
    for name in ("bob", "a/b", "a b"):
        code, _, err = run("users", "get", name)
        assert (code, err) == (1, f"Error: User '{name}' not found\n")

    async def revoked(store, pool):
        return {(each.kind, each.subject) for each in (await store.changes_since(0)).revocations}

    assert {("user", "bob"), ("user", bob["id"])} <= asked(database, revoked)
    assert run("users", "create", "carol", "-n", "nowhere")[0] == 1
    assert [each["username"] for each in run.data("users", "list")] == ["ann"]


def test_a_password_is_replaced(run, database):
    """It is told by the standard input; what was issued before holds no more."""
    run.data("users", "create", "ann", "--password-file", "-", stdin="old\n")
    code, out, _ = run("users", "password", "ann", "--password-file", "-", stdin="new\n")
    assert (code, out) == (0, "✓ The password of ann is changed\n")

    async def fit(store, pool):
        service = MetaService(store, Passwords(pool), SystemClock())
        fits = [await service.password_fits("ann", word) for word in ("old", "new")]
        revoked = {each.subject for each in (await store.changes_since(0)).revocations}
        return fits, "ann" in revoked

    assert asked(database, fit) == ([False, True], True)
    assert run("users", "password", "nobody", "--password-file", "-", stdin="x\n")[0] == 1


def test_roles_are_granted_and_withdrawn(run):
    run.data("users", "create", "ann")
    code, out, _ = run("roles", "grant", "ann", "-n", "acme", "-r", "operator")
    assert (code, out) == (0, "✓ ann has role operator (namespace: acme)\n")
    assert run("roles", "grant", "ann", "-n", "acme", "-r", "operator")[0] == 1
    assert run("roles", "grant", "ann", "-n", "nowhere", "-r", "operator")[0] == 1
    listed = run.data("roles", "list", "ann")
    assert [(each["namespace"], each["role"]) for each in listed] == [("acme", "operator")]
    assert "acme       operator" in run("roles", "list", "ann")[1]
    assert run.data("roles", "withdraw", "ann", "-n", "acme", "-r", "operator")["granted"] is False
    assert run.data("roles", "list", "ann") == []
    assert run("roles", "withdraw", "ann", "-n", "acme", "-r", "operator")[0] == 1


def test_a_key_is_shown_once(run):
    """When it is made; a list shows the rest of it."""
    made = run.data("keys", "create", "ci", "-n", "acme", "-r", "read-only", "--days", "30")
    assert made["key"].startswith("fs9_")
    assert made["roles"] == ["read-only"]
    alone = run("keys", "create", "cd", "-n", "acme", "-q")[1].strip()
    assert run("keys", "create", "cx", "-n", "acme")[1].count("fs9_") == 1
    listed = run.data("keys", "list", "-n", "acme")
    assert sorted(each["name"] for each in listed) == ["cd", "ci", "cx"]
    text = run("keys", "list")[1]
    assert not any(key in text or key in json.dumps(listed) for key in (made["key"], alone))
    assert run.data("keys", "revoke", made["id"]) == {"revoked": "key", "id": made["id"]}
    assert [each["revoked"] for each in run.data("keys", "list") if each["name"] == "ci"] == [True]
    assert run("keys", "revoke", "nothing")[0] == 1
    assert run("keys", "create", "no", "-n", "nowhere")[0] == 1


def test_a_wrong_key_and_no_database_are_told(run, where, tmp_path, capsys, monkeypatch):
    """Without making anything."""
    if where[0] == "--meta":
        monkeypatch.setenv("FS9_META_KEY", "wrong")
        code, _, err = run("users", "list")
        assert code == 1
        assert err.startswith(f"Error: {where[1]} refuses our key ")
        assert "wrong" not in err
        return
    assert main(["admin", "users", "list", "--data-dir", str(tmp_path / "none")]) == 1
    assert "there is no metadata" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert main(["admin", "users", "list", "--dsn", "mysql://u:p4ss@h/d"]) == 2
    err = capsys.readouterr().err
    assert "sqlite:PATH" in err
    assert "p4ss" not in err
