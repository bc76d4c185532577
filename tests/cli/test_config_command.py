"""`fs9 config` shows what is in effect and why, and no secret."""

import argparse
import io
import json

import pytest

from fs9.cli.config_command import add_parser, show
from fs9.config import SETTINGS

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def command(tmp_path):
    """Run the command in an empty place: (exit code, stdout, stderr)."""
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())

    def run(*args: str, **environ: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        code = show(
            parser.parse_args(["config", *args]), environ, tmp_path, out, err, tmp_path / "etc.yaml"
        )
        return code, out.getvalue(), err.getvalue()

    return run


def test_the_table_has_every_setting_with_its_origin(command, tmp_path):
    """Key, value and origin on one line each."""
    (tmp_path / "fs9.yaml").write_text("server:\n  workers: 3\n")
    code, out, err = command("--port", "81", FS9_HOST="::1")
    rows = [line.split() for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [row[0] for row in rows] == ["KEY", *(setting.key for setting in SETTINGS)]
    assert ["server.port", "81", "flag", "--port"] in rows
    assert ["server.host", '"::1"', "environment", "variable", "FS9_HOST"] in rows
    assert ["server.workers", "3", f"{tmp_path}/fs9.yaml:2"] in rows
    assert ["logging.level", '"info"', "default"] in rows


def test_json_is_complete(command):
    """`--json`: value and origin by key."""
    code, out, _ = command("--json", "--data-dir", "/d")
    document = json.loads(out)
    assert code == 0
    assert set(document["settings"]) == {setting.key for setting in SETTINGS}
    assert document["settings"]["data_dir"] == {"value": "/d", "origin": "flag --data-dir"}
    assert document["warnings"] == []


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_secrets_are_masked(command, flags):
    """No secret is shown, wherever it comes from; that there is one is."""
    _, out, err = command(*flags, FS9_JWT_SECRET=SECRET)
    assert SECRET not in out + err
    assert "********" in out


def test_warnings_are_told(command):
    """What the server would log at start is shown here, beside the output."""
    code, out, err = command(FS9_JWT_SECRET="short")
    assert code == 0
    assert "shorter than 32 bytes" in err
    assert "shorter" not in out


def test_settings_that_cannot_be_used_are_an_error(command):
    """The same message as at start, and exit code 1."""
    code, out, err = command("-c", "missing.yaml")
    assert (code, out) == (1, "")
    assert err.startswith("fs9: config: ")
    assert "missing.yaml: cannot be read" in err


@pytest.mark.parametrize("key", ["mounts", "namespace_template"])
def test_a_mount_that_cannot_be_made_is_an_error(command, tmp_path, key):
    """As far as it can be seen without asking anybody."""
    backends = {
        "{type: tikv}": "'tikv' is not supported; use 'lmdb'",
        "{type: postgres}": "missing required field `dsn`",
        "{type: postgres, dsn: x=y=z, blocks: {type: files}}": "use 's3' or 'inline'",
        "{type: s3, bucket: b, prefix: a/../b}": "prefix",
    }
    for backend, text in backends.items():
        mount = f"{{path: /, provider: pagefs, config: {{backend: {backend}}}}}"
        (tmp_path / "fs9.yaml").write_text(f"{key}: [{mount}]")
        code, out, err = command()
        assert (code, out) == (1, "")
        assert f"{key}: /: " in err
        assert text in err
    (tmp_path / "fs9.yaml").write_text(f"{key}: [{{path: /, provider: pagefs}}]")
    assert command()[0] == 0
