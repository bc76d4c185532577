"""workers.slots: what is kept in the run directory, also when there is no room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.slots import RunDirectory

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_front_that_cannot_be_lent_is_no_error_of_who_leaves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On a full disk a worker still leaves, and the arbiter still buries one."""
    directory = RunDirectory(tmp_path)
    in_the_way = tmp_path / "slot-1.front.new"
    in_the_way.mkdir()
    directory.lend_front(1, 0)
    assert "the front of slot 1 stays without a listener" in caplog.text
    in_the_way.rmdir()
    directory.lend_front(1, 0)
    assert directory.front_socket(1).readlink().name == "slot-0.front"
