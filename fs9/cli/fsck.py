"""`fs9 fsck`: check that every pagefs of a server is consistent; mend it.

Those below the data directory, and those of its namespaces that are in databases and buckets.
The server must be stopped. Ends with 0 when all is in order (or was mended), else with 1.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fs9.cli.ending import ERROR, OK, visible
from fs9.cli.show import print_json
from fs9.config import ConfigError, Flags, load
from fs9.errors import Fs9Error

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence

    from fs9.config import Settings


class _Report(Protocol):
    files: int
    bytes: int
    faults: list[str]
    mended: list[str]
    garbage: list[str]

    @property
    def ok(self) -> bool: ...


class Finding(Protocol):
    """See `fs9.providers.pagefs.offline`."""

    @property
    def namespace(self) -> str: ...
    @property
    def mount(self) -> str: ...
    @property
    def report(self) -> _Report | None: ...
    @property
    def error(self) -> str: ...
    @property
    def unused(self) -> bool: ...
    @property
    def ok(self) -> bool: ...


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "fsck", help="check that stored files are consistent", description=__doc__
    )
    add_place(parser)
    parser.add_argument("--repair", action="store_true", help="mend what can be mended")


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say whose storage is meant, and how to tell what was found."""
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
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(args: argparse.Namespace) -> int:
    # By name, at call time: commands need nothing of the server but here.
    offline = importlib.import_module("fs9.providers.pagefs.offline")
    return show("fsck", args, lambda settings: offline.check_all(settings, repair=args.repair))


def show(
    command: str, args: argparse.Namespace, look: Callable[[Settings], Iterable[Finding]]
) -> int:
    """Print one line for each storage and each fault, or one JSON document; the exit code."""
    findings = []
    try:
        settings = load(Flags({"data_dir": args.data_dir}, args.config), os.environ, Path.cwd())
        for finding in look(settings):
            findings.append(finding)
            if not args.json:
                _print(command, finding)
    except (ConfigError, Fs9Error) as error:
        print(f"fs9: {command}: {error}", file=sys.stderr)
        return ERROR
    if args.json:
        print_json(_document(findings))
    elif not findings:
        print(f"there is no pagefs in {args.data_dir}")
    return OK if all(finding.ok for finding in findings) else ERROR


def _print(command: str, finding: Finding) -> None:
    place, report = f"{finding.namespace}:{finding.mount}", finding.report
    if finding.unused:
        print(f"{place}: ok, never used")
        return
    if report is None:
        print(f"fs9: {command}: {place}: {visible(finding.error)}", file=sys.stderr)
        return
    verdict = "ok" if report.ok else "FAULTY"
    print(f"{place}: {verdict}, {report.files} files, {report.bytes} bytes")
    for fault in report.faults:
        print(f"  {'mended' if fault in report.mended else 'fault'}: {visible(fault)}")
    for name in report.garbage:
        print(f"  garbage: object {name}")


def _document(findings: Sequence[Finding]) -> dict[str, object]:
    """What `--json` prints: a sum, and a finding for each storage."""
    reports = [finding.report for finding in findings if finding.report is not None]
    return {
        "ok": all(finding.ok for finding in findings),
        "counts": {
            "storages": len(findings),
            "not_ok": sum(not finding.ok for finding in findings),
            "faults": sum(len(report.faults) for report in reports),
            "mended": sum(len(report.mended) for report in reports),
            "garbage": sum(len(report.garbage) for report in reports),
        },
        "findings": [_finding(finding) for finding in findings],
    }


def _finding(finding: Finding) -> dict[str, object]:
    found: dict[str, object] = {
        "namespace": finding.namespace,
        "mount": finding.mount,
        "ok": finding.ok,
    }
    report = finding.report
    if report is None:
        return found | ({"unused": True} if finding.unused else {"error": finding.error})
    return found | {
        "files": report.files,
        "bytes": report.bytes,
        "faults": [{"fault": fault, "mended": fault in report.mended} for fault in report.faults],
        "garbage": report.garbage,
    }
