"""The example file and the reference page are current, complete, and true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fs9.config import SETTINGS, Flags, load
from fs9.config.reference import example, page
from fs9.config.settings import RESERVED_KEYS, RESERVED_VARIABLES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "render"), [("fs9.example.yaml", example), ("docs/configuration.md", page)]
)
def test_the_files_in_the_repository_are_current(name, render):
    """The committed file is what the declarations say: run tools/render_settings.py."""
    assert (ROOT / name).read_text(encoding="utf-8") == render()


def test_the_tool_checks_what_it_writes():
    """`tools/render_settings.py --check` succeeds on current files and changes nothing."""
    command = [sys.executable, str(ROOT / "tools" / "render_settings.py"), "--check"]
    subprocess.run(command, check=True, cwd=ROOT)


def test_the_example_as_it_is_changes_nothing(tmp_path):
    """Copied unchanged, the example is a file of comments."""
    (tmp_path / "fs9.yaml").write_text(example())
    assert load(Flags({}), {}, tmp_path, system_file=tmp_path / "no").origins == {}


def test_every_key_of_the_example_is_accepted_and_complete(tmp_path):
    """With every key uncommented the example loads, sets every setting, and to its default."""
    text = re.sub(r"^( *)#(?! \S|$)", r"\1", example(), flags=re.MULTILINE)
    (tmp_path / "fs9.yaml").write_text(text)
    settings = load(Flags({}), {"FS9_SECRET": "s" * 32}, tmp_path, system_file=tmp_path / "no")
    assert set(settings.origins) == {setting.key for setting in SETTINGS}
    changed = {
        setting.key
        for setting in SETTINGS
        if setting.example is None and settings.value(setting) != setting.default
    }
    # A secret turns authentication on, and a path becomes absolute.
    assert changed == {"server.auth.enabled", "data_dir"}


def test_the_page_names_everything():
    """Every key, variable and flag, and everything that is refused."""
    text = page()
    for setting in SETTINGS:
        assert f"`{setting.key}`" in text
        for source in filter(None, (setting.env, setting.flag)):
            assert f"`{source}`" in text
    for name in (*RESERVED_KEYS, *RESERVED_VARIABLES):
        assert f"`{name}`" in text
