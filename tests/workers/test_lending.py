"""A lent file is there by its name for a while, and its descriptor for longer than that."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from fs9.threads import BlockingPool
from tests.workers.fix_bus import until
from workers import lending
from workers.lending import Lender

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def pool() -> Iterator[BlockingPool]:
    pool = BlockingPool(2)
    yield pool
    pool.shutdown()


async def test_the_name_goes_first_and_the_descriptor_after(
    tmp_path: Path, pool: BlockingPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lending, "_LENT_S", 3600)
    monkeypatch.setattr(lending, "_GRACE_S", 3600)
    (tmp_path / "f").write_bytes(b"bytes")
    lender = Lender(tmp_path / "lent", "/.x/", 3, pool)
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    place = await lender.lend(fd)
    os.close(fd)
    assert place is not None
    assert place.startswith("/.x/3/")
    name = tmp_path / "lent" / place.removeprefix("/.x/")
    (tmp_path / "f").unlink()
    assert name.read_bytes() == b"bytes"
    descriptor = name.readlink()
    lender._withdraw(name.name)
    await until(lambda: not name.is_symlink())
    assert descriptor.read_bytes() == b"bytes", "who has found the name finds the file"
    lender.close()
    os.close(int(descriptor.name))


async def test_what_is_lent_is_taken_back_after_its_time(
    tmp_path: Path, pool: BlockingPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name and the descriptor, so that another file can be lent."""
    monkeypatch.setattr(lending, "_LENT_S", 0)
    monkeypatch.setattr(lending, "_GRACE_S", 0)
    lender = Lender(tmp_path / "lent", "/.x/", 3, pool)
    lender._count_max = 1
    with (tmp_path / "f").open("wb") as file:
        assert await lender.lend(file.fileno()) is not None
        await until(lambda: not lender._count)
        assert not list((tmp_path / "lent" / "3").iterdir())
        await until(lambda: len(open_descriptors_of(tmp_path / "f")) == 1)
        assert await lender.lend(file.fileno()) is not None
        await until(lambda: not lender._count)
    await until(lambda: not open_descriptors_of(tmp_path / "f"))
    lender.close()


def open_descriptors_of(path: Path) -> list[int]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the directory itself
            if os.readlink(f"/proc/self/fd/{fd}") == str(path):
                found.append(int(fd))
    return found


async def test_no_more_is_lent_than_may_be(tmp_path: Path, pool: BlockingPool) -> None:
    lender = Lender(tmp_path / "lent", "/.x/", 0, pool)
    lender._count_max = 2
    with (tmp_path / "f").open("wb") as file:
        places = [await lender.lend(file.fileno()) for _ in range(3)]
    assert places[2] is None
    assert None not in places[:2]
    lent = list(lender._lent.values())
    lender.close()
    assert not list((tmp_path / "lent" / "0").iterdir())
    for fd in lent:
        os.close(fd)


async def test_what_a_killed_worker_left_is_removed(tmp_path: Path, pool: BlockingPool) -> None:
    (tmp_path / "lent" / "0").mkdir(parents=True)
    (tmp_path / "lent" / "0" / "old").symlink_to("/proc/1/fd/0")
    (tmp_path / "lent" / "1").mkdir()
    (tmp_path / "lent" / "1" / "other").symlink_to("/proc/1/fd/0")
    Lender(tmp_path / "lent", "/.x/", 0, pool).close()
    assert [path.name for path in (tmp_path / "lent").glob("*/*")] == ["other"]


async def test_without_a_directory_nothing_is_lent(tmp_path: Path, pool: BlockingPool) -> None:
    lender = Lender(tmp_path / "lent", "/.x/", 0, pool)
    (tmp_path / "lent" / "0").rmdir()
    assert await lender.lend(0) is None
    assert not lender._count
