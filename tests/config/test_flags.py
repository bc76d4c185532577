"""The flags of the settings."""

import argparse
from pathlib import Path

import pytest

from fs9.config import SETTINGS, Flags, Settings, add_flags, flags_of, load


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return parser


def test_flags_not_given_say_nothing(parser):
    """Without flags, nothing is overridden."""
    assert flags_of(parser.parse_args([])) == Flags({}, None, False)


def test_every_flag_reaches_its_setting(parser, tmp_path):
    """--host, --port, --workers, --data-dir, -c and --insecure have their effect."""
    (tmp_path / "f.yaml").write_text("server: {port: 1, host: h}\n")
    args = ["--port", "2", "--workers", "3", "--data-dir", "/d", "-c", "f.yaml", "--insecure"]
    settings = load(flags_of(parser.parse_args(args)), {}, tmp_path, system_file=tmp_path / "no")
    assert (settings.host, settings.port, settings.workers) == ("h", 2, 3)
    assert (settings.data_dir, settings.insecure) == (Path("/d"), True)
    flagged = {setting.key: settings.origin(setting) for setting in SETTINGS if setting.flag}
    assert flagged == {
        "server.host": f"{tmp_path}/f.yaml:1",
        "server.port": "flag --port",
        "server.workers": "flag --workers",
        "data_dir": "flag --data-dir",
    }


def test_the_help_names_every_flag_with_its_default(parser):
    """`--help` explains each flag."""
    text = parser.format_help()
    for setting in SETTINGS:
        if setting.flag:
            assert setting.flag in text
    assert str(Settings().port) in text
