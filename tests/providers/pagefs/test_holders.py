"""fs9.providers.pagefs.holders: a file that ended one worker does not end the next ones."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from fs9 import crashes
from fs9.clock import SystemClock
from fs9.errors import Internal
from fs9.limits import Limits
from fs9.providers.pagefs import apart, backends
from fs9.providers.registry import ProviderContext
from tests.providers.pagefs.scenario import write
from tests.providers.pagefs.test_branches import content

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.threads import BlockingPool


@pytest.fixture
def context(tmp_path: Path, pool: BlockingPool, monkeypatch: pytest.MonkeyPatch) -> ProviderContext:
    """In a worker whose last words would be in `own`."""
    (tmp_path / "own").touch()
    monkeypatch.setattr(crashes, "_own", str(tmp_path / "own"))
    return ProviderContext("acme", tmp_path, Limits(), SystemClock(), pool)


def crash(context: ProviderContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """This worker was ended by a fatal signal; from here on it is the next one."""
    (context.data_dir / "own").write_text("Fatal Python error: Bus error")
    monkeypatch.setattr(crashes, "_own", str(context.data_dir / "next"))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The directories that another process was asked to read."""
    asked: list[Path] = []
    look = apart.look

    def counted(see: Any, directories: Any, **how: Any) -> Any:
        asked.extend(directories)
        return look(see, directories, **how)

    monkeypatch.setattr(apart, "look", counted)
    return asked


async def test_damage_that_ended_a_worker_is_refused_until_it_is_mended(
    context: ProviderContext, looks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an error that says what to do; the file is read once for it."""
    fs = await backends.create({}, context)
    await write(fs, "/f", b"kept")
    await fs.aclose()
    directory = context.data_dir / "pagefs/acme/%2F"
    data = directory / "meta/data.mdb"
    shutil.copy(data, context.data_dir / "backup")
    os.truncate(data, 2 * 4096)
    crash(context, monkeypatch)
    for _ in range(2):
        with pytest.raises(Internal, match="reading it ends the process: see `fs9 fsck`"):
            await backends.create({}, context)
    assert looks == [directory]
    shutil.copy(context.data_dir / "backup", data)
    for _ in range(2):
        fs = await backends.create({}, context)
        assert await content(fs, "/f") == b"kept"
        await fs.aclose()
    assert looks == [directory] * 2


async def test_a_storage_in_order_is_opened_whatever_ended_its_worker(
    context: ProviderContext, looks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash it is read once before; after a SIGKILL not even that."""
    killed = context.data_dir / "killed"
    killed.touch()
    monkeypatch.setattr(crashes, "_own", str(killed))
    fs = await backends.create({}, context)
    await write(fs, "/f", b"kept")
    await fs.aclose()
    monkeypatch.setattr(crashes, "_own", str(context.data_dir / "own"))
    fs = await backends.create({}, context)
    await fs.aclose()
    assert looks == []
    crash(context, monkeypatch)
    for _ in range(2):
        fs = await backends.create({}, context)
        assert await content(fs, "/f") == b"kept"
        await fs.aclose()
    assert looks == [context.data_dir / "pagefs/acme/%2F"]
