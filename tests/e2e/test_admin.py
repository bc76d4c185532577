"""`fs9 admin` and `fs9-admin` against a running fleet with a secret."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from fs9.auth.tokens import sign
from tests.e2e.conftest import DATABASES, meta_environ, new_name
from tests.fix_fleet import SECRET, Fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROGRAMS = {"fs9 admin": ["fs9.cli.main", "admin"], "fs9-admin": ["fs9.cli.admin"]}
#: Until what was changed in the database is known to every worker.
_HEARD_S = 60
_YAML = """
namespace_template:
- {path: /, provider: memfs}
"""


class Admin:
    """One of the two names of the program, at home in a directory."""

    def __init__(self, name: str, home: Path, url: str) -> None:
        self._command = [sys.executable, "-m", *PROGRAMS[name]]
        kept = {each: os.environ[each] for each in ("PATH", "LANG") if each in os.environ}
        self._environ = kept | {"HOME": str(home), "FS9_SERVER_ENDPOINTS": url}

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *arguments],
            input=stdin,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._command, *arguments], stdout=subprocess.PIPE, env=self._environ, text=True
        )

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """The output of a command that must succeed."""
        done = self.run(*arguments, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def data(self, *arguments: str, stdin: str = "") -> Any:
        return json.loads(self(*arguments, "--json", stdin=stdin))


@pytest.fixture(scope="module", params=DATABASES)
def database(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of the fleet, and of commands that change its database themselves."""
    return meta_environ(request, request.param)


@pytest.fixture(scope="module")
def administered(
    database: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("admin")
    environ = {"FS9_JWT_SECRET": SECRET} | database
    fleet = Fleet(directory, workers=2, yaml=_YAML, environ=environ)
    yield fleet
    status, log = fleet.stop(), fleet.log.read_text()
    assert status == 0
    assert "Traceback" not in log, log[-5000:]
    assert SECRET not in log


@pytest.fixture
def program() -> str:
    return "fs9-admin"


@pytest.fixture
def admin(program: str, administered: Fleet, tmp_path: Path) -> Admin:
    """It knows the secret, from its standard input."""
    made = Admin(program, tmp_path, administered.url)
    made("init", "-s", administered.url, "--secret-file", "-", stdin=f"{SECRET}\n")
    return made


@pytest.fixture
def name() -> str:
    """A namespace for this test under this name of the program."""
    return new_name()


def put(fleet: Fleet, token: str, path: str, data: bytes = b"x") -> int:
    """The status of an upload on a connection of its own."""
    headers = {"authorization": f"Bearer {token}"}
    url = f"{fleet.url}/api/v1/upload?path={path}"
    return httpx2.put(url, content=data, headers=headers, timeout=30).status_code


async def until(status: int, ask: Callable[[], int]) -> None:
    """Ask until the answer is this one."""
    async with asyncio.timeout(_HEARD_S):
        while ask() != status:  # noqa: ASYNC110  another process changes it
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_tenant_from_the_first_to_the_last_day(
    admin: Admin, administered: Fleet, name: str
) -> None:
    """A namespace, a token that holds in it, and its revocation."""
    assert "✓ Server is healthy\n" in admin("health")
    assert admin.data("whoami")["server_administrator"] is True
    assert f"✓ Created namespace: {name}\n" in admin("ns", "create", name)
    assert f"  • {name} (active)\n" in admin("ns", "list")
    assert "  / → memfs\n" in admin("mount", "list", "-n", name)
    token = admin("token", "generate", "-u", "ann", "-n", name, "-q").removesuffix("\n")
    assert put(administered, token, "/a") in {200, 201}
    reader = admin("token", "generate", "-u", "r", "-n", name, "-r", "read-only", "-q").strip()
    assert put(administered, reader, "/b") == 403
    assert admin("revoke", "user", "ann") == "✓ Revoked: user ann\n"
    # No waiting: the answer came when all workers knew.
    assert put(administered, token, "/c") == 401
    done = admin.run("ns", "get", "nowhere")
    assert (done.returncode, done.stderr) == (1, "Error: Namespace 'nowhere' not found\n")
    assert admin.run("mount", "add", "memfs").returncode == 2


def test_a_namespace_is_changed_and_ended(admin: Admin, administered: Fleet, name: str) -> None:
    """What it is made of, how much it may hold, whether anybody may in, and its end."""
    made = admin("ns", "create", name, "-m", "kvfs", "--set", "ttl_s=60")
    assert "✓ Mounted kvfs at /\n" in made
    assert "✓ Mounted pubsubfs at /ps" in admin("mount", "add", "pubsubfs", "-n", name, "-p", "/ps")
    assert admin.run(
        "mount", "add", "localfs", "-n", name, "-p", "/x", "--set", "root=/"
    ).returncode
    assert "  /ps → pubsubfs\n" in admin("mount", "list", "-n", name)
    assert "✓ Unmounted /ps" in admin("mount", "remove", "/ps", "-n", name)
    token = admin("token", "generate", "-u", "ann", "-n", name, "-q").strip()
    assert put(administered, token, "/a") == 200
    assert "1" in admin("quotas", "set", name, "--files", "1")
    assert put(administered, token, "/b") == 507
    admin("quotas", "set", name, "--files", "default")
    admin("ns", "suspend", name)
    assert put(administered, token, "/a") == 403
    admin("ns", "activate", name)
    assert put(administered, token, "/a") == 200
    assert f"✓ Purged namespace: {name}\n" in admin("ns", "purge", name, "-f")
    assert put(administered, token, "/a") == 403


async def test_users_and_keys_of_a_server_that_runs(
    admin: Admin, administered: Fleet, database: dict[str, str], name: str
) -> None:
    """In its database: a key holds until it is revoked, a user's token until they are suspended."""
    dsn = database.get("FS9_META_DSN")
    where = ("--dsn", dsn) if dsn else ("--data-dir", str(administered.data_dir))
    admin("ns", "create", name)
    made = admin.data("keys", "create", "ci", "-n", name, "-r", "read-write", *where)
    assert put(administered, made["key"], "/a") in {200, 201}
    assert admin("keys", "revoke", made["id"], *where) == f"✓ Revoked: key {made['id']}\n"
    await until(401, lambda: put(administered, made["key"], "/b"))
    user = admin.data("users", "create", f"{name}-ann", "-n", name, "-r", "read-write", *where)
    claims = {"sub": user["id"], "ns": name, "roles": ["read-write"]}
    now_s = int(time.time())
    token = sign(claims | {"iat": now_s, "exp": now_s + 600}, SECRET)
    assert put(administered, token, "/c") in {200, 201}
    admin("users", "suspend", f"{name}-ann", *where)
    await until(401, lambda: put(administered, token, "/d"))


def test_the_trail_is_shown_and_whole(admin: Admin, administered: Fleet, name: str) -> None:
    """Events of users, refusals too; the chain is checked, and what was noted is found again."""
    admin("ns", "create", name)
    token = admin("token", "generate", "-u", "ann", "-n", name, "-q").strip()
    reader = admin("token", "generate", "-u", "bob", "-n", name, "-r", "read-only", "-q").strip()
    assert put(administered, token, "/a") in {200, 201}
    assert put(administered, reader, "/b") == 403
    events = admin.data("events", "list", "-n", name, "--since", "1h")
    told = {(each["event_type"], each["path"], each["user"], each["outcome"]) for each in events}
    assert ("upload", "/a", "ann", "ok") in told
    assert any(user == "bob" and outcome != "ok" for _, _, user, outcome in told), told
    assert "upload" in admin("events", "list", "-n", name, "--outcome", "ok")
    whole = admin.data("events", "verify", "-n", name)
    assert (whole["whole"], whole["first"], whole["broken_at"]) == (True, 1, None)
    assert admin("events", "verify", "-n", name, "--noted", whole["tip"]).startswith("✓ The chain")
    count, _, digest = whole["tip"].partition(":")
    other = f"{count}:{'0' * len(digest)}"
    done = admin.run("events", "verify", "-n", name, "--noted", other)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Error: the chain is broken at event {count}: " in done.stderr


def test_events_are_followed(admin: Admin, administered: Fleet, name: str) -> None:
    """As they happen, one JSON object a line; Ctrl-C ends it."""
    admin("ns", "create", name)
    token = admin("token", "generate", "-u", "ann", "-n", name, "-q").strip()
    assert put(administered, token, "/before") in {200, 201}
    follower = admin.start("events", "follow", "-n", name, "--json", "-p", "/after")
    seen = threading.Event()
    try:
        assert follower.stdout is not None

        def change() -> None:
            number = 0
            while not seen.wait(0.5):  # until the follower is there
                put(administered, token, f"/after{number}")
                number += 1

        changing = threading.Thread(target=change)
        changing.start()
        line = follower.stdout.readline()
        seen.set()
        changing.join()
        event = json.loads(line)
        assert event["path"].startswith("/after")
        assert event["user"] == "ann"
        follower.send_signal(signal.SIGINT)
        assert follower.wait(60) == 130
    finally:
        seen.set()
        follower.kill()
        follower.communicate()
