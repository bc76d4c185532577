"""Settings of the real program: files, variables, flags, what it says, how it starts."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.e2e.reference import refused
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fix_fleet import Fleet

ROOT = Path(__file__).parents[2]
SECRET = "0123456789abcdef0123456789abcdef"


class Program:
    """`fs9` in a directory and a home of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.home.mkdir()

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fs9.cli.main", *arguments],
            cwd=self.directory,
            env=self.environ(environ),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def environ(self, more: dict[str, str]) -> dict[str, str]:
        base = {"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": str(ROOT)}
        return base | more

    def settings(self, *arguments: str, **environ: str) -> dict[str, tuple[Any, str]]:
        """Key -> (value, where it came from)."""
        ended = self.run("config", "--json", *arguments, **environ)
        assert ended.returncode == 0, ended.stderr
        found = json.loads(ended.stdout)["settings"]
        return {key: (entry["value"], entry["origin"]) for key, entry in found.items()}

    def refusal(self, *arguments: str, **environ: str) -> str:
        ended = self.run(*arguments, **environ)
        assert ended.returncode == 1
        assert "Traceback" not in ended.stderr
        return ended.stderr


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_every_source_wins_over_the_one_before(program: Program) -> None:
    """User file < local file < environment < flags, key by key, each with its origin."""
    program.write("home/.config/fs9/fs9.yaml", "server:\n  port: 1\n  workers: 1\n  host: '::1'\n")
    program.write("fs9.yaml", "server: {port: 2, workers: 2}\nlogging: {level: debug}\n")
    found = program.settings("--port", "4", FS9_PORT="3", FS9_WORKERS="3")
    assert found["server.port"] == (4, "flag --port")
    assert found["server.workers"] == (3, "environment variable FS9_WORKERS")
    value, origin = found["logging.level"]
    assert (value, origin.rpartition("/")[2]) == ("debug", "fs9.yaml:2")
    value, origin = found["server.host"]
    assert (value, origin.endswith("home/.config/fs9/fs9.yaml:4")) == ("::1", True)
    assert found["server.request_timeout_secs"] == (30.0, "default")


def test_a_named_file_is_the_only_one(program: Program) -> None:
    """-c replaces the search path, and FS9_CONFIG replaces -c and says so."""
    program.write("fs9.yaml", "server: {port: 2, workers: 2}\n")
    program.write("one.yaml", "server: {port: 5}\n")
    program.write("two.yaml", "server: {port: 6}\n")
    found = program.settings("-c", "one.yaml")
    assert found["server.port"][0] == 5
    assert found["server.workers"][1] == "default"
    assert program.settings(FS9_CONFIG="two.yaml")["server.port"][0] == 6
    ended = program.run("config", "-c", "one.yaml", FS9_CONFIG="two.yaml")
    assert ended.returncode == 0
    assert "two.yaml" in ended.stdout
    assert "FS9_CONFIG" in ended.stderr
    assert "one.yaml" in ended.stderr


def test_variables_in_files(program: Program) -> None:
    text = "data_dir: /srv/${WHO}/${SUB:-files}\nserver:\n  port: ${P:-7}\n# ${COMMENT}\n"
    program.write("fs9.yaml", text)
    found = program.settings(WHO="ann")
    assert found["data_dir"][0] == "/srv/ann/files"
    assert found["server.port"][0] == 7
    assert program.settings(WHO="ann", SUB="x", P="8")["server.port"][0] == 8
    assert "WHO" in program.refusal("config")
    # A variable brings a value, never structure.
    found = program.settings(WHO="x}\nserver: {port: 1", P="9")
    assert found["server.port"][0] == 9


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("server:\n  prot: 1\n", "fs9.yaml:2: unknown key server.prot; did you mean server.port?"),
        ("sever: {}\n", "did you mean server?"),
        ("port: 1\n", "did you mean server.port?"),
        ("server:\n  port: '80'\n", "fs9.yaml:2: server.port: expected a whole number"),
        ("server: {port: 70000}\n", "from 0 to 65535"),
        ("server: {auth: {enabled: 1}}\n", "server.auth.enabled"),
        ("server: [1]\n", "server"),
        ("server:\n port: 1\n  x: 2\n", "fs9.yaml:"),
        ("server: {port: 1, port: 2}\n", "port"),
        ("{", "fs9.yaml:"),
        ("server: {db9_api_url: 'http://x'}\n", "not part of this system"),
        ("server: {meta_url: 'x:1'}\n", "server.meta_url: expected http://HOST:PORT"),
        ("server: {default_pagefs: {}}\n", "server.default_pagefs"),
        ("logging: {level: loud}\n", "logging.level"),
        ("mounts: [{path: /, provider: localfs, confg: {}}]\n", "config"),
        ("server: {auth: {enabled: true}}\n", "secret"),
        ("a: &x [*x]\n", "fs9.yaml:"),
        ("!!python/object/apply:os.system ['touch owned']\n", "fs9.yaml:"),
    ],
)
def test_a_wrong_file_is_an_error_that_helps(program: Program, text: str, says: str) -> None:
    program.write("fs9.yaml", text)
    assert says in program.refusal("config")
    assert says in program.refusal("serve")
    assert not (program.directory / "owned").exists()
    assert not (program.directory / "fs9-data").exists()


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"FS9_PORT": "abc"}, "FS9_PORT"),
        ({"FS9_WORKERS": "0"}, "FS9_WORKERS"),
        ({"FS9_DB9_API_URL": "http://x"}, "not part of this system"),
        ({"FS9_CONFIG": "none.yaml"}, "none.yaml: cannot be read"),
    ],
)
def test_wrong_variables(program: Program, environ: dict[str, str], says: str) -> None:
    assert says in program.refusal("config", **environ)


def test_secrets_are_masked(program: Program) -> None:
    program.write("fs9.yaml", f"server: {{auth: {{jwt_secret: {SECRET}}}}}\n").chmod(0o600)
    for arguments in (("config",), ("config", "--json")):
        ended = program.run(*arguments)
        assert SECRET not in ended.stdout + ended.stderr
        assert SECRET[:8] not in ended.stdout + ended.stderr
    found = program.settings()
    assert found["server.auth.enabled"][0] is True
    assert program.settings(FS9_JWT_SECRET="")["server.auth.enabled"][0] is False
    program.write("fs9.yaml", f"server: {{auth: {{jwt_secret: [{SECRET}]}}}}\n")
    assert SECRET not in program.refusal("config")


def test_every_documented_key_is_a_setting(program: Program) -> None:
    """`fs9 config` shows no key that the reference page and the example lack."""
    example = (ROOT / "fs9.example.yaml").read_text()
    settings = program.settings()
    documented = set(re.findall(r"`([a-z_.]+)` \|", (ROOT / "docs/configuration.md").read_text()))
    assert set(settings) <= documented
    assert all(key.rpartition(".")[2] in example for key in settings)


def test_an_open_address_needs_authentication(program: Program) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        text = program.refusal("serve", "--host", host, "--port", "0")
        assert "--insecure" in text
        assert "FS9_JWT_SECRET" in text
    assert not (program.directory / "fs9-data").exists()


def _serve(program: Program, *arguments: str, **environ: str) -> tuple[subprocess.Popen[str], str]:
    """A fleet that is up, and all that it printed until then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fs9.cli.main", "serve", "--workers", "2", *arguments],
        cwd=program.directory,
        env=program.environ(environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Ctrl-C"):
            break
    return process, "".join(lines)


def _stop(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    return errors


def test_an_open_address_with_the_flag_or_a_secret(program: Program) -> None:
    for arguments, environ in ((["--insecure"], {}), ([], {"FS9_JWT_SECRET": SECRET})):
        process, said = _serve(program, "--host", "0.0.0.0", "--port", "0", *arguments, **environ)
        port = int(re.findall(r":(\d+)\n", said)[0])
        answer = httpx2.get(f"http://127.0.0.1:{port}/api/v1/stat?path=/")
        assert answer.status_code == (401 if environ else 200)
        assert "Traceback" not in _stop(process)


def test_the_start_line_of_the_harness(program: Program) -> None:
    """Contract 4.4: the variables of the reference's test harness start a usable server."""
    port = free_port()
    process, said = _serve(
        program,
        FS9_PORT=str(port),
        FS9_HOST="127.0.0.1",
        FS9_JWT_SECRET="",
        FS9_META_ENDPOINTS="",
        FS9_META_KEY="",
        FS9_SKIP_META_CHECK="1",
    )
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert client.get("/health").status_code == 200
        assert client.get("/api/v1/stat?path=/").json()["file_type"] == "directory"
        assert client.get("/api/v1/mounts").json()[0]["path"] == "/"
    # What a person is told: the URL, where the data is, how many workers, auth, three commands.
    assert f"http://127.0.0.1:{port}" in said
    assert str(program.directory / "fs9-data") in said
    assert re.search(r"workers +2", said)
    assert re.search(r"auth +off", said)
    commands = [line for line in said.splitlines() if line.startswith("  ") and "://" in line]
    assert len([line for line in commands if "curl" in line or " ls " in line]) == 3
    assert "Traceback" not in _stop(process)


def test_the_three_commands_work_word_for_word(program: Program) -> None:
    process, said = _serve(program, "--port", "0")
    commands = said.partition("Try, in another terminal:\n")[2].splitlines()[:3]
    outputs = []
    for line in commands:
        ended = subprocess.run(
            line,
            shell=True,
            cwd=program.directory,
            env=program.environ({"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert ended.returncode == 0, (line, ended.stderr)
        outputs.append(ended.stdout)
    assert outputs[0] == '{"path":"/hello.txt","bytes_written":6}'
    assert outputs[1] == "hello\n"
    assert "hello.txt" in outputs[2]
    _stop(process)


def test_what_survives_a_restart(program: Program) -> None:
    """Files and namespaces do; a handle of before does not, and names no other file after."""
    handles: list[str] = []
    created = ""
    for round_number in range(2):
        process, said = _serve(program, "--port", "0")
        url = re.findall(r"http://\S+", said)[0]
        with httpx2.Client(base_url=url, timeout=30) as client:
            if round_number == 0:
                client.put("/acme/api/v1/upload?path=/f", content=b"kept").raise_for_status()
                reply = client.post("/api/v1/namespaces", json={"name": "made"}).json()
                created = reply["created_at"]
            assert client.get("/acme/api/v1/download?path=/f").content == b"kept"
            assert client.get("/api/v1/namespaces/made").json()["created_at"] == created
            assert client.post("/api/v1/namespaces", json={"name": "made"}).status_code == 409
            for handle_id in handles:
                body = {"handle_id": handle_id, "offset": 0, "size": 1}
                answer = client.post("/acme/api/v1/read", json=body)
                assert refused(answer)[1] == "InvalidHandle"
            for _ in range(20):
                body = {"path": "/f", "flags": {"read": True}}
                handle_id = client.post("/acme/api/v1/open", json=body).json()["handle_id"]
                assert handle_id not in handles
                handles.append(handle_id)
        _stop(process)


def test_an_idle_handle_expires(start_fleet: Callable[..., Fleet]) -> None:
    """An active handle survives its lifetime many times over; an idle one is invalid."""
    yaml = """
server: {limits: {handle_ttl_secs: 1.5, handle_sweep_interval_secs: 0.1}}
mounts: [{path: /, provider: localfs, config: {root: "{data_dir}/files"}}]
"""
    fleet = start_fleet(workers=1, yaml=yaml)
    with httpx2.Client(base_url=f"{fleet.url}/api/v1/") as client:
        flags = {"path": "/f", "flags": {"create": True, "read": True, "write": True}}
        active, idle = (client.post("open", json=flags).json()["handle_id"] for _ in range(2))
        expired = None
        while expired is None:
            body = {"handle_id": active, "offset": 0, "size": 1}
            assert client.post("read", json=body).status_code == 200
            fleet_directory = f"/proc/{fleet.pid_of(0)}/fd"
            targets = [_target(f"{fleet_directory}/{name}") for name in os.listdir(fleet_directory)]
            if len([target for target in targets if target.endswith("/files/f")]) == 1:
                expired = client.post("read", json=body | {"handle_id": idle})
        assert refused(expired)[1:] == ("InvalidHandle", f"invalid handle: {idle}")
        assert client.post("close", json={"handle_id": active}).status_code == 204


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


def test_limits_of_the_file_have_effect(start_fleet: Callable[..., Fleet]) -> None:
    """Small limits refuse with their own status, on a real server."""
    yaml = """
server:
  max_body_size_bytes: 1000
  max_write_size_bytes: 5000
  limits: {max_handles_per_namespace: 3, max_listing_entries: 2, max_request_line_bytes: 500,
           max_headers_bytes: 2000, max_file_bytes: 10000}
"""
    fleet = start_fleet(workers=1, yaml=yaml)
    with httpx2.Client(base_url=f"{fleet.url}/api/v1/") as client:
        flags: dict[str, Any] = {"path": "/f", "flags": {"create": True, "write": True}}
        handles = [client.post("open", json=flags).json()["handle_id"] for _ in range(3)]
        assert refused(client.post("open", json=flags))[:2] == (507, "QuotaExceeded")
        long = {"path": "/" + "x" * 1000, "flags": {}}
        assert refused(client.post("open", json=long))[0] == 413
        assert refused(client.put("upload?path=/g", content=b"x" * 5001))[0] == 413
        query = f"write?handle_id={handles[0]}"
        assert refused(client.post(f"{query}&offset=0", content=b"x" * 5001))[0] == 413
        assert refused(client.post(f"{query}&offset=9999", content=b"xx"))[0] == 507
        for name in "gh":
            client.put(f"upload?path=/{name}", content=b"x" * 5000).raise_for_status()
        assert refused(client.get("readdir?path=/"))[0] == 400
        assert len(client.get("readdir?path=/&limit=2").json()) == 2
        assert refused(client.get("stat?path=/" + "x" * 500))[0] == 414
        assert refused(client.get("stat?path=/", headers={"X": "x" * 2000}))[0] == 431


def test_too_many_requests_at_once(start_fleet: Callable[..., Fleet]) -> None:
    """Beyond the limit: 503 at once, with Retry-After; and all is well again after."""
    fleet = start_fleet(workers=1, yaml="server: {max_concurrent_requests: 2}\n")
    held = []
    for _ in range(2):
        one = socket.create_connection(("127.0.0.1", fleet.port))
        one.sendall(
            b"PUT /api/v1/upload?path=/f HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert one.recv(100).startswith(b"HTTP/1.1 100 ")
        held.append(one)
    answer = httpx2.get(f"{fleet.url}/api/v1/stat?path=/")
    assert refused(answer)[:2] == (503, "Overloaded")
    assert int(answer.headers["retry-after"]) >= 1
    for one in held:
        one.sendall(b"0123456789")
        assert one.recv(1000).startswith(b"HTTP/1.1 200 ")
        one.close()
    assert httpx2.get(f"{fleet.url}/api/v1/stat?path=/f").json()["size"] == 10
