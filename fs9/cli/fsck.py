"""`fs9 fsck`: check that every pagefs of a server is consistent; mend it.

Those below the data directory, and those of its namespaces that are in databases and buckets.
The server must be stopped. Ends with 0 when all is in order (or was mended), else with 1.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fs9.cli.ending import ERROR, OK, visible
from fs9.config import ConfigError, Flags, load
from fs9.errors import Fs9Error

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from fs9.config import Settings


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "fsck", help="check that stored files are consistent", description=__doc__
    )
    add_place(parser)
    parser.add_argument("--repair", action="store_true", help="mend what can be mended")


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say whose storage is meant."""
    parser.add_argument(
        "--data-dir", required=True, metavar="DIR", help="the server's data directory"
    )
    parser.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="the server's settings, as for `fs9 serve`",
    )


def run(args: argparse.Namespace) -> int:
    # By name, at call time: commands need nothing of the server but here.
    offline = importlib.import_module("fs9.providers.pagefs.offline")
    return show("fsck", args, lambda settings: offline.check_all(settings, repair=args.repair))


def show(command: str, args: argparse.Namespace, look: Callable[[Settings], Iterable[Any]]) -> int:
    """Print one line for each storage and each fault; the exit code."""
    code, found = OK, False
    try:
        settings = load(Flags({"data_dir": args.data_dir}, args.config), os.environ, Path.cwd())
        for finding in look(settings):
            found = True
            place = f"{finding.namespace}:{finding.mount}"
            code = code if finding.ok else ERROR
            report = finding.report
            if report is None:
                print(f"fs9: {command}: {place}: {visible(finding.error)}", file=sys.stderr)
                continue
            verdict = "ok" if report.ok else "FAULTY"
            print(f"{place}: {verdict}, {report.files} files, {report.bytes} bytes")
            for fault in report.faults:
                print(f"  {'mended' if fault in report.mended else 'fault'}: {visible(fault)}")
            for name in report.garbage:
                print(f"  garbage: object {name}")
    except (ConfigError, Fs9Error) as error:
        print(f"fs9: {command}: {error}", file=sys.stderr)
        return ERROR
    if not found:
        print(f"there is no pagefs in {args.data_dir}")
    return code
