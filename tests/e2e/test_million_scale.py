"""`scripts/test-million-scale.sh`: what holds is said to hold, and what does not is found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.arch.tree import ROOT
from tests.fix_fleet import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fix_fleet import Fleet

SCRIPT = ROOT / "scripts" / "test-million-scale.sh"
LIMITED = "server: {rate_limit: {enabled: true, user_qps: 50}}\n"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def check(url: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.run(
        [str(SCRIPT), url], env=kept | environ, capture_output=True, text=True, timeout=150
    )


def lines(done: subprocess.CompletedProcess[str], mark: str) -> list[str]:
    return [line for line in done.stdout.splitlines() if line.startswith(mark)]


def test_a_guarded_fleet_with_limits_holds_all(
    start_fleet: Callable[..., Fleet], metadata: dict[str, str]
) -> None:
    """Every check is made, a drain too, and holds; the secret and tokens are nowhere."""
    environ = {"FS9_JWT_SECRET": SECRET} | metadata
    fleet = start_fleet(workers=2, yaml=LIMITED, environ=environ)
    fs9 = f"{sys.executable} -m fs9.cli.main"
    done = check(fleet.url, FS9_JWT_SECRET=SECRET, FS9_DATA_DIR=str(fleet.data_dir), FS9=fs9)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert lines(done, "FAIL") == lines(done, "skip") == []
    about = {line[6:].partition(":")[0] for line in lines(done, "ok")}
    assert about >= {
        *("health", "metrics", "authentication", "tokens", "roles", "narrowed", "isolation"),
        *("limits", "rate limit", "refresh", "revocation", "audit", "drain"),
    }
    assert SECRET not in done.stdout
    assert "eyJ" not in done.stdout


def test_what_does_not_hold_is_found(start_fleet: Callable[..., Fleet]) -> None:
    """Without limits that check fails and the others hold; with another secret little is left."""
    fleet = start_fleet(workers=2, environ={"FS9_JWT_SECRET": SECRET})
    done = check(fleet.url, FS9_JWT_SECRET=SECRET, FS9_BURST="200")
    assert (done.returncode, done.stderr) == (1, ""), done.stdout + done.stderr
    (failure,) = lines(done, "FAIL")
    assert failure.startswith("FAIL  rate limit: ")
    assert len(lines(done, "ok")) > 30
    done = check(fleet.url, FS9_JWT_SECRET="another secret")
    assert done.returncode == 1
    assert lines(done, "FAIL")[0].startswith("FAIL  tokens: the server does not know")
    done = check(fleet.url)
    assert (done.returncode, len(lines(done, "skip"))) == (0, 1), done.stdout


def test_an_open_server_does_not_pass(start_fleet: Callable[..., Fleet]) -> None:
    """Authentication that is off is a failure; a server that is not there is another one."""
    fleet = start_fleet(workers=1)
    done = check(fleet.url, FS9_JWT_SECRET=SECRET)
    assert done.returncode == 1
    assert lines(done, "FAIL") == [
        "FAIL  authentication: is off: a request without a token was answered 200"
    ]
    fleet.stop()
    assert check(fleet.url).returncode == 2
    assert check("nonsense").returncode == 2
