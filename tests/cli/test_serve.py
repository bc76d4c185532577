"""serve: the effective settings reach the fleet; what cannot be served is refused."""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fs9.config import Settings
    from tests.cli.conftest import Fs9


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What a fleet that ends at once with 5 was started with."""
    seen: list[Settings] = []
    fleet = types.ModuleType("workers.fleet")

    def main(
        settings: Settings, environ: Mapping[str, str], notify_socket: str | None = None
    ) -> int:
        seen.append(settings)
        return 5

    fleet.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "workers.fleet", fleet)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return seen


def test_flags_over_environment_over_file(
    fs9: Fs9, served: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my.yaml").write_text("server: {port: 1, workers: 2, host: 127.0.0.9}")
    monkeypatch.setenv("FS9_PORT", "3")
    monkeypatch.setenv("FS9_WORKERS", "4")
    code, _, _ = fs9("serve", "-c", "my.yaml", "--port", "5", "--data-dir", "data")
    assert code == 5
    (settings,) = served
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.9", 5, 4)
    assert settings.data_dir == tmp_path / "data"


def test_an_open_address_without_authentication_is_refused(
    fs9: Fs9, served: list[Settings]
) -> None:
    code, _, err = fs9("serve", "--host", "0.0.0.0")
    assert (code, served) == (1, [])
    assert "--insecure" in err
    assert fs9("serve", "--host", "0.0.0.0", "--insecure")[0] == 5


def test_settings_that_make_no_sense(fs9: Fs9, served: list[Settings]) -> None:
    code, _, err = fs9("serve", "--port", "many")
    assert (code, served) == (1, [])
    assert "--port" in err
