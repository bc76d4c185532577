"""Every benchmark runs and prints its rows. How fast it is, is not asked here."""

import os
import subprocess
import sys

import pytest

from bench.__main__ import names

#: What each of ours compares; a row for each must be there.
ROWS = {
    "abuse": ["| 50 connections, each asks again at once |", "| 10,000 forged tokens/s"],
    "handoff": ["alternating, hand-off only", "alternating, forwarding"],
    "memory": ["verified token", "idle connection", "upload of", "download of"],
    "plugins": ["read 4 KiB", "write 1 MiB"],
    "requests": ["| Falcon |", "| fast lane |"],
    "slow_clients": ["| without |", "| without, again |", "| with |"],
    "takeover": ["| drain of a slot |", "| kill -9", "Lost or wrong: 0 []"],
    "transfers": ["| fs9 |", "recv_into + pwrite", "fs9 behind Falcon"],
}


def run(*arguments):
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        env=kept,
        check=False,
    )


@pytest.mark.parametrize("name", names())
def test_a_benchmark_prints_its_rows(name):
    """`python -m bench NAME --quick` succeeds and has measured something."""
    done = run(name, "--quick")
    assert done.returncode == 0, done.stderr
    title, *rows = [line for line in done.stdout.splitlines() if line]
    assert title == f"== {name}"
    assert rows
    for row in ROWS.get(name, []):
        assert row in done.stdout


def test_all_of_ours_are_found():
    """A benchmark is a module with `run`; what only supports them is none."""
    assert ROWS.keys() <= set(names())
    assert not {"load", "fleet", "cpu", "peer", "rounds", "nginx", "others"} & set(names())


def test_an_unknown_name_is_refused_with_those_there_are():
    done = run("nonsense")
    assert done.returncode == 2
    assert "requests" in done.stderr
