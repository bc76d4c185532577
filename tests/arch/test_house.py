"""The rules of the house that no linter knows: sizes, names, docstrings, import contracts."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.arch.tree import ALL, INSTALLED, ROOT, documents, modules, parsed

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
#: Names that say nothing about what is in a file.
NAMELESS = {"common", "helper", "helpers", "misc", "util", "utils"}
#: Put together here, so that this file does not hold what it looks for.
_LEFTOVER = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)) + r")\b")

every_module = pytest.mark.parametrize(
    "path", modules(*ALL), ids=lambda path: str(path.relative_to(ROOT))
)
every_installed_module = pytest.mark.parametrize(
    "path", modules(*INSTALLED), ids=lambda path: str(path.relative_to(ROOT))
)


@every_module
def test_a_file_is_named_by_what_is_in_it(path: Path) -> None:
    assert path.stem.strip("_") not in NAMELESS


@every_module
def test_a_module_says_what_it_is(path: Path) -> None:
    """Its docstring; in a test module it says what must hold."""
    docstring = ast.get_docstring(parsed(path))
    assert docstring
    assert docstring.strip()[-1] not in ",;"


@every_module
def test_nothing_is_left_for_later(path: Path) -> None:
    assert not _LEFTOVER.search(path.read_text())


@every_installed_module
def test_a_file_fits_the_head(path: Path) -> None:
    """Split by concept, never into a second part."""
    assert len(path.read_text().splitlines()) <= FILE_LINES_MAX


@every_installed_module
def test_a_function_is_read_in_one_screen(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name}: {length} lines"


@pytest.mark.parametrize("path", modules("tests"), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_sleeps(path: Path) -> None:
    """Time passes by `ManualClock.advance`; what another process does is waited for."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) != "time.sleep", f"line {node.lineno}"


@every_installed_module
def test_the_environment_is_read_at_the_edges_alone(path: Path) -> None:
    """Settings come as arguments; only commands and the loader's callers look around."""
    if path.is_relative_to(ROOT / "fs9" / "cli"):
        return
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in {"os.environ", "os.getenv"}, f"line {node.lineno}"


def test_the_map_has_every_folder() -> None:
    """ARCHITECTURE.md's map begins a line with each package, and with nothing else."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    (chart,) = re.findall(r"^```text map\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    named = re.findall(r"^(\S+)/ ", chart, re.MULTILINE)
    packages = {str(path.parent.relative_to(ROOT)) for path in modules(*ALL)}
    assert {name for name in named if name.split("/")[0] in INSTALLED} == {
        name for name in packages if name.split("/")[0] in INSTALLED
    }
    assert all((ROOT / name).is_dir() for name in named)


@pytest.mark.parametrize("page", documents(), ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    """A path in backquotes that begins with one of our folders; NAME stands for any name."""
    named = re.findall(
        r"`((?:bench|docs|fs9|router|tests|tools|workers)/[\w./-]+)`", page.read_text()
    )
    assert [name for name in named if not _exists(name)] == []


def _exists(name: str) -> bool:
    return "NAME" in name or (ROOT / name).exists()


def test_imports_keep_the_contracts() -> None:
    """What `make check` runs: layers, independent providers, one home for each library."""
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [linter, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout


def test_committed_pages_mention_no_place_of_the_author() -> None:
    """A path below somebody's home or workplace means nothing to others."""
    for page in documents():
        assert not re.search(r"(?<![\w.])/(?:home|root|work|Users)/", page.read_text()), page
