"""doctor: what is wrong, and what to do about it."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from tests.fix_http import token
from tests.fix_meta import META_KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Fs9
    from tests.fix_live import LiveServer
    from tests.fix_meta import MetaProcesses


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this host are read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


def test_all_is_well(fs9: Fs9) -> None:
    code, out, err = fs9("doctor")
    assert (code, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines() if not line.startswith(" ")] == [
        "ok    python",
        "ok    settings",
        "ok    server",
        "ok    access",
        "ok    data",
    ]


def test_no_server(fs9: Fs9) -> None:
    """The server is missing; the port that `fs9 serve` would take is looked at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, _ = fs9("doctor", "--url", "http://127.0.0.1:1", "--port", port)
    assert code == 7
    assert "fail  server: cannot reach http://127.0.0.1:1" in out
    assert "fail  port: " in out
    assert "choose another with --port" in out
    assert "ok    port: " in fs9("doctor", "--url", "http://127.0.0.1:1", "--port", "0")[1]


def test_tokens(fs9: Fs9, live_auth: LiveServer) -> None:
    code, out, _ = fs9("doctor", "--url", live_auth.url)
    assert code == 4
    assert "FS9_TOKEN_FILE" in out
    code, out, _ = fs9("doctor", "--url", live_auth.url, "--token", "nonsense")
    assert code == 4
    assert "ask for a new token" in out
    good = token("default", "admin")
    assert fs9("doctor", "--url", live_auth.url, "--token", good)[0] == 0


def test_bad_settings_and_bad_data_directory(fs9: Fs9, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("server: {prot: 1}")
    code, out, _ = fs9("doctor", "-c", tmp_path / "bad.yaml")
    assert code == 1
    assert "did you mean" in out
    (tmp_path / "file").write_text("")
    code, out, _ = fs9("doctor", "--data-dir", tmp_path / "file")
    assert code == 1
    assert "is not a directory" in out


def test_json(fs9: Fs9) -> None:
    findings = json.loads(fs9("doctor", "--json")[1])
    assert {finding["verdict"] for finding in findings} <= {"ok", "warn"}
    assert set(findings[0]) == {"check", "verdict", "text", "advice"}


def test_the_metadata_service(
    fs9: Fs9, start_meta: Callable[..., MetaProcesses], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers and takes the key of the settings; if not, the finding says what to do."""
    service = start_meta()
    monkeypatch.setenv("FS9_META_ENDPOINTS", service.url)
    monkeypatch.setenv("FS9_META_KEY", META_KEY)
    assert f"ok    metadata: {service.url} answers" in fs9("doctor")[1]
    monkeypatch.setenv("FS9_META_KEY", "another key, which it has not")
    code, out, _ = fs9("doctor")
    assert code == 1
    assert "refuses our key" in out
    assert "FS9_META_KEY" in out
    service.kill()
    assert "fail  metadata: " in fs9("doctor")[1]
