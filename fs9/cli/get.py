"""`fs9 get`: receive files, to the standard output too (`-`), or with -r whole trees.

A file appears complete or not at all, with the mode and time it has on the server. With -r,
files that are here already (same size and time) are not fetched again, so running the command
again finishes what was interrupted; a large file continues where it broke off. Nothing is
written outside the target.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from fs9.cli.connection import add_options, connect
from fs9.cli.ending import Ending, UsageError, command
from fs9.cli.paths import STREAM, base_name, remote, wants_directory
from fs9.cli.progress import Progress
from fs9.cli.trees import LocalTarget, add_tree_options, conclude, tree_options
from fs9.errors import Fs9Error

if TYPE_CHECKING:
    import argparse

    from fs9.client.sync import Client
    from fs9.types import FileInfo


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "get",
        help="receive files or trees from the server",
        description=__doc__,
        usage="fs9 get [OPTION]... PATH... [LOCAL]",
    )
    parser.add_argument(
        "paths",
        metavar="PATH... [LOCAL]",
        nargs="+",
        help="paths on the server, then a local one (one PATH alone: the working directory)",
    )
    parser.add_argument("--all", action="store_true", help="with -r: fetch unchanged files, too")
    add_tree_options(parser)
    add_options(parser)


@command("get")
def run(args: argparse.Namespace, ending: Ending) -> int:
    sources, target = args.paths[:-1] or args.paths, _target_of(args)
    into = os.path.isdir(target)
    if target != STREAM and not into and (len(sources) > 1 or wants_directory(target)):
        raise UsageError(f"{target} is not a directory")
    with connect(args) as client:
        for source in sources:
            path = remote(source)
            try:
                info = client.stat(path, follow=True)
                if info.is_dir:
                    _get_tree(client, source, info.path, args, ending)
                else:
                    _get_file(client, info, _file_target(path, target, into=into), args)
            except (Fs9Error, OSError, UsageError) as error:
                ending.fail(target if isinstance(error, OSError) else source, error)
    return ending.code


def _target_of(args: argparse.Namespace) -> str:
    return str(args.paths[-1]) if len(args.paths) > 1 else "."


def _file_target(path: str, target: str, *, into: bool) -> str:
    return os.path.join(target, base_name(path)) if into and target != STREAM else target


def _get_file(client: Client, info: FileInfo, target: str, args: argparse.Namespace) -> None:
    with Progress(f"get {info.path}", quiet=args.quiet) as progress:
        if target == STREAM:
            client.download_to(info.path, sys.stdout.buffer, progress=progress.update)
            sys.stdout.buffer.flush()
            return
        client.download_to(
            info.path,
            target,
            mode=info.mode & 0o777,
            mtime_ns=info.mtime_ns,
            progress=progress.update,
        )


def _get_tree(
    client: Client, source: str, path: str, args: argparse.Namespace, ending: Ending
) -> None:
    target = _target_of(args)
    if not args.recursive:
        raise UsageError(f"{source} is a directory: use -r to receive it with all that is in it")
    if target == STREAM:
        raise UsageError("a directory cannot go to the standard output")
    key = f"get {client.url} {path}\n"
    place = LocalTarget(base_name(source), target, key, exact=args.exact)
    with Progress(f"get {path}", quiet=args.quiet) as progress:
        options = tree_options(progress, ending, skip_unchanged=not args.all)
        report = client.get_tree(path, place.path, options)
    conclude(report, place, ending)
