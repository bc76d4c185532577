"""The clients of a test process share one TLS context: to load the certificates for one takes
longer than most tests, and they speak plain HTTP."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from httpx2._transports import default

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def certificates_loaded_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(default.create_ssl_context)
        patch.setattr(default, "create_ssl_context", once)
        yield
