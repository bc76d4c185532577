"""docs/security.md names a test for each of its lines, and each of them exists."""

from __future__ import annotations

import ast
import re
from functools import lru_cache

from tests.arch.tree import ROOT

PAGE = ROOT / "docs" / "security.md"
_REFERENCE = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
_ROW = re.compile(r"^\| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)


def known_weaknesses() -> list[tuple[str, str, str]]:
    """The rows about weaknesses: what was wrong, how it is avoided, and the tests."""
    _, _, rest = PAGE.read_text().partition("\n## Known weaknesses")
    section, _, _ = rest.partition("\n## ")
    return [row for row in _ROW.findall(section) if row[0] not in {"Weakness", "---"}]


@lru_cache
def functions_in(file: str) -> frozenset[str]:
    """The names of all test functions and methods in a file."""
    tree = ast.parse((ROOT / file).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def test_each_test_that_the_page_names_exists() -> None:
    """By file and function; what looks like a reference is one."""
    text = PAGE.read_text()
    named = _REFERENCE.findall(text)
    assert len(named) == text.count("::test_")
    missing = [f"{file}::{name}" for file, name in named if name not in _tests_if_there(file)]
    assert missing == []


def _tests_if_there(file: str) -> frozenset[str]:
    return functions_in(file) if (ROOT / file).exists() else frozenset()


def test_each_weakness_has_its_line_once() -> None:
    """None gets lost when the page is edited."""
    weaknesses = [weakness for weakness, _, _ in known_weaknesses()]
    assert len(set(weaknesses)) == len(weaknesses) == 41


def test_each_weakness_is_a_sentence_and_names_a_test() -> None:
    """What was wrong, and how it is avoided, can be understood without another document."""
    for weakness, how, held_by in known_weaknesses():
        assert weakness.endswith("."), weakness
        assert how.endswith("."), weakness
        assert min(len(weakness), len(how)) > 20, weakness
        assert _REFERENCE.search(held_by), weakness
