"""`fs9 admin` and `fs9-admin`: what needs no server, and what a server answers."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import uuid

import pytest

from fs9.auth.tokens import Keys, verify
from fs9.cli import admin
from fs9.cli.admin_access import configuration, typed
from fs9.cli.admin_show import table
from fs9.cli.ending import UsageError
from fs9.cli.main import main
from fs9.clock import SystemClock
from tests.fix_http import SECRET
from tests.fix_live import new_namespace

VARIABLES = (
    "FS9_SERVER_ENDPOINTS",
    "FS9_URL",
    "FS9_JWT_SECRET",
    "FS9_TOKEN",
    "FS9_TOKEN_FILE",
    "FS9_META_URL",
    "FS9_META_KEY",
    "FS9_META_DSN",
    "FS9_DATA_DIR",
)


@pytest.fixture(params=["fs9 admin", "fs9-admin"])
def name(request):
    return request.param


@pytest.fixture
def run(name, tmp_path, monkeypatch, capsys):
    """Runs a command under both names, with a home of its own."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        if name == "fs9-admin":
            monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
            code = admin.main()
        else:
            code = main(["admin", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def server(run, live_auth):
    """Knows a server with authentication."""
    assert run("init", "-s", live_auth.url, "--secret-file", "-", stdin=f"{SECRET}\n")[0] == 0
    return run


def test_init_writes_a_file_for_its_owner_alone(run, tmp_path):
    """With any text as the secret; a later one replaces it; nobody else may read it."""
    path = tmp_path / "config" / "fs9" / "admin.toml"
    secret = 'a "quoted" \\ secret ö'
    code, out, _ = run("init", "-k", secret)
    assert (code, out) == (0, f"✓ Configuration saved to {path}\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert run("token", "generate", "-q", "-u", "a", "-n", "b")[0] == 0
    code, out, _ = run("config")
    assert code == 0
    assert "Server: http://localhost:9999\n" in out
    assert "JWT Secret: (set)\n" in out
    assert f"Config: {path}\n" in out
    assert run("init", "-s", "http://h:1", "--secret-file", "-", stdin="other\n")[0] == 0
    code, out, _ = run("config", "--json")
    assert json.loads(out) == {
        "server": "http://h:1",
        "jwt_secret_set": True,
        "token_set": False,
        "admin_namespace": "admin",
        "config": str(path),
    }
    assert [each.name for each in path.parent.iterdir()] == ["admin.toml"]
    path.chmod(0o644)
    assert "chmod 600" in run("config")[2]


def test_flags_come_before_variables_before_the_file(run, monkeypatch):
    """For the server and for the secret; without anything there is the default server."""

    def server_of(*arguments):
        return json.loads(run("config", "--json", *arguments)[1])["server"]

    assert server_of() == "http://localhost:9999"
    run("init", "-k", "x", "-s", "http://file:1")
    assert server_of() == "http://file:1"
    monkeypatch.setenv("FS9_SERVER_ENDPOINTS", "variable:2,other:3")
    assert server_of() == "http://variable:2"
    assert server_of("-s", "http://flag:3") == "http://flag:3"
    assert json.loads(run("-s", "http://before:4", "config", "--json")[1])["server"] == (
        "http://before:4"
    )


def test_a_file_that_is_not_understood_is_an_error(run, tmp_path):
    path = tmp_path / "config" / "fs9" / "admin.toml"
    path.parent.mkdir(parents=True)
    for text in ("server = ", "sever = 'x'", "server = 1"):
        path.write_text(text)
        code, _, err = run("config")
        assert code == 1
        assert err.startswith(f"Error: {path}: ")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("ns", "create"),
        ("mount", "add", "memfs"),
        ("token", "generate", "-u", "a", "-n", "b", "-r", "root"),
        ("token", "generate", "-u", "a", "-n", "b", "-T", "0"),
        ("token", "generate", "-u", "a", "-n", "b", "-T", "x"),
        ("token", "generate", "-u", "", "-n", "b", "--secret", "s"),
        ("token", "generate", "-u", "a\udcff", "-n", "b", "--secret", "s"),
        ("token", "generate", "-u", "a" * 10_000, "-n", "b", "--secret", "s"),
        ("token", "generate", "-u", "a", "-n", "Not a name", "--secret", "s"),
        ("-s", "", "health"),
        ("mount", "add", "memfs", "-n", "acme", "-p", ""),
        ("ns", "delete", "acme", "--json"),
        ("init",),
        ("users", "list"),
        ("users", "list", "--meta", "http://h", "--data-dir", "d"),
        ("users", "create", "a", "-r", "admin", "--data-dir", "d"),
        ("users", "password", "a", "--data-dir", "d"),
        ("quotas", "set", "acme"),
        ("quotas", "set", "acme", "--bytes", "much"),
        ("quotas", "set", "acme", "--requests-per-second", "0"),
        ("ns", "create", "acme", "--set", "a=1"),
        ("mount", "add", "memfs", "-n", "acme", "-c", "[1]"),
        ("events", "list", "-n", "acme", "--since", "yesterday"),
        ("events", "verify", "-n", "acme", "--noted", "1"),
        ("keys", "create", "", "-n", "acme", "--data-dir", "d"),
        ("config", "--secret-file", "/nonexistent"),
    ],
)
def test_what_makes_no_sense_has_exit_code_2(run, arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err
    assert "value: " not in err  # argparse's own words, with the name of a function


def test_a_token_says_what_was_asked_for(run):
    """Alone with -q, verifiable with the secret, for the time that was given."""
    code, out, err = run(
        *("token", "generate", "-u", "ann", "-n", "acme", "-r", "operator", "-r", "read-only"),
        *("-T", "60", "-q", "--secret", SECRET),
    )
    assert (code, err) == (0, "")
    token = out.removesuffix("\n")
    claims = verify(token, Keys.of_secrets((SECRET,)), SystemClock().now_s())
    assert (claims.sub, claims.ns, claims.roles) == ("ann", "acme", ("operator", "read-only"))
    assert claims.exp_s - claims.iat_s == 60
    code, out, _ = run("token", "decode", "-", stdin=f"{token}\n")
    assert code == 0
    assert '"sub": "ann"' in out
    assert "✓ Expires at 20" in out
    code, out, _ = run("token", "decode", token, "--json")
    assert sorted(json.loads(out)) == ["exp", "iat", "jti", "ns", "roles", "sub"]
    code, out, _ = run("token", "generate", "-u", "ann", "-n", "acme", "--secret", SECRET)
    assert "Roles: read-write\n" in out
    assert "curl" in out
    assert SECRET not in out


def test_no_two_tokens_are_alike(run):
    """Of one user within one second: revoking one must not end the other."""
    asked = ("token", "generate", "-u", "ann", "-n", "acme", "--secret", SECRET, "--json")
    one, other = (json.loads(run(*asked)[1]) for _ in range(2))
    assert one["token"] != other["token"]
    assert one["jti"] != other["jti"]
    assert one["jti"] == json.loads(run("token", "decode", one["token"], "--json")[1])["jti"]


def test_an_expired_token_and_what_is_none_are_told(run):
    old = "e30.eyJleHAiOjF9.x"
    assert "⚠ Token expired at 1970-01-01T00:00:01Z" in run("token", "decode", old)[1]
    for junk in ("junk", "a.b.c", "..", "a.W10.c", 'a.{"exp":1e400}.b'):
        code, out, err = run("token", "decode", junk)
        assert (code, out) == (1, "")
        assert err.startswith("Error: not a token")


def test_without_a_secret_no_token_is_made(run):
    code, _, err = run("token", "generate", "-u", "a", "-n", "b")
    assert code == 1
    assert "no signing secret" in err


def test_the_configuration_of_a_mount_is_typed_and_nested():
    """`--set` wins over the JSON, into which it is merged."""
    assert configuration(None, []) is None
    assert configuration('{"a": {"b": 1, "c": 2}}', ["a.b=true", "d.e.f=x=y"]) == {
        "a": {"b": True, "c": 2},
        "d": {"e": {"f": "x=y"}},
    }
    for document, settings in (
        (None, ["a"]),
        (None, ["a..b=1"]),
        (None, ["=1"]),
        ("{", []),
        ("1", []),
        ('{"a": 1}', ["a.b=1"]),
    ):
        with pytest.raises(UsageError):
            configuration(document, settings)
    texts = ("1", "-7", "1.5", "1e3", "true", "false", "True", "", "1_0", "nan", "inf", " 1", "x")
    assert [typed(text) for text in texts] == [
        *(1, -7, 1.5, 1000.0, True, False, "True", "", "1_0", "nan", "inf", " 1", "x")
    ]


def test_a_narrow_terminal_loses_nothing_of_a_table(monkeypatch, capsys):
    """An id can be copied from it, if from two lines."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    ids = [str(uuid.uuid4()) for _ in range(2)]
    table(("USER", "CREATED", "ID"), [("ann", "2026-11-24T12:35:39Z", each) for each in ids])
    out = capsys.readouterr().out
    assert not any(each in out for each in ids)
    assert "…" not in out
    assert all(each[:5] in out and each[-5:] in out for each in ids)


def test_the_server_is_asked_for_its_health(run, live):
    code, out, _ = run("health", "-s", live.url)
    assert (code, out) == (0, f"✓ Server is healthy\n  URL: {live.url}\n")
    code, _, err = run("health", "-s", "http://127.0.0.1:1")
    assert code == 1
    assert err.startswith("Error: ")


def test_what_is_no_url_is_told(run):
    for url in ("http://[bad", "http://h:port", "http://", "ftp://h"):
        code, out, err = run("health", "-s", url)
        assert (code, out) == (1, "")
        assert err.startswith("Error: ")


def test_a_stream_of_another_encoding_gets_what_it_can_hold(tmp_path, live):
    """A mark or a name that Latin-1 does not have is spelled out, and is no failure."""
    command = [sys.executable, "-m", "fs9.cli.admin", "health", "-s", live.url]
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, env=environ, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"\\u2713 Server is healthy\n")


def test_namespaces_are_made_shown_and_missed(server):
    name = new_namespace()
    code, out, _ = server("ns", "create", name)
    assert code == 0
    assert f"✓ Created namespace: {name}\n" in out
    code, _, err = server("ns", "create", name)
    assert (code, err) == (1, f"Error: Namespace '{name}' already exists\n")
    code, out, _ = server("ns", "list")
    assert f"  • {name} (active)\n      Created: 20" in out
    assert " by admin\n" in out
    listed = json.loads(server("ns", "list", "--json")[1])
    assert name in [each["name"] for each in listed]
    code, out, _ = server("ns", "get", name)
    assert f"  Name: {name}\n  Status: active\n  Created at: 20" in out
    code, _, err = server("ns", "get", "nowhere")
    assert (code, err) == (1, "Error: Namespace 'nowhere' not found\n")
    code, _, err = server("ns", "create", "Not a name")
    assert (code, err.startswith("Error: Invalid namespace name: ")) == (1, True)
    code, out, err = server("ns", "delete", name)
    assert (code, out) == (0, "")
    assert "--force" in err


def test_mounts_are_shown(server):
    name = new_namespace()
    server("ns", "create", name)
    code, out, _ = server("mount", "list", "-n", name)
    assert code == 0
    assert "  /hello → hellofs\n" in out
    mounts = json.loads(server("mount", "list", "-n", name, "--json")[1])
    assert {"path": "/hello", "provider_name": "hellofs"} in mounts


def test_what_is_in_use_goes_by_force_alone(server):
    """Each refusal says so; the root and what has something in it."""
    name = new_namespace()
    server("ns", "create", name)
    code, _, err = server("mount", "remove", "/", "-n", name)
    assert code == 1
    assert err.endswith("; --force does it all the same\n")
    code, out, _ = server("mount", "add", "kvfs", "-n", name, "--force")
    assert (code, out) == (0, f"✓ Mounted kvfs at / (namespace: {name})\n")
    code, out, _ = server("mount", "remove", "/", "-n", name, "-f")
    assert (code, out) == (0, f"✓ Unmounted / (namespace: {name})\n")


def test_a_wrong_secret_and_a_token_that_does_not_suffice(run, live_auth):
    """Each has a text of its own; whoami tells which it is."""
    wrong = ("-s", live_auth.url, "--secret", "another secret, longer than 32 bytes!")
    code, _, err = run("ns", "list", *wrong)
    assert code == 1
    assert "Check the secret" in err
    code, out, _ = run("whoami", "--json", *wrong)
    assert code == 1
    assert json.loads(out)["accepted"] is False
    token = run(
        *("token", "generate", "-q", "-u", "ann", "-n", "default", "-r", "read-only"),
        *("--secret", SECRET),
    )[1]
    mine = ("-s", live_auth.url, "--token-file", "-")
    code, _, err = run("ns", "list", *mine, stdin=token)
    assert code == 1
    assert err.startswith("Error: Permission denied: ")
    code, out, _ = run("whoami", "--json", *mine, stdin=token)
    assert code == 0
    assert json.loads(out) == {
        "server": live_auth.url,
        "by": "token",
        "user": "ann",
        "namespace": "default",
        "roles": ["read-only"],
        "accepted": True,
        "server_administrator": False,
    }
    assert run("mount", "list", "-n", "default", *mine, stdin=token)[0] == 0


def test_a_revoked_token_is_refused(server):
    """And it is not repeated."""
    name = new_namespace()
    server("ns", "create", name)
    token = server("token", "generate", "-q", "-u", "eve", "-n", name)[1].strip()
    assert server("mount", "list", "-n", name, "--token-file", "-", stdin=token)[0] == 0
    code, out, _ = server("revoke", "token", "-", stdin=token)
    assert (code, out) == (0, "✓ Revoked: token\n")
    assert server("mount", "list", "-n", name, "--token-file", "-", stdin=token)[0] == 1
    code, out, _ = server("revoke", "user", "eve", "-n", name, "--json")
    assert json.loads(out) == {"revoked": "user", "subject": "eve", "namespace": name}


def test_a_server_without_authentication_needs_no_secret(run, live):
    name = new_namespace()
    assert run("ns", "create", name, "-s", live.url)[0] == 0
    code, out, _ = run("mount", "list", "-n", name, "-s", live.url)
    assert code == 0
    assert "hellofs" in out
