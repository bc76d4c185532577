"""The files of the repository, for tests about the code itself."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

#: What is installed, and everything else that is written in Python here.
INSTALLED = ("fs9", "router", "workers")
ALL = (*INSTALLED, "bench", "tests", "tools")


def modules(*packages: str) -> list[Path]:
    """Every Python file of the packages, sorted; empty `__init__.py` of tests are left out."""
    found = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    return sorted(path for path in found if path.stat().st_size)


def documents() -> list[Path]:
    """Every page for people."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))
