"""`fs9 version`: what is installed here."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from fs9 import __version__
from fs9.cli.show import print_json

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("version", help="print the version", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    if args.json:
        print_json({"fs9": __version__, "python": platform.python_version()})
    else:
        print(f"fs9 {__version__}")
    return 0
