"""In which order pytest-xdist hands out the test files, with `--dist loadfile`.

It would begin with the files of the most tests, which are quick, and end with those of few tests
that start fleets and wait: the last of them would run alone. Here every other process takes files
from the front, where the longest are, and the rest from the end: so what waits runs beside what
computes, and what is left for the end is short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

#: Where tests start processes or wait, the longest first: files, then folders.
LONGEST_FIRST = (
    "tests/e2e/test_hosts.py",
    "tests/e2e/test_fleet.py",
    "tests/e2e/test_ownership.py",
    "tests/providers/pagefs/test_remote_faults.py",
    "tests/bench/",
    "tests/e2e/test_reload.py",
    "tests/e2e/test_admin.py",
    "tests/e2e/test_secrets.py",
    "tests/workers/test_http_suites.py",
    "tests/deploy/test_dying_worker.py",
    "tests/e2e/",
    "tests/deploy/",
    "tests/workers/",
    "tests/providers/pagefs/",
    "tests/meta/",
    "tests/sim/",
)


def _place(item: pytest.Item) -> int:
    for place, begin in enumerate(LONGEST_FIRST):
        if item.nodeid.startswith(begin):
            return place
    return len(LONGEST_FIRST)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """After pytest-randomly; what has the same place stays in random order."""
    if hasattr(config, "workerinput"):
        items.sort(key=_place)


class FromBothEnds(LoadFileScheduling):
    """Every other process takes the last file that is left."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        if self.nodes.index(node) % 2:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FromBothEnds | None:
    if config.getvalue("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # it would order by the number of tests
    return FromBothEnds(config, log)
