"""What a test made of the loggers ends with it: handlers of `fs9.observe.log` and levels."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from fs9.observe.log import FieldHandler

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    yield
    for handler in [item for item in root.handlers if isinstance(item, FieldHandler)]:
        root.removeHandler(handler)
    root.setLevel(level)
