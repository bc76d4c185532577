"""The conformance matrix: at the end of a run, which provider passed which case of the suites.

Made of the reports, which pytest-xdist brings to one process, so it is whole with `-n`.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_CASE = re.compile(r"tests/conformance/test_(\w+)\.py::Test(\w+)::test_(\w+)")
#: What the worst phase or parameter of a case says goes into its cell.
_WORST = {"passed": 0, "skipped": 1, "failed": 2}
_MARKS = ".-F"
_LINE = 100


class Matrix:
    """Rows are the ways to a provider, columns the cases."""

    def __init__(self) -> None:
        self._cells: dict[str, dict[str, int]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = _CASE.match(report.nodeid)
        if found is None:
            return
        module, way, case = found.groups()
        row = self._cells.setdefault(f"{module}: {way}", {})
        row[case] = max(row.get(case, 0), _WORST[report.outcome])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if len(self._cells) < 2:  # one row is no matrix; a single test needs none
            return
        terminalreporter.section("conformance: providers x cases")
        for line in self.lines():
            terminalreporter.write_line(line)

    def lines(self) -> list[str]:
        cases = sorted({case for row in self._cells.values() for case in row})
        width = max(map(len, self._cells))
        tens = "".join(str(number // 10) if number % 10 == 0 else " " for number in _count(cases))
        found = ["".rjust(width) + " " + tens]
        for name, row in sorted(self._cells.items()):
            cells = "".join(_MARKS[row[case]] if case in row else " " for case in cases)
            values = list(row.values())
            told = [f"{values.count(0)} passed"]
            told += [f"{values.count(1)} left out"] if 1 in values else []
            told += [f"{values.count(2)} FAILED"] if 2 in values else []
            found.append(f"{name.ljust(width)} {cells}  {', '.join(told)}")
        names = ", ".join(f"{n} {case}" for n, case in zip(_count(cases), cases, strict=True))
        legend = f"{_MARKS[0]} passed, {_MARKS[1]} left out: the way cannot carry it. {names}"
        return found + textwrap.wrap(legend, _LINE)


def _count(cases: list[str]) -> range:
    return range(1, len(cases) + 1)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # in the process that has all reports
        config.pluginmanager.register(Matrix(), "conformance-matrix")
