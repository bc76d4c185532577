"""`fs9 du`: the sizes of the files below directories, added up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.cli.connection import add_options, connect
from fs9.cli.ending import Ending, command
from fs9.cli.paths import remote
from fs9.cli.show import human, on_terminal, print_json
from fs9.errors import Fs9Error

if TYPE_CHECKING:
    import argparse

    from fs9.client.sync import Client


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "du", help="add up the sizes of files", conflict_handler="resolve", description=__doc__
    )
    parser.add_argument("paths", metavar="PATH", nargs="*", default=["/"])
    parser.add_argument("-s", "--summarize", action="store_true", help="only the PATHs themselves")
    parser.add_argument("-h", "--human", action="store_true", help="readable sizes, not bytes")
    parser.add_argument("--json", action="store_true", help="one JSON array")
    add_options(parser)


@command("du")
def run(args: argparse.Namespace, ending: Ending) -> int:
    rows: list[dict[str, object]] = []
    with connect(args) as client:
        for argument in args.paths:
            try:
                sums = _sums(client, remote(argument), ending)
            except Fs9Error as error:
                ending.fail(argument, error)
                continue
            wanted = sums[-1:] if args.summarize else sums
            for path, size, files in wanted:
                rows.append({"path": path, "bytes": size, "files": files})
                if not args.json:
                    print(f"{human(size) if args.human else size}\t{on_terminal(path)}")
    if args.json:
        print_json(rows)
    return ending.code


def _sums(client: Client, root: str, ending: Ending) -> list[tuple[str, int, int]]:
    """(directory, bytes, files) of `root` and every directory below it, deepest first."""
    info = client.stat(root, follow=True)
    root = info.path
    if not info.is_dir:
        return [(root, info.size, 1)]
    order = [root]
    sizes: dict[str, int] = {}
    files: dict[str, int] = {}
    parents: dict[str, str] = {}
    pending = [root]
    while pending:
        directory = pending.pop()
        try:
            entries = client.readdir(directory)
        except Fs9Error as error:
            ending.fail(directory, error)
            entries = []
        sizes[directory] = sum(entry.size for entry in entries if entry.is_file)
        files[directory] = sum(not entry.is_dir for entry in entries)
        for entry in entries:
            if entry.is_dir:
                parents[entry.path] = directory
                order.append(entry.path)
                pending.append(entry.path)
    for directory in reversed(order):
        if directory in parents:
            sizes[parents[directory]] += sizes[directory]
            files[parents[directory]] += files[directory]
    return [(directory, sizes[directory], files[directory]) for directory in reversed(order)]
