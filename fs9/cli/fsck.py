"""`fs9 fsck`: check that every pagefs below a data directory is consistent; mend it.

The server must be stopped. Ends with 0 when all is in order (or was mended), else with 1.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fs9.cli.ending import ERROR, OK
from fs9.errors import Fs9Error

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "fsck", help="check that stored files are consistent", description=__doc__
    )
    parser.add_argument(
        "--data-dir", required=True, type=Path, metavar="DIR", help="the server's data directory"
    )
    parser.add_argument("--repair", action="store_true", help="mend what can be mended")


def run(args: argparse.Namespace) -> int:
    # By name, at call time: commands need nothing of the server but here.
    offline = importlib.import_module("fs9.providers.pagefs.offline")
    return show("fsck", lambda: offline.check_all(args.data_dir, repair=args.repair))


def show(command: str, look: Callable[[], Iterable[Any]]) -> int:
    """Print one line for each storage and each fault; the exit code."""
    code = OK
    try:
        for finding in look():
            place = f"{finding.namespace}:{finding.mount}"
            code = code if finding.ok else ERROR
            report = finding.report
            if report is None:
                print(f"fs9: {command}: {place}: {finding.error}", file=sys.stderr)
                continue
            verdict = "ok" if report.ok else "FAULTY"
            print(f"{place}: {verdict}, {report.files} files, {report.bytes} bytes")
            for fault in report.faults:
                print(f"  {'mended' if fault in report.mended else 'fault'}: {fault}")
            for name in report.garbage:
                print(f"  garbage: object {name}")
    except Fs9Error as error:
        print(f"fs9: {command}: {error}", file=sys.stderr)
        return ERROR
    return code
