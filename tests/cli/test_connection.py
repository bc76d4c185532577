"""Which server and which token: flags before the environment before the default."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

import pytest

from fs9.cli.connection import token_of, url_of
from fs9.cli.ending import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Fs9
    from tests.fix_live import LiveServer


def args(**given: str) -> Namespace:
    return Namespace(
        **({"url": None, "token": None, "token_file": None, "namespace": None} | given)
    )


def test_url() -> None:
    environ = {"FS9_SERVER_ENDPOINTS": "http://a:1, http://b:2"}
    assert url_of(args(), {}) == "http://127.0.0.1:9999"
    assert url_of(args(), environ) == "http://a:1"
    assert url_of(args(), environ | {"FS9_URL": "http://c:3"}) == "http://c:3"
    assert url_of(args(url="http://d:4"), environ | {"FS9_URL": "http://c:3"}) == "http://d:4"
    assert url_of(args(), {"FS9_SERVER_ENDPOINTS": "host:9"}) == "http://host:9"


def test_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    environ = {"FS9_TOKEN_FILE": str(file)}
    assert token_of(args(), {}) is None
    assert token_of(args(), environ) == "from-file"
    assert token_of(args(), environ | {"FS9_TOKEN": "from-env"}) == "from-env"
    assert token_of(args(token_file=str(file)), {"FS9_TOKEN": "from-env"}) == "from-file"
    assert token_of(args(token="flag"), environ) == "flag"


def test_a_token_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        token_of(args(token_file=str(tmp_path / "missing")), {})


def test_denied_without_a_token(fs9: Fs9, live_auth: LiveServer) -> None:
    """4, and the hint says how to give one."""
    code, _, err = fs9("--url", live_auth.url, "ls")
    assert code == 4
    assert "FS9_TOKEN_FILE" in err
