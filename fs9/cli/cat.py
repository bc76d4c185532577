"""`fs9 cat`: the bytes of files, one after the other, to the standard output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fs9.cli.connection import add_options, connect
from fs9.cli.ending import Ending, command
from fs9.cli.paths import remote
from fs9.errors import Fs9Error, IsDirectory

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "cat", help="write files to the standard output", description=__doc__
    )
    parser.add_argument("paths", metavar="PATH", nargs="+")
    add_options(parser)


@command("cat")
def run(args: argparse.Namespace, ending: Ending) -> int:
    out = sys.stdout.buffer
    with connect(args) as client:
        for argument in args.paths:
            try:
                path = client.stat(remote(argument), follow=True).path
                with client.download_stream(path) as download:
                    for piece in download:
                        out.write(piece)
            except Fs9Error as error:
                hint = "list it with `fs9 ls`" if isinstance(error, IsDirectory) else None
                ending.fail(argument, error, hint)
    out.flush()
    return ending.code
