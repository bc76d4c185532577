"""`fs9 put`: send files, the standard input (`-`), or with -r whole trees.

A file is replaced in one step; its mode and time are kept. With -r, files that are on the
server already (same size and time) are not sent again, so running the command again finishes
what was interrupted.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from fs9.cli.connection import add_options, connect
from fs9.cli.ending import Ending, UsageError, command
from fs9.cli.paths import STREAM, remote, wants_directory
from fs9.cli.progress import Progress
from fs9.cli.trees import RemoteTarget, add_tree_options, conclude, tree_options
from fs9.errors import Fs9Error, IsDirectory, NotFound
from fs9.limits import MIB
from fs9.path import clean, join
from fs9.types import StatChanges

if TYPE_CHECKING:
    import argparse

    from fs9.client.sync import Client


#: The first part of a pipe; one that ends within it is sent in one request.
_SMALL_BYTES = 8 * MIB
_PIECE_BYTES = MIB


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "put",
        help="send local files or trees to the server",
        description=__doc__,
        usage="fs9 put [OPTION]... LOCAL... TARGET",
    )
    parser.add_argument(
        "paths", metavar="LOCAL... TARGET", nargs="+", help="local paths, then one on the server"
    )
    parser.add_argument(
        "-n", "--no-clobber", action="store_true", help="never replace a file (not with -r)"
    )
    parser.add_argument("--all", action="store_true", help="with -r: send unchanged files, too")
    add_tree_options(parser)
    add_options(parser)


@command("put")
def run(args: argparse.Namespace, ending: Ending) -> int:
    *sources, target = args.paths
    if not sources:
        raise UsageError("missing operand: `fs9 put LOCAL... TARGET`")
    with connect(args) as client:
        for source in sources:
            try:
                if source != STREAM and os.path.isdir(source):
                    _put_tree(client, source, target, args, ending)
                else:
                    _put_file(client, source, _file_target(client, source, sources, target), args)
            except NotFound as error:
                ending.fail(target, error, "make the directory first: `fs9 mkdir -p`")
            except (Fs9Error, OSError, UsageError) as error:
                ending.fail(source if isinstance(error, OSError) else target, error)
    return ending.code


def local_name(source: str) -> str:
    """What a local path is called in a directory; "." for `dir/.`, as with cp."""
    stripped = source.rstrip("/")
    name = stripped.rpartition("/")[2]
    return os.path.basename(os.path.abspath(source)) if name == ".." else name


def _file_target(client: Client, source: str, sources: list[str], target: str) -> str:
    path = remote(target)
    into = client.is_dir(path)
    if not into and (len(sources) > 1 or wants_directory(target)):
        raise UsageError(f"{target} is not a directory on the server; `fs9 mkdir -p` makes one")
    if into and source == STREAM:
        raise IsDirectory(path)
    return clean(join(path, local_name(source))) if into else path


def _put_file(client: Client, source: str, path: str, args: argparse.Namespace) -> None:
    with Progress(f"put {path}", quiet=args.quiet) as progress:
        if source == STREAM:
            _put_stream(client, sys.stdin.buffer, path, args, progress)
            return
        client.upload_from(path, source, create_only=args.no_clobber, progress=progress.update)
    found = os.stat(source)
    client.wstat(path, StatChanges(mode=found.st_mode & 0o777, mtime_ns=found.st_mtime_ns))


def _put_stream(
    client: Client, stream: BinaryIO, path: str, args: argparse.Namespace, progress: Progress
) -> None:
    """Send a pipe, whose length nobody knows: in one request while it is small enough."""
    if args.no_clobber or stream.seekable():
        client.upload(path, stream, create_only=args.no_clobber, progress=progress.update)
        return
    first = stream.read(_SMALL_BYTES)
    if len(first) < _SMALL_BYTES:
        client.upload(path, first, progress=progress.update)
        return
    pieces = itertools.chain((first,), iter(lambda: stream.read(_PIECE_BYTES), b""))
    client.upload_staged(path, pieces, progress=progress.update)


def _put_tree(
    client: Client, source: str, target: str, args: argparse.Namespace, ending: Ending
) -> None:
    if not args.recursive:
        raise UsageError(f"{source} is a directory: use -r to send it with all that is in it")
    key = f"put {os.path.abspath(source)}\n"
    place = RemoteTarget(client, local_name(source), target, key, exact=args.exact)
    with Progress(f"put {source}", quiet=args.quiet) as progress:
        options = tree_options(progress, ending, skip_unchanged=not args.all)
        report = client.put_tree(Path(source), place.path, options)
    conclude(report, place, ending)
