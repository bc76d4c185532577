"""docs/security.md names a test for each of its lines, and each of them exists."""

from __future__ import annotations

import ast
import re
from functools import lru_cache

import pytest

from tests.arch.tree import ROOT

PAGE = ROOT / "docs" / "security.md"
_REFERENCE = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
_ROW = re.compile(r"^\| (W-\w+) \| (.+?) \| (.+) \|$", re.MULTILINE)
WEAKNESSES = [
    *(f"W-A{number}" for number in range(1, 17)),
    *(f"W-S{number}" for number in range(1, 5)),
    *(f"W-D{number}" for number in range(1, 12)),
    *(f"W-O{number}" for number in range(1, 8)),
    *("W-C8", "W-C19", "W-C21"),
]


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
    """In the order of the list."""
    assert [row[0] for row in _ROW.findall(PAGE.read_text())] == WEAKNESSES


@pytest.mark.parametrize("row", _ROW.findall(PAGE.read_text()), ids=lambda row: row[0])
def test_each_weakness_names_a_test(row: tuple[str, str, str]) -> None:
    """And says how it is avoided."""
    _, how, held_by = row
    assert len(how) > 20
    assert _REFERENCE.search(held_by)
