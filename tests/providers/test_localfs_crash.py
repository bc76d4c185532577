"""A process that dies in the middle of a replacement: the old version stays, no garbage does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fs9.errors import NotFound
from fs9.limits import Limits
from fs9.providers import localstage
from fs9.providers.jail import RESERVED_PREFIX, open_jail
from fs9.providers.localfs import LocalFs
from fs9.providers.localticks import Ticks
from fs9.threads import BlockingPool
from fs9.types import READ, REPLACE, StatChanges

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

# argv: root, where to die ("write", "link": between the link and the rename, "loop": told by
# the parent's kill), "named" to go without O_TMPFILE.
VICTIM = """
import asyncio, os, signal, sys
from fs9.limits import Limits
from fs9.providers import localstage
from fs9.providers.jail import open_jail
from fs9.providers.localfs import LocalFs
from fs9.providers.localticks import Ticks
from fs9.threads import BlockingPool
from fs9.types import REPLACE

root, when, how = sys.argv[1:]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

async def put(provider, data):
    file, _ = await provider.open("/d/f", REPLACE)
    await provider.write(file, 0, data[: len(data) // 2])
    if when == "write":
        die()
    await provider.write(file, len(data) // 2, data[len(data) // 2 :])
    await provider.close(file, sync=True)

async def main():
    if how == "named":
        localstage._unnamed = lambda entry: None
    if when == "link":
        os.rename = die
    provider = LocalFs(open_jail(root), Ticks(coarse=False), Limits(), BlockingPool(2))
    print("ready", flush=True)
    number = 0
    while True:
        number += 1
        await put(provider, b"%d" % (number % 10) * 100_000)

asyncio.run(main())
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"old")
    return tmp_path


@pytest.fixture
async def provider(root: Path) -> AsyncIterator[LocalFs]:
    pool = BlockingPool(2)
    provider = LocalFs(open_jail(root), Ticks(coarse=False), Limits(), pool)
    yield provider
    await provider.aclose()
    pool.shutdown()


def victim(root: Path, when: str, how: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(root), when, how], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def killed(process: subprocess.Popen[bytes]) -> None:
    with process:
        assert process.wait(60) == -signal.SIGKILL


async def content(provider: LocalFs, path: str = "/d/f") -> bytes:
    file, _ = await provider.open(path, READ)
    try:
        return bytes(await provider.read(file, 0, 1_000_000))
    finally:
        await provider.close(file)


@pytest.mark.parametrize(
    ("when", "how", "garbage"),
    [("write", "unnamed", 0), ("link", "unnamed", 1), ("write", "named", 1), ("link", "named", 1)],
)
async def test_a_crash_leaves_the_old_version_and_garbage_is_swept(
    root, provider, when, how, garbage
):
    """kill -9 before the swap: old content, nothing listed, and a listing sweeps what is left."""
    killed(victim(root, when, how))
    left = [name for name in os.listdir(root / "d") if name.startswith(RESERVED_PREFIX)]
    assert len(left) == garbage
    assert await content(provider) == b"old"
    assert [info.path for info in await provider.readdir("/d", "", 10)] == ["/d/f"]
    assert os.listdir(root / "d") == ["f"]


async def test_garbage_never_keeps_a_directory(root, provider):
    """rmdir, and a rename over the directory, work although a crash left a reserved name."""
    killed(victim(root, "link", "unnamed"))
    await provider.remove("/d/f")
    assert len(os.listdir(root / "d")) == 1
    (root / "e").mkdir()
    await provider.wstat("/e", StatChanges(name="/d"))
    (root / "d" / (RESERVED_PREFIX + "0123")).write_bytes(b"garbage")
    await provider.remove("/d")
    assert os.listdir(root) == []


async def test_a_kill_at_any_moment_leaves_a_whole_version(root, provider):
    """Killed at random moments while replacing in a loop: always one version, whole."""
    chance = random.Random()
    for _ in range(8):
        process = victim(root, "loop", chance.choice(["named", "unnamed"]))
        for _ in range(chance.randrange(40)):  # as long as so many reads take
            await content(provider)
        process.kill()
        killed(process)
        data = await content(provider)
        assert data == b"old" or (len(data) == 100_000 and len(set(data)) == 1)
        await provider.readdir("/d", "", 10)
        assert os.listdir(root / "d") == ["f"]


async def test_a_living_upload_is_never_taken_for_garbage(root, provider, monkeypatch):
    """Another server on the same directory lists it: the upload goes on (flock)."""
    monkeypatch.setattr(localstage, "_unnamed", lambda entry: None)
    file, _ = await provider.open("/d/f", REPLACE)
    await provider.write(file, 0, b"new")
    pool = BlockingPool(1)
    other = LocalFs(open_jail(root), Ticks(coarse=False), Limits(), pool)
    assert [info.path for info in await other.readdir("/d", "", 10)] == ["/d/f"]
    assert len(os.listdir(root / "d")) == 2
    await other.aclose()
    pool.shutdown()
    await provider.close(file)
    assert await content(provider) == b"new"
    assert os.listdir(root / "d") == ["f"]


async def test_rmdir_ends_an_upload_into_the_directory(root, provider, monkeypatch):
    """Without O_TMPFILE too: the directory goes, the upload then is NotFound."""
    monkeypatch.setattr(localstage, "_unnamed", lambda entry: None)
    os.unlink(root / "d" / "f")
    file, _ = await provider.open("/d/f", REPLACE)
    await provider.remove("/d")
    with pytest.raises(NotFound):
        await provider.close(file)
    assert os.listdir(root) == []


async def test_strange_reserved_names_are_left_alone(root, provider):
    """A directory or FIFO with a reserved name is not ours: not opened, not removed, not shown."""
    (root / "d" / (RESERVED_PREFIX + "dir")).mkdir()
    os.mkfifo(root / "d" / (RESERVED_PREFIX + "fifo"))
    assert [info.path for info in await provider.readdir("/d", "", 10)] == ["/d/f"]
    assert len(os.listdir(root / "d")) == 3
