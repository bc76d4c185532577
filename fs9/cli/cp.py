"""`fs9 cp`: copy files on the server, and with -r whole trees.

Both sides are paths of the server; `fs9 put` and `fs9 get` cross to this host. The bytes
travel through this program; modes and times are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.cli.connection import add_options, connect
from fs9.cli.ending import Ending, UsageError, command
from fs9.cli.paths import base_name, remote, remote_target
from fs9.cli.progress import Progress
from fs9.cli.trees import RemoteTarget, add_tree_options, conclude, tree_options
from fs9.errors import Fs9Error, InvalidArgument
from fs9.path import is_within

if TYPE_CHECKING:
    import argparse

    from fs9.client.sync import Client


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "cp",
        help="copy files or trees on the server",
        description=__doc__,
        usage="fs9 cp [OPTION]... PATH... TARGET",
    )
    parser.add_argument("paths", metavar="PATH... TARGET", nargs="+")
    add_tree_options(parser)
    add_options(parser)


@command("cp")
def run(args: argparse.Namespace, ending: Ending) -> int:
    *sources, target = args.paths
    if not sources:
        raise UsageError("missing operand: `fs9 cp PATH... TARGET`")
    with connect(args) as client:
        for source in sources:
            try:
                if client.stat(remote(source), follow=not args.recursive).is_dir:
                    _copy_tree(client, source, target, args, ending)
                else:
                    _copy_file(client, source, sources, args)
            except (Fs9Error, UsageError) as error:
                ending.fail(source, error)
    return ending.code


def _copy_file(client: Client, source: str, sources: list[str], args: argparse.Namespace) -> None:
    targets = dict(remote_target(client, sources, args.paths[-1]))
    copy = targets[source]
    path = client.stat(remote(source), follow=not args.recursive).path
    if path == copy:
        raise InvalidArgument(f"{path} and {copy} are the same file")
    with Progress(f"cp {path}", quiet=args.quiet) as progress:
        client.copy(path, copy, progress=progress.update)


def _copy_tree(
    client: Client, source: str, target: str, args: argparse.Namespace, ending: Ending
) -> None:
    path = remote(source)
    if not args.recursive:
        raise UsageError(f"{source} is a directory: use -r to copy it with all that is in it")
    if is_within(remote(target), path):
        raise InvalidArgument(f"{target} is inside {source}: a tree cannot be copied into itself")
    place = RemoteTarget(client, base_name(source), target, f"cp {path}\n", exact=args.exact)
    with Progress(f"cp {path}", quiet=args.quiet) as progress:
        report = client.copy_tree(path, place.path, tree_options(progress, ending))
    conclude(report, place, ending)
