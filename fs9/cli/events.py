"""`fs9 meta verify`: check the hash chains of all audit trails, in the database itself."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from typing import TYPE_CHECKING

from fs9.cli.ending import ERROR, OK, Ending, visible
from fs9.errors import Fs9Error
from fs9.observe.audit_chain import ChainCheck, Tip

if TYPE_CHECKING:
    from fs9.config import Settings

_TIP = re.compile(r"(\d{1,18}):([0-9a-f]{64}|)")


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--namespace", metavar="NS", help="verify only this namespace")
    parser.add_argument(
        "--noted",
        type=_tip,
        metavar="N:DIGEST",
        help="with --namespace: check that a tip that was printed earlier is still there",
    )


def _tip(text: str) -> Tip:
    found = _TIP.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError("expected a tip as it was printed: N:DIGEST")
    return Tip(int(found[1]), found[2])


def verify(settings: Settings, name: str | None, noted: Tip | None) -> int:
    """Print a line for each chain; 1 when one is broken or the database cannot be read."""
    ending = Ending("meta verify")
    if noted is not None and name is None:
        print("fs9: meta verify: --noted needs --namespace", file=sys.stderr)
        return ERROR
    broken: list[str] = []

    def report(name: str, check: ChainCheck) -> None:
        if check.broken is None:
            print(f"{name}: whole, {check.extent}, tip {check.tip}")
        else:
            broken.append(name)
            print(f"{name}: broken at {visible(str(check.broken))}")

    # By name, at call time: commands are no part of the server.
    module = importlib.import_module("fs9.meta.verify")
    try:
        module.verify(settings, name, noted, report)
    except (Fs9Error, OSError) as error:
        ending.fail(None, error)
        return ending.code
    return ERROR if broken else OK
