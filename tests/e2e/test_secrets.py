"""Secrets are in no log, error, metric, event, printed setting or command line, whatever fails."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from fs9.auth.tokens import sign
from fs9.config.masking import MASK
from fs9.meta.administration import Administration, at_database
from tests.fix_meta import META_KEY, META_SECRET
from tests.fix_postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fix_fleet import Fleet
    from tests.fix_meta import MetaProcesses

_YAML = """
mounts:
- {path: /, provider: memfs}
- path: /far
  provider: proxyfs
  config: {upstream: "http://127.0.0.1:1/", token: "ProxyTokenOfTheTests-0987654321"}
server:
  auth: {previous_secrets: ["FormerSecretOfTheTests-0123456789-abcdef"]}
logging: {level: debug, access: true}
meta: {timeout_secs: 2}
"""
JWT_SECRET = "JwtSecretOfTheTests-0123456789-abcdefghijkl"
FORMER_SECRET = "FormerSecretOfTheTests-0123456789-abcdef"
PROXY_TOKEN = "ProxyTokenOfTheTests-0987654321"
DSN_PASSWORD = "DsnPasswordOfTheTests-13579"


class Ears:
    """All that was said, to be searched for what must not be."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.heard: list[tuple[str, str]] = []

    def hear(self, where: str, text: str) -> None:
        self.heard.append((where, text))

    def ask(
        self,
        method: str,
        path: str,
        token: str | None = None,
        *,
        headers: dict[str, str] | None = None,
        **body: Any,
    ) -> int:
        """A request; what came back is heard, but for tokens that are the answer itself."""
        sent = {"authorization": f"Bearer {token}"} if token else {}
        url = f"{self._url}{path}"
        answer = httpx2.request(method, url, headers=sent | (headers or {}), timeout=60, **body)
        if not (path.endswith("/auth/refresh") and answer.status_code == 200):
            self.hear(f"{method} {path}", f"{answer.headers}\n{answer.text}")
        return answer.status_code

    def say(self, data: bytes) -> None:
        """What may be no HTTP."""
        host, _, port = self._url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        self.hear(repr(data[:20]), answer.decode("latin-1"))

    def check(self, secrets: dict[str, str]) -> None:
        told = [
            f"{name} in {where}"
            for where, text in self.heard
            for name, secret in secrets.items()
            if secret in text
        ]
        assert told == []


def command_lines() -> str:
    """Of every process of this host."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:  # it has ended meanwhile
            continue
    return "\n".join(found)


def made_token(**claims: object) -> str:
    now_s = int(time.time())
    held = {"sub": "ann", "ns": "default", "roles": ["admin"], "iat": now_s, "exp": now_s + 600}
    return sign(held | claims, JWT_SECRET)


def parts_of(token: str) -> dict[str, str]:
    """The whole, and the signature, which with the claims would be the whole again."""
    return {f"token {token[-6:]}": token, f"signature {token[-6:]}": token.rpartition(".")[2]}


async def _with_key(administration: Administration) -> str:
    body = {"namespace": "default", "name": "ci", "roles": ["read-write"]}
    made = await administration.call("POST", "/api/v1/apikeys", body=body)
    key: str = made["key"]
    return key


def provoke(ears: Ears, good: str, bad: str, key: str) -> None:
    """Errors of every sort, with credentials in all places where clients put them."""
    assert ears.ask("GET", "/api/v1/stat?path=/", good) == 200
    assert ears.ask("GET", "/api/v1/stat?path=/", key) == 200
    assert ears.ask("GET", "/api/v1/stat?path=/far/x", good) >= 500
    assert ears.ask("GET", "/api/v1/mounts", good) == 200
    for token in (bad, f"{key}x", f"{good}x", good[:-1]):
        assert ears.ask("GET", "/api/v1/stat?path=/", token) == 401
        assert ears.ask("POST", "/api/v1/auth/refresh", token) == 401
    for path in ("/none", f"/api/v1/stat?path=/&token={good}", f"/other/api/v1/stat?token={key}"):
        ears.ask("GET", path, good)
    assert ears.ask("POST", "/api/v1/auth/refresh", good) == 200
    for body in ('{"token":"', '{"token":1}', '{"token":null,"user":7}'):
        headers = {"content-type": "application/json"}
        ears.ask("POST", "/api/v1/auth/revoke", good, content=body + bad, headers=headers)
    assert ears.ask("POST", "/api/v1/auth/revoke", good, json={"token": bad}) == 204
    basic = {"authorization": f"Basic {good}"}
    ears.ask("GET", "/api/v1/stat?path=/", headers=basic)
    ears.say(f"GET /api/v1/stat HTTP/1.1\r\nAuthorization Bearer {good}\r\n\r\n".encode())
    head = f"Host: x\r\nAuthorization: Bearer {good}\r\nX: {'x' * 40_000}"
    ears.say(f"GET /api/v1/stat?path=/ HTTP/1.1\r\n{head}\r\n\r\n".encode())
    ears.say(f"Authorization: Bearer {good}\r\n\r\n".encode())
    assert ears.ask("GET", "/api/v1/events?outcome=all&details=1&limit=1000", good) == 200
    assert ears.ask("GET", "/metrics", good) == 200
    assert ears.ask("GET", "/readyz?verbose", good) in {200, 503}


def test_a_fleet_at_debug_level_tells_none(
    start_fleet: Callable[..., Fleet], postgres: PostgresServer
) -> None:
    """Keys, tokens, API keys, passwords, a mount's token; the database fails, too."""
    server = PostgresServer(postgres.programs)
    try:
        server.start()
        dsn = server.new_database().replace("postgres@", f"postgres:{DSN_PASSWORD}@")
        environ = {"FS9_JWT_SECRET": JWT_SECRET, "FS9_META_DSN": dsn, "FS9_LOG_LEVEL": "debug"}
        fleet = start_fleet(workers=2, yaml=_YAML, environ=environ)
        key = at_database(dsn, _with_key)
        good, bad = made_token(), made_token(exp=1)
        ears = Ears(fleet.url)
        provoke(ears, good, bad, key)
        ears.hear("the command lines", command_lines())
        server.stop("immediate")
        assert ears.ask("POST", "/api/v1/namespaces", good, json={"name": "new"}) >= 500
        ears.ask("GET", "/readyz?verbose", good)
        fleet.stop()
    finally:
        server.remove()
    log = fleet.log.read_text()
    assert "fs9.access" in log
    ears.hear("the log", log)
    ears.hear("fs9 config", configuration(fleet, environ))
    secrets = {
        "the secret": JWT_SECRET,
        "the former secret": FORMER_SECRET,
        "the mount's token": PROXY_TOKEN,
        "the database's password": DSN_PASSWORD,
        "the API key": key,
    }
    ears.check(secrets | parts_of(good) | parts_of(bad))


def configuration(fleet: Fleet, environ: dict[str, str]) -> str:
    """What `fs9 config` prints, as a table and as JSON."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    said = []
    for arguments in (["config"], ["config", "--json"]):
        command = [sys.executable, "-m", "fs9.cli.main", *arguments, "-c", str(fleet.config)]
        done = subprocess.run(
            command, env=kept | environ, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert MASK in done.stdout
        said.append(done.stdout + done.stderr)
    settings = json.loads(said[1].partition("\n\n")[0])["settings"]
    assert settings["server.auth.jwt_secret"]["value"] == MASK
    return "\n".join(said)


def test_a_metadata_service_tells_none(
    start_meta: Callable[..., MetaProcesses], start_fleet: Callable[..., Fleet], tmp_path: Path
) -> None:
    """Its admin key and secret, tokens, passwords; in its own log and its file server's."""
    meta = start_meta()
    password = "PasswordOfTheTests-24680"
    environ = {"FS9_META_ENDPOINTS": meta.url, "FS9_META_KEY": META_KEY, "FS9_LOG_LEVEL": "debug"}
    fleet = start_fleet(workers=1, environ=environ)
    headers = {"x-fs9-meta-key": META_KEY}

    def call(method: str, path: str, body: object) -> httpx2.Response:
        url = f"{meta.url}/api/v1{path}"
        return httpx2.request(method, url, json=body, headers=headers, timeout=60)

    call("POST", "/namespaces", {"name": "acme"})
    user = call("POST", "/users", {"username": "alice", "password": password}).json()["id"]
    wanted = {"user_id": user, "namespace": "acme", "roles": ["read-write"]}
    token = call("POST", "/tokens/generate", wanted).json()["token"]
    key = call("POST", "/apikeys", {"namespace": "acme", "name": "ci"}).json()["key"]
    ears, files = Ears(meta.url), Ears(fleet.url)
    for wrong in ({"x-fs9-meta-key": f"{META_KEY}x"}, {"authorization": f"Bearer {META_KEY}"}):
        ears.ask("GET", "/api/v1/users", headers=wrong)
    for body in ({"token": f"{token}x"}, {"token": 1}, {}):
        ears.ask("POST", "/api/v1/tokens/validate", headers=headers, json=body)
    ears.ask("POST", "/api/v1/users", headers=headers, json={"username": 1, "password": password})
    ears.ask("GET", "/api/v1/users", headers=headers)
    ears.ask("GET", "/api/v1/apikeys", headers=headers)
    for credential in (token, key, f"{token}x", f"{key}x"):
        files.ask("GET", "/api/v1/stat?path=/", credential)
    files.hear("the command lines", command_lines())
    meta.kill()
    files.ask("GET", "/api/v1/stat?path=/", f"{token}y")
    files.ask("POST", "/api/v1/auth/refresh", token)
    fleet.stop()
    files.hear("the service's log", (tmp_path / "meta.log").read_text())
    files.hear("the file server's log", fleet.log.read_text())
    secrets = {"the admin key": META_KEY, "the secret": META_SECRET, "the password": password}
    secrets |= {"the API key": key} | parts_of(token)
    ears.check(secrets)
    files.check(secrets)
