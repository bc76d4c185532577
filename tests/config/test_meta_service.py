"""Settings of the metadata service: the contract's file, variables and flags, and no bad secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from fs9.config import ConfigError
from fs9.config.meta_service import MetaServiceSettings, load_meta_service

SECRET = "a secret of the tests, longer than 32 bytes"
KEY = "an admin key, long enough"


def load(tmp_path: Path, text: str = "", flags: object = None, **environ: str) -> object:
    config = None
    if text:
        config = Path("meta.yaml")
        (tmp_path / config).write_text(text)
    given = flags if isinstance(flags, dict) else {}
    return load_meta_service(given, config, {"FS9_JWT_SECRET": SECRET, **environ}, tmp_path)


def test_flags_win_over_variables_over_the_file(tmp_path: Path) -> None:
    """And nothing in the file is expanded."""
    text = (
        "server: {host: 127.0.0.2, port: 1}\ndatabase: {dsn: 'sqlite:${X}.db'}\n"
        f"auth: {{admin_key: '{KEY}', jwt_secret: from the file and long enough as well}}\n"
    )
    settings = load(tmp_path, text, {"port": "3"}, FS9_META_PORT="2", X="expanded")
    assert settings == MetaServiceSettings("127.0.0.2", 3, "sqlite:${X}.db", SECRET, KEY)
    assert SECRET not in repr(settings)
    assert KEY not in repr(settings)


def test_the_defaults_are_the_contracts(tmp_path: Path) -> None:
    """Loopback, port 9998, a file in the working directory, no key."""
    expected = MetaServiceSettings("127.0.0.1", 9998, "sqlite:fs9-meta.db", SECRET, None)
    assert load(tmp_path, FS9_META_KEY="") == expected


@pytest.mark.parametrize(
    ("text", "environ", "says"),
    [
        ("", {"FS9_JWT_SECRET": ""}, "openssl rand"),
        ("", {"FS9_JWT_SECRET": "short"}, "fewer than 32 bytes"),
        ("", {"FS9_JWT_SECRET": "change-me-in-production"}, "published example"),
        ("", {"FS9_META_KEY": "admin-key-change-me"}, "published example"),
        ("", {"FS9_META_KEY": "short"}, "fewer than 16 bytes"),
        ("", {"FS9_META_HOST": "0.0.0.0"}, "without an admin key"),
        ("", {"FS9_META_HOST": "localhost"}, "IP address"),
        ("", {"FS9_META_PORT": "x"}, "FS9_META_PORT"),
        ("", {"FS9_META_DSN": "mysql://x"}, "sqlite:PATH"),
        ("server: {prot: 1}", {}, "meta.yaml:1: server.prot: unknown key"),
        ("sever: {}", {}, "did you mean server"),
        ("server: [1]", {}, "meta.yaml:1: the section server has keys and values"),
        ("server: {port: 70000}", {}, "from 0 to 65535, got 70000"),
        ("{", {}, "not valid YAML"),
    ],
)
def test_what_cannot_be_used_is_refused(
    tmp_path: Path, text: str, environ: dict[str, str], says: str
) -> None:
    """With a text that says what to do, and no secret in it."""
    with pytest.raises(ConfigError, match=says) as caught:
        load(tmp_path, text, **environ)
    assert "short" not in str(caught.value)


def test_other_hosts_may_reach_it_with_a_key(tmp_path: Path) -> None:
    """That is long and not known to everybody."""
    settings = load(tmp_path, FS9_META_HOST="0.0.0.0", FS9_META_KEY=KEY)
    assert isinstance(settings, MetaServiceSettings)
    assert settings.host == "0.0.0.0"


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """Not a fallback to the defaults."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_meta_service({}, Path("nothing.yaml"), {"FS9_JWT_SECRET": SECRET}, tmp_path)
