"""The rules of the house that no linter knows: sizes, names, docstrings, import contracts."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

from tests.arch.tree import ALL, INSTALLED, ROOT, documents, modules, parsed
from tests.fix_order import LONGEST_FIRST

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
#: Names that say nothing about what is in a file.
NAMELESS = {"common", "helper", "helpers", "misc", "util", "utils"}
#: Put together here, so that this file does not hold what it looks for.
_LEFTOVER = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)) + r")\b")


def _where(path: Path, line: int | None = None) -> str:
    name = str(path.relative_to(ROOT))
    return name if line is None else f"{name}:{line}"


def test_a_file_is_named_by_what_is_in_it() -> None:
    assert [_where(path) for path in modules(*ALL) if path.stem.strip("_") in NAMELESS] == []


def test_a_module_says_what_it_is() -> None:
    """Its docstring; in a test module it says what must hold."""
    silent = []
    for path in modules(*ALL):
        docstring = (ast.get_docstring(parsed(path)) or "").strip()
        if not docstring or docstring[-1] in ",;":
            silent.append(_where(path))
    assert silent == []


def test_nothing_is_left_for_later() -> None:
    assert [_where(path) for path in modules(*ALL) if _LEFTOVER.search(path.read_text())] == []


def test_a_file_fits_the_head() -> None:
    """Split by concept, never into a second part."""
    sizes = {_where(path): len(path.read_text().splitlines()) for path in modules(*INSTALLED)}
    assert {name: size for name, size in sizes.items() if size > FILE_LINES_MAX} == {}


def test_a_function_is_read_in_one_screen() -> None:
    long = {}
    for path in modules(*INSTALLED):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    long[_where(path, node.lineno)] = length
    assert long == {}


def test_no_test_sleeps() -> None:
    """Time passes by `ManualClock.advance`; what another process does is waited for."""
    assert [place for path in modules("tests") for place in _uses(path, "time.sleep")] == []


def test_the_environment_is_read_at_the_edges_alone() -> None:
    """Settings come as arguments; only commands and the loader's callers look around."""
    inner = [path for path in modules(*INSTALLED) if ROOT / "fs9" / "cli" not in path.parents]
    names = ("os.environ", "os.getenv")
    assert [place for path in inner for name in names for place in _uses(path, name)] == []


def _uses(path: Path, name: str) -> list[str]:
    """Where an attribute of a module is named in code, not in a text."""
    module, _, attribute = name.partition(".")
    if name not in path.read_text():  # most have no need to be parsed
        return []
    return [
        _where(path, node.lineno)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and node.attr == attribute
        if isinstance(node.value, ast.Name) and node.value.id == module
    ]


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


def test_files_that_a_page_names_exist() -> None:
    """A path in backquotes that begins with one of our folders; NAME stands for any name."""
    missing = [
        (_where(page), name)
        for page in documents()
        for name in re.findall(
            r"`((?:bench|docs|fs9|router|tests|tools|workers)/[\w./-]+)`", page.read_text()
        )
        if not _exists(name)
    ]
    assert missing == []


def test_what_the_order_of_the_tests_names_exists() -> None:
    assert [name for name in LONGEST_FIRST if not (ROOT / name).exists()] == []


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
