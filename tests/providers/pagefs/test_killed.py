"""A real process, really killed (SIGKILL) at a step: what it acknowledged is there."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fs9.cli.main import main
from fs9.clock import ManualClock
from fs9.limits import Limits
from fs9.providers.pagefs import backends
from fs9.providers.registry import ProviderContext
from tests.arch.tree import ROOT
from tests.providers.pagefs.scenario import NEW, is_there
from tests.providers.pagefs.test_branches import content

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.providers.pagefs.provider import PageFs
    from fs9.threads import BlockingPool

STEPS = [
    "put.before#40",
    "put.after#41",
    "commit.before#200",
    "commit.torn#201",
    "commit.after#202",
    "sync.before#50",
    "blocks.sync#51",
    "sync.after#52",
]


def run_killed(directory: Path, step: str, config: str = "{}") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.providers.pagefs.killed", directory, step, config],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("step", STEPS)
async def test_a_kill_at_a_step(
    step: str, tmp_path: Path, pool: BlockingPool, capsys: pytest.CaptureFixture[str]
) -> None:
    """`fs9 fsck` finds it in order, and every acknowledged version is there, or a newer one."""
    done = await pool.run(run_killed, tmp_path, step)
    assert await pool.run(main, ["fsck", "--data-dir", str(tmp_path)]) == 0
    assert "acme:/: ok" in capsys.readouterr().out
    assert await pool.run(main, ["scrub", "--data-dir", str(tmp_path)]) == 0
    context = ProviderContext("acme", tmp_path, Limits(), ManualClock(), pool)
    await check_acknowledged(await backends.create({}, context), done)


async def check_acknowledged(fs: PageFs, done: subprocess.CompletedProcess[str]) -> None:
    """What the process that was killed has said is there, or what it was about to say."""
    assert done.returncode == -9, done.stderr
    acknowledged: dict[str, int] = {}
    for line in done.stdout.splitlines():
        name, word = line.split()
        acknowledged[name] = int(word)
    assert len(acknowledged) > 5
    newest = max(acknowledged.values())
    for name, number in acknowledged.items():
        if not await is_there(fs, name):
            assert number == -1 or newest % 10 == 9
            continue
        found = await content(fs, name)
        version = int(found[:5])
        assert version >= number
        assert found[5:] == NEW[: version * 300]
    log = await content(fs, "/log")
    numbers = [int(log[at : at + 5]) for at in range(0, len(log), 5)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= newest
    await fs.aclose()


async def test_the_commands_find_faults(
    tmp_path: Path, pool: BlockingPool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flipped bit and a lost object are faults; a storage in use is left alone."""
    from tests.providers.pagefs.scenario import BIG, write

    context = ProviderContext("acme", tmp_path, Limits(), ManualClock(), pool)
    fs = await backends.create({}, context)
    await write(fs, "/f", BIG)
    assert await pool.run(main, ["fsck", "--data-dir", str(tmp_path)]) == 1
    assert "a server has it open" in capsys.readouterr().err
    await fs.aclose()
    (path,) = (tmp_path / "pagefs/acme/%2F/objects").glob("*/*/*")
    whole = path.read_bytes()
    path.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    assert await pool.run(main, ["fsck", "--data-dir", str(tmp_path)]) == 0
    assert await pool.run(main, ["scrub", "--data-dir", str(tmp_path)]) == 1
    assert "checksum" in capsys.readouterr().out
    path.unlink()
    assert await pool.run(main, ["fsck", "--data-dir", str(tmp_path)]) == 1
    assert "no object" in capsys.readouterr().out
    assert await pool.run(main, ["fsck", "--data-dir", str(tmp_path / "none")]) == 1
