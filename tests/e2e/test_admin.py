"""`fs9 admin` and `fs9-admin` against a running fleet with a secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from fs9.auth.tokens import sign
from tests.e2e.conftest import new_name
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

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """The output of a command that must succeed."""
        done = self.run(*arguments, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def data(self, *arguments: str, stdin: str = "") -> Any:
        return json.loads(self(*arguments, "--json", stdin=stdin))


@pytest.fixture(scope="module")
def administered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(
        tmp_path_factory.mktemp("admin"),
        workers=2,
        yaml=_YAML,
        environ={"FS9_JWT_SECRET": SECRET},
    )
    yield fleet
    status, log = fleet.stop(), fleet.log.read_text()
    assert status == 0
    assert "Traceback" not in log, log[-5000:]
    assert SECRET not in log


@pytest.fixture(params=list(PROGRAMS))
def admin(request: pytest.FixtureRequest, administered: Fleet, tmp_path: Path) -> Admin:
    """It knows the secret, from its standard input."""
    made = Admin(request.param, tmp_path, administered.url)
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


def until(status: int, ask: Callable[[], int]) -> None:
    """Ask until the answer is this one."""
    end_s = time.monotonic() + _HEARD_S
    while (answer := ask()) != status:
        assert time.monotonic() < end_s, answer
        time.sleep(0.1)


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


def test_users_and_keys_of_a_server_that_runs(admin: Admin, administered: Fleet, name: str) -> None:
    """In its database: a key holds until it is revoked, a user's token until they are suspended."""
    where = ("--data-dir", str(administered.data_dir))
    admin("ns", "create", name)
    made = admin.data("keys", "create", "ci", "-n", name, "-r", "read-write", *where)
    assert put(administered, made["key"], "/a") in {200, 201}
    assert admin("keys", "revoke", made["id"], *where) == f"✓ Revoked: key {made['id']}\n"
    until(401, lambda: put(administered, made["key"], "/b"))
    user = admin.data("users", "create", f"{name}-ann", "-n", name, "-r", "read-write", *where)
    claims = {"sub": user["id"], "ns": name, "roles": ["read-write"]}
    now_s = int(time.time())
    token = sign(claims | {"iat": now_s, "exp": now_s + 600}, SECRET)
    assert put(administered, token, "/c") in {200, 201}
    admin("users", "suspend", f"{name}-ann", *where)
    until(401, lambda: put(administered, token, "/d"))
