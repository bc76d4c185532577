"""A directory of the host and localfs on it, in four ways."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from fs9.limits import Limits
from fs9.providers import localstage
from fs9.providers.jail import KernelJail, WalkJail
from fs9.providers.localfs import LocalFs
from fs9.providers.localticks import Ticks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

from tests.providers.local_calls import BYTES_MAX


@pytest.fixture
def host_root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(b"secret")
    host_root = tmp_path / "root"
    (host_root / "d").mkdir(parents=True)
    (host_root / "f").write_bytes(b"content")
    (host_root / "d" / "x").write_bytes(b"x")
    (host_root / "link").symlink_to("../secret")
    return host_root


@pytest.fixture(params=["kernel", "walk", "coarse", "named"])
async def local(request, host_root: Path, pool, monkeypatch) -> AsyncIterator[LocalFs]:
    walk = WalkJail if request.param == "walk" else KernelJail
    if request.param == "named":
        monkeypatch.setattr(localstage, "_unnamed", lambda entry: None)
    held = walk(os.open(host_root, os.O_PATH | os.O_DIRECTORY), os.stat(host_root).st_dev)
    ticks = Ticks(coarse=request.param == "coarse")
    local = LocalFs(held, ticks, Limits(file_bytes_max=BYTES_MAX), pool)
    yield local
    await local.aclose()
    assert not _open_below(host_root)


def _open_below(host_root: Path) -> list[str]:
    """The descriptors that a test, with all its refusals, left open."""
    names = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [name for name in names if name.startswith(f"{host_root}/")]
