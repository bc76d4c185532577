"""What `fs9 admin` asks of a server, and what it makes of the answers, with a double of one."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fs9.auth.tokens import Keys, verify
from fs9.cli.main import main
from fs9.clock import SystemClock
from tests.cli.test_admin import VARIABLES
from tests.fix_http import SECRET

RECORD = {"name": "acme", "created_at": "2026-01-01T00:00:00Z", "created_by": "x"}
ACTIVE = RECORD | {"status": "active"}


class Double(ThreadingHTTPServer):
    """Answers with what it is told, and keeps (method, target, body, claims)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = {}
        self.asked = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self):
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        token = self.headers["authorization"].removeprefix("Bearer ")
        claims = verify(token, Keys.of_secrets((SECRET,)), SystemClock().now_s())
        body = json.loads(data) if data else None
        said = (claims.sub, claims.ns, claims.roles, claims.exp_s - claims.iat_s)
        self.server.asked.append((self.command, self.path, body, said))
        status, answer = self.server.answers.get(self.command, (200, ACTIVE))
        content = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_DELETE = _serve

    def log_message(self, *arguments):
        """Nothing."""


@pytest.fixture
def double():
    server = Double()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def run(double, tmp_path, monkeypatch, capsys):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("FS9_JWT_SECRET", SECRET)
    monkeypatch.setenv("FS9_SERVER_ENDPOINTS", "http://127.0.0.1:%d" % double.server_address[1])  # noqa: UP031

    def run(*arguments):
        code = main(["admin", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


ADMIN = ("admin", "admin", ("admin",), 3600)
OPERATOR = ("admin", "acme", ("operator",), 3600)
READER = ("admin", "acme", ("read-only",), 3600)
NS = "/api/v1/namespaces/acme"


@pytest.mark.parametrize(
    ("arguments", "asked", "out"),
    [
        ("ns suspend acme", ("PATCH", NS, {"status": "suspended"}, ADMIN), "acme is suspended"),
        ("ns activate acme", ("PATCH", NS, {"status": "active"}, ADMIN), "acme is active"),
        ("ns delete acme -f", ("DELETE", NS, None, ADMIN), "✓ Deleted namespace: acme\n"),
        ("ns purge acme -f", ("DELETE", f"{NS}?purge=1", None, ADMIN), "✓ Purged namespace: acme"),
        (
            "quotas set acme --bytes 2G --files default",
            ("PATCH", NS, {"quota": {"bytes_max": 2 << 30, "files_max": None}}, ADMIN),
            "bytes",
        ),
        (
            "mount remove /mem -n acme",
            ("DELETE", "/api/v1/mount?path=%2Fmem", None, OPERATOR),
            "✓ Unmounted /mem (namespace: acme)\n",
        ),
        (
            "--admin-ns ops ns get acme",
            ("GET", NS, None, ("admin", "ops", ("admin",), 3600)),
            "  Created by: x\n",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_each_command_asks_with_the_rights_that_it_needs(run, double, arguments, asked, out):
    """Signed for an hour."""
    code, said, err = run(*arguments.split())
    assert (code, err) == (0, "")
    assert double.asked == [asked]
    assert out in said


def test_a_mount_is_sent_as_the_contract_has_it(run, double):
    """With the configuration of both options."""
    double.answers["POST"] = 201, {"path": "/d", "provider_name": "localfs"}
    code, out, _ = run(
        *("mount", "add", "localfs", "-n", "acme", "-p", "/d"),
        *("-c", '{"root": "/x", "a": {"b": 1}}', "--set", "a.b=2"),
    )
    assert (code, out) == (0, "✓ Mounted localfs at /d (namespace: acme)\n")
    body = {"path": "/d", "provider": "localfs", "config": {"root": "/x", "a": {"b": 2}}}
    assert double.asked == [("POST", "/api/v1/mount", body, OPERATOR)]


def test_a_namespace_whose_mount_fails_is_there_all_the_same(run, double):
    """A warning, and exit code 0; the document has the reason."""
    double.answers["POST"] = 201, ACTIVE | {"path": "/d", "provider_name": "memfs"}
    code, out, _ = run("ns", "create", "acme", "-m", "memfs:/d")
    assert (code, out.endswith("✓ Mounted memfs at /d\n")) == (0, True)
    assert [each[1:] for each in double.asked] == [
        ("/api/v1/namespaces", {"name": "acme"}, ADMIN),
        ("/api/v1/mount", {"path": "/d", "provider": "memfs"}, OPERATOR),
    ]
    serve = _Handler.do_POST

    def refuse(self):
        if self.path == "/api/v1/mount":
            self.server.answers["POST"] = 404, {"error": "no", "code": 404, "kind": "NotFound"}
        serve(self)

    _Handler.do_POST = refuse
    try:
        code, out, err = run("ns", "create", "acme", "-m", "nofs", "--json")
    finally:
        _Handler.do_POST = serve
    assert (code, err) == (0, "⚠ Mount failed: Provider 'nofs' not found\n")
    assert json.loads(out)["mount_error"] == "Provider 'nofs' not found"


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (401, {"error": "Invalid token", "code": 401}, "Authentication failed: "),
        (403, {"error": "Insufficient permissions", "code": 403}, "Permission denied: "),
        (404, {"error": "x", "code": 404, "kind": "NotFound"}, "Namespace 'acme' not found"),
        (405, None, "Request failed (405): the server does not offer this"),
        (501, {"error": "x", "code": 501}, "Not implemented by the server"),
    ],
)
def test_each_refusal_has_a_text_of_its_own(run, double, status, body, text):
    double.answers["DELETE"] = status, body
    code, out, err = run("ns", "delete", "acme", "-f")
    assert (code, out) == (1, "")
    assert err.startswith(f"Error: {text}")
    assert SECRET not in err


def test_a_quota_is_shown_with_what_is_left_to_the_settings(run, double):
    double.answers["GET"] = 200, ACTIVE | {"quota": {"bytes_max": 1 << 31}}
    out = run("quotas", "get", "acme", "--json")[1]
    assert json.loads(out) == {
        "namespace": "acme",
        "quota": {
            "bytes_max": 1 << 31,
            "files_max": None,
            "handles_max": None,
            "requests_per_second_max": None,
        },
    }
    assert "2147483648 (2.0G)" in run("quotas", "get", "acme")[1]


def test_an_answer_of_another_shape_is_told(run, double):
    """As it comes from something that is not the server."""
    for answer in (None, [], RECORD, {"name": 1}):
        double.answers["GET"] = 200, answer
        code, out, err = run("ns", "get", "acme")
        assert (code, out) == (1, "")
        assert "is it an fs9 server?" in err
