"""The matrix that a run prints tells what happened."""

from __future__ import annotations

import pytest

from tests.fix_conformance import Matrix


def report(nodeid: str, when: str, outcome: str) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid,
        ("f", 1, "d"),
        {},
        outcome,
        None,
        when,  # type: ignore[arg-type]
    )


def test_the_worst_of_a_case_is_told():
    """Of its phases and parameters; what a suite does not have is blank."""
    matrix = Matrix()
    for way, case, when, outcome in (
        ("test_a.py::TestOne", "test_read", "setup", "passed"),
        ("test_a.py::TestOne", "test_read", "call", "passed"),
        ("test_a.py::TestOne", "test_open[x]", "call", "failed"),
        ("test_a.py::TestOne", "test_open[y]", "call", "passed"),
        ("test_b.py::TestTwo", "test_read", "setup", "skipped"),
        ("test_b.py::TestTwo", "test_zero", "call", "passed"),
    ):
        matrix.pytest_runtest_logreport(report(f"tests/conformance/{way}::{case}", when, outcome))
    matrix.pytest_runtest_logreport(report("tests/vfs/test_x.py::test_y", "call", "failed"))
    assert matrix.lines()[1:] == [
        "a: One F.   1 passed, 1 FAILED",
        "b: Two  -.  1 passed, 1 left out",
        ". passed, - left out: the way cannot carry it. 1 open, 2 read, 3 zero",
    ]
