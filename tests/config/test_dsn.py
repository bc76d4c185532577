"""A DSN names a SQLite file or a PostgreSQL database, and nothing else."""

from pathlib import Path

import pytest

from fs9.config.dsn import sqlite_path
from fs9.config.errors import ConfigError
from fs9.config.loader import Flags, load


@pytest.mark.parametrize(
    ("dsn", "path"),
    [
        ("sqlite:a/b.db", "a/b.db"),
        ("sqlite:/a/b.db", "/a/b.db"),
        ("sqlite:///a/b.db", "/a/b.db"),
        ("sqlite://b.db?mode=rwc", "b.db"),
    ],
)
def test_a_file(dsn, path):
    """With and without slashes, whatever parameters."""
    assert sqlite_path(dsn) == Path(path)


@pytest.mark.parametrize("dsn", ["postgres://h/d", "postgresql://u:p@h:1/d?sslmode=require"])
def test_a_server(dsn):
    """Is no file."""
    assert sqlite_path(dsn) is None


@pytest.mark.parametrize(
    "dsn",
    ["", "sqlite:", "sqlite://", "sqlite::memory:", "mysql://u:p4ss@h/d", "a.db", "sqlite:\0"],
)
def test_anything_else_is_refused(dsn):
    """Without repeating it: there may be a password in it."""
    with pytest.raises(ValueError, match="expected sqlite:PATH") as caught:
        sqlite_path(dsn)
    assert "p4ss" not in str(caught.value)


def test_the_variable_selects_the_database(tmp_path):
    """FS9_META_DSN; a bad one names the variable and not its value."""
    environ = {"FS9_META_DSN": "sqlite:/x.db"}
    assert (
        load(Flags({}), environ, tmp_path, system_file=tmp_path / "no").meta_dsn == "sqlite:/x.db"
    )
    environ = {"FS9_META_DSN": "mysql://u:p4ss@h/d"}
    with pytest.raises(ConfigError, match="FS9_META_DSN") as caught:
        load(Flags({}), environ, tmp_path, system_file=tmp_path / "no")
    assert "p4ss" not in str(caught.value)
