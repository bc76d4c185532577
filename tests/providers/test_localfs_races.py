"""localfs under an enemy: another process swaps directories and links all the time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fs9.errors import Fs9Error
from fs9.limits import Limits
from fs9.providers.jail import KernelJail, WalkJail
from fs9.providers.localfs import LocalFs
from fs9.providers.localticks import Ticks
from fs9.threads import BlockingPool
from fs9.types import MKDIR, READ, REPLACE, WRITE, Condition, OpenFlags, StatChanges

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

ROUNDS = 300

# Makes root/d in turn a directory, a link to the outside directory, and nothing; and root/f
# in turn a file, a link to the outside file, and a FIFO.
ENEMY = """
import os, sys
root, outside = sys.argv[1:]
os.chdir(root)
print("ready", flush=True)
while True:
    for step in (
        lambda: os.rename("d", "aside"),
        lambda: os.symlink(outside, "d"),
        lambda: os.unlink("f"),
        lambda: os.symlink(outside + "/secret", "f"),
        lambda: os.unlink("d"),
        lambda: os.rename("aside", "d"),
        lambda: os.unlink("f"),
        lambda: os.mkfifo("f"),
        lambda: os.unlink("f"),
        lambda: open("f", "w").close(),
    ):
        try:
            step()
        except OSError:
            pass
"""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (outside / "empty").mkdir()
    return outside


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (root / "f").write_bytes(b"inside")
    return root


@pytest.fixture
def enemy(root: Path, outside: Path) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", ENEMY, str(root), str(outside)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)


@pytest.fixture(params=[KernelJail, WalkJail], ids=["kernel", "walk"])
async def provider(request, root: Path) -> AsyncIterator[LocalFs]:
    pool = BlockingPool(4)
    held = request.param(os.open(root, os.O_PATH | os.O_DIRECTORY), os.stat(root).st_dev)
    provider = LocalFs(held, Ticks(coarse=False), Limits(), pool)
    yield provider
    await provider.aclose()
    pool.shutdown()


async def read_of(provider: LocalFs, path: str) -> bytes:
    file, _ = await provider.open(path, READ)
    try:
        return bytes(await provider.read(file, 0, 100))
    finally:
        await provider.close(file)


async def write_to(provider: LocalFs, path: str, flags: OpenFlags) -> None:
    file, _ = await provider.open(path, flags)
    try:
        if file.flags.write:
            await provider.write(file, 0, b"tenant")
    finally:
        await provider.close(file)


async def test_no_operation_ever_leaves_the_root(provider, root, outside, enemy):
    """Zero escapes: nothing outside is read, listed, changed, created or removed."""
    operations = (
        lambda: read_of(provider, "/d/secret"),
        lambda: read_of(provider, "/f"),
        lambda: write_to(provider, "/d/secret", WRITE),
        lambda: write_to(provider, "/f", OpenFlags(write=True, truncate=True)),
        lambda: write_to(provider, "/d/new", OpenFlags(write=True, create=True)),
        lambda: write_to(provider, "/d/secret", REPLACE),
        lambda: write_to(provider, "/f", REPLACE),
        lambda: write_to(provider, "/d/made", MKDIR),
        lambda: provider.remove("/d/secret"),
        lambda: provider.remove("/d/empty"),
        lambda: provider.wstat("/d/secret", StatChanges(mode=0o777, size=0, mtime_ns=1)),
        lambda: provider.wstat("/f", StatChanges(mode=0o777, size=0, mtime_ns=1)),
        lambda: provider.wstat("/d/secret", StatChanges(name="/stolen")),
        lambda: provider.wstat("/planted", StatChanges(name="/d/planted")),
        lambda: provider.wstat("/d/link", StatChanges(symlink_target="/etc")),
    )
    reached = 0
    before = os.listdir("/proc/self/fd")
    state = {path: os.lstat(outside / path) for path in (".", "secret", "empty")}
    for _ in range(ROUNDS):
        (root / "planted").write_bytes(b"tenant")
        for operation in operations:
            with contextlib.suppress(Fs9Error):
                result = await operation()
                assert result in (None, b"", b"inside", b"tenant")
                reached += 1
        with contextlib.suppress(Fs9Error):
            names = [info.path for info in await provider.readdir("/d", "", 100)]
            assert "/d/empty" not in names
            await provider.remove("/stolen")
    assert reached > ROUNDS  # the enemy leaves time for most operations to succeed
    assert sorted(os.listdir(outside)) == ["empty", "secret"]
    assert (outside / "secret").read_bytes() == b"secret"
    for path, was in state.items():
        now = os.lstat(outside / path)
        assert (now.st_mode, now.st_ctime_ns) == (was.st_mode, was.st_ctime_ns), path
    assert len(os.listdir("/proc/self/fd")) == len(before)


async def test_of_many_conditional_swaps_exactly_one_wins(provider, root):
    """Uploads that all expect the same version: one is accepted, the others get 412."""
    info = await provider.stat("/f")
    condition = Condition(if_match=(info.etag,))

    async def upload(number: int) -> bool:
        try:  # the condition is asked at the open, too: another one may have won by then
            file, _ = await provider.open("/f", REPLACE, condition)
            await provider.write(file, 0, b"%d" % number)
            await provider.close(file)
        except Fs9Error:
            return False
        return True

    won = await asyncio.gather(*(upload(number) for number in range(20)))
    assert won.count(True) == 1
    assert (root / "f").read_bytes() == b"%d" % won.index(True)


async def test_of_many_creations_exactly_one_wins(provider, root):
    """`If-None-Match: *` swaps, exclusive creates and mkdirs of one name: one succeeds."""
    absent = Condition(if_none_match=("*",))
    exclusive = OpenFlags(write=True, create=True, exclusive=True)

    async def made(flags: OpenFlags, condition: Condition) -> bool:
        try:
            file, _ = await provider.open("/new", flags, condition)
            await provider.close(file)
        except Fs9Error:
            return False
        return True

    always = Condition()
    for _ in range(20):
        tries = [(REPLACE, absent), (exclusive, always), (MKDIR, always)] * 5
        won = await asyncio.gather(*(made(*one) for one in tries))
        assert won.count(True) == 1
        await provider.remove("/new")


async def test_of_many_conditional_removes_exactly_one_wins(provider, root):
    """A remove with a condition is one step: nobody removes a version he did not name."""
    (root / "x").write_bytes(b"1")
    condition = Condition(if_match=((await provider.stat("/x")).etag,))

    async def removed() -> bool:
        try:
            await provider.remove("/x", condition)
        except Fs9Error:
            return False
        return True

    assert (await asyncio.gather(*(removed() for _ in range(20)))).count(True) == 1


async def test_crossing_renames_never_deadlock(provider, root):
    """Renames a to b and b to a at once: locks are taken in one order."""
    for name in ("a", "b"):
        (root / name).write_bytes(name.encode())

    async def move(source: str, target: str) -> None:
        with contextlib.suppress(Fs9Error):
            await provider.wstat(source, StatChanges(name=target))

    moves = [move("/a", "/b"), move("/b", "/a")] * 50
    await asyncio.wait_for(asyncio.gather(*moves), 60)
    assert len(await provider.readdir("/", "", 10)) == 3


async def test_readers_see_whole_versions_during_swaps(provider, root):
    """A reader concurrent with replacements sees one version from begin to end."""
    size = 200_000
    (root / "f").write_bytes(b"0" * size)

    async def rewrite() -> None:
        for number in range(1, 30):
            file, _ = await provider.open("/f", REPLACE)
            await provider.write(file, 0, b"%d" % (number % 10) * size)
            await provider.close(file)

    async def reread() -> None:
        for _ in range(60):
            file, _ = await provider.open("/f", READ)
            first = bytes(await provider.read(file, 0, size // 2))
            await asyncio.sleep(0)
            rest = bytes(await provider.read(file, size // 2, size))
            await provider.close(file)
            assert len(first + rest) == size
            assert len(set(first + rest)) == 1

    await asyncio.gather(rewrite(), reread(), reread())
