"""`fs9 mv`: rename files and directories, into an existing directory or to a new path.

Within a mount this is one step on the server. Between mounts the tree is copied through this
program and then removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.cli.connection import add_options, connect
from fs9.cli.ending import Ending, UsageError, command
from fs9.cli.paths import remote, remote_target
from fs9.errors import Fs9Error, InvalidArgument
from fs9.path import is_within

if TYPE_CHECKING:
    import argparse

    from fs9.client.sync import Client


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "mv",
        help="rename or move on the server",
        description=__doc__,
        usage="fs9 mv [OPTION]... PATH... TARGET",
    )
    parser.add_argument("paths", metavar="PATH... TARGET", nargs="+")
    add_options(parser)


@command("mv")
def run(args: argparse.Namespace, ending: Ending) -> int:
    *sources, target = args.paths
    if not sources:
        raise UsageError("missing operand: `fs9 mv PATH... TARGET`")
    with connect(args) as client:
        for source, path in remote_target(client, sources, target):
            try:
                _move(client, remote(source), path, ending)
            except Fs9Error as error:
                ending.fail(source, error)
    return ending.code


def _move(client: Client, source: str, target: str, ending: Ending) -> None:
    try:
        client.rename(source, target)
    except InvalidArgument:
        mounts = [mount.path for mount in client.mounts()]
        if _mount_of(source, mounts) == _mount_of(target, mounts):
            raise
        _copy_and_remove(client, source, target, ending)


def _mount_of(path: str, mounts: list[str]) -> str:
    """The longest mount path that holds `path`."""
    return max((mount for mount in mounts if is_within(path, mount)), key=len, default="")


def _copy_and_remove(client: Client, source: str, target: str, ending: Ending) -> None:
    if not client.stat(source).is_dir:
        client.copy(source, target)
        client.remove(source)
        return
    report = client.copy_tree(source, target)
    if not report.failures:
        report = client.remove_tree(source)
    for path, error in report.failures:
        ending.fail(path, error)
