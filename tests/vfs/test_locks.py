"""fs9.vfs.locks: one holder at a time, and none that is dead."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from fs9.errors import OwnerUnavailable
from fs9.vfs.locks import NO_LOCKS, FileLocks

if TYPE_CHECKING:
    from pathlib import Path

# A process that takes the lock, says so, and never lets it go by itself.
_HOLDER = """
import asyncio, sys
from pathlib import Path
from fs9.vfs.locks import FileLocks

async def main():
    await FileLocks(Path(sys.argv[1]), 5.0).acquire("acme")
    print("held", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_second_waits_until_the_first_lets_go(tmp_path: Path):
    first, second = FileLocks(tmp_path, 5.0), FileLocks(tmp_path, 5.0)
    await first.acquire("acme")
    waiting = asyncio.create_task(second.acquire("acme"))
    await second.acquire("other")  # another namespace is another lock
    await asyncio.sleep(0.03)
    assert not waiting.done()
    first.release("acme")
    await asyncio.wait_for(waiting, 60)
    second.release("acme")
    await first.acquire("acme")
    assert (tmp_path / "acme").exists()
    first.release("acme")
    second.release("other")


async def test_the_wait_is_bounded_and_leaves_nothing(tmp_path: Path):
    first, second = FileLocks(tmp_path, 5.0), FileLocks(tmp_path, 0.03)
    await first.acquire("acme")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OwnerUnavailable):
        await second.acquire("acme")
    assert len(os.listdir("/proc/self/fd")) == before
    first.release("acme")
    await second.acquire("acme")
    second.release("acme")


async def test_a_cancelled_wait_holds_nothing(tmp_path: Path):
    first, second = FileLocks(tmp_path, 5.0), FileLocks(tmp_path, 5.0)
    await first.acquire("acme")
    waiting = asyncio.create_task(second.acquire("acme"))
    await asyncio.sleep(0.02)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    first.release("acme")
    await asyncio.wait_for(first.acquire("acme"), 5)
    first.release("acme")


async def test_a_killed_process_frees_its_lock_and_a_stopped_one_keeps_it(tmp_path: Path):
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HOLDER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(OwnerUnavailable):
        await FileLocks(tmp_path, 0.05).acquire("acme")
    waiting = asyncio.create_task(FileLocks(tmp_path, 10.0).acquire("acme"))
    await asyncio.sleep(0.02)
    holder.kill()
    await asyncio.wait_for(waiting, 60)
    assert await holder.wait() == -signal.SIGKILL


async def test_what_a_holder_notes_is_known_while_it_holds(tmp_path: Path):
    first, second = FileLocks(tmp_path, 5.0), FileLocks(tmp_path, 5.0)
    assert second.noted("acme") == ""
    first.note("acme", "1")  # it holds nothing
    await first.acquire("acme")
    assert second.noted("acme") == ""
    first.note("acme", "12")
    assert second.noted("acme") == "12"
    first.note("acme", "3")
    assert second.noted("acme") == "3"
    first.note("acme", "")
    assert second.noted("acme") == ""
    first.note("acme", "4")
    first.release("acme")
    assert second.noted("acme") == ""
    assert (tmp_path / "acme").stat().st_size == 0


async def test_the_note_of_a_killed_holder_says_nothing(tmp_path: Path):
    (tmp_path / "acme").write_text("7")
    locks, other = FileLocks(tmp_path, 5.0), FileLocks(tmp_path, 5.0)
    assert other.noted("acme") == ""
    await locks.acquire("acme")
    assert other.noted("acme") == ""
    locks.release("acme")


async def test_without_a_fleet_nobody_waits():
    NO_LOCKS.note("acme", "1")
    assert NO_LOCKS.noted("acme") == ""
    await NO_LOCKS.acquire("acme")
    await NO_LOCKS.acquire("acme")
    NO_LOCKS.release("acme")
