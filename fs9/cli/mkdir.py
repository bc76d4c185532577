"""`fs9 mkdir`: make directories."""

from __future__ import annotations

import argparse

from fs9.cli.connection import add_options, connect
from fs9.cli.ending import Ending, command
from fs9.cli.paths import remote
from fs9.errors import AlreadyExists, Fs9Error, NotFound


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("mkdir", help="make directories", description=__doc__)
    parser.add_argument("paths", metavar="PATH", nargs="+")
    parser.add_argument(
        "-p",
        "--parents",
        action="store_true",
        help="also make missing parents; existing directories are no error",
    )
    parser.add_argument("-m", "--mode", type=_octal, help="the mode, in octal")
    add_options(parser)


@command("mkdir")
def run(args: argparse.Namespace, ending: Ending) -> int:
    with connect(args) as client:
        for argument in args.paths:
            path = remote(argument)
            try:
                client.mkdir(path, parents=args.parents)
                if args.mode is not None:
                    client.chmod(path, args.mode)
            except Fs9Error as error:
                ending.fail(argument, error, _hint(error))
    return ending.code


def _octal(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise argparse.ArgumentTypeError(f"{text!r} is not a mode such as 755")
    return mode


def _hint(error: Fs9Error) -> str | None:
    if isinstance(error, NotFound):
        return "use -p to make the missing parents"
    return "use -p if it may exist" if isinstance(error, AlreadyExists) else None
