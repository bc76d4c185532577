"""`fs9 scrub`: read every block of every pagefs of a server and verify its checksum.

The server must be stopped. The exit code is 0 when every byte is what was written, else 1.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from fs9.cli.fsck import add_place, show

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "scrub", help="verify the checksums of all stored files", description=__doc__
    )
    add_place(parser)


def run(args: argparse.Namespace) -> int:
    # By name, at call time: commands need nothing of the server but here.
    offline = importlib.import_module("fs9.providers.pagefs.offline")
    return show("scrub", args, offline.scrub_all)
