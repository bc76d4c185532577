"""`fs9 rm`: remove files and symbolic links, and with -r whole directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.cli.connection import add_options, connect
from fs9.cli.ending import Ending, command
from fs9.cli.paths import remote
from fs9.errors import Fs9Error, IsDirectory, NotFound

if TYPE_CHECKING:
    import argparse

    from fs9.client.sync import Client


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("rm", help="remove files, or trees with -r", description=__doc__)
    parser.add_argument("paths", metavar="PATH", nargs="+")
    parser.add_argument("-r", "-R", "--recursive", action="store_true", help="directories, too")
    parser.add_argument("-f", "--force", action="store_true", help="ignore files that do not exist")
    add_options(parser)


@command("rm")
def run(args: argparse.Namespace, ending: Ending) -> int:
    with connect(args) as client:
        for argument in args.paths:
            try:
                _remove(client, remote(argument), args, ending)
            except NotFound as error:
                if not args.force:
                    ending.fail(argument, error)
            except Fs9Error as error:
                hint = "use -r to remove directories" if isinstance(error, IsDirectory) else None
                ending.fail(argument, error, hint)
    return ending.code


def _remove(client: Client, path: str, args: argparse.Namespace, ending: Ending) -> None:
    if not client.stat(path).is_dir:
        client.remove(path)
    elif args.recursive:
        for failed, error in client.remove_tree(path).failures:
            ending.fail(failed, error)
    else:
        raise IsDirectory(path)
