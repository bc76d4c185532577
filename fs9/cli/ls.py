"""`fs9 ls`: list directories; one entry a line unless the output is a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from fs9.cli.connection import add_options, connect
from fs9.cli.ending import Ending, command
from fs9.cli.paths import remote
from fs9.cli.show import as_dict, human, mode_text, name_of, on_terminal, print_json, time_text
from fs9.errors import Fs9Error

if TYPE_CHECKING:
    import argparse

    from fs9.client.sync import Client
    from fs9.types import FileInfo

_GAP = 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "ls", help="list directories", conflict_handler="resolve", description=__doc__
    )
    parser.add_argument("paths", metavar="PATH", nargs="*", default=["/"])
    parser.add_argument("-l", dest="long", action="store_true", help="mode, owner, size, time")
    parser.add_argument("-a", "--all", action="store_true", help="names that begin with a dot, too")
    parser.add_argument("-d", "--directory", action="store_true", help="the directories themselves")
    parser.add_argument(
        "-h", "--human", action="store_true", help="readable sizes (the default of -l)"
    )
    parser.add_argument("-b", "--bytes", action="store_true", help="exact sizes with -l")
    parser.add_argument("--json", action="store_true", help="one JSON array of all entries")
    add_options(parser)


@command("ls")
def run(args: argparse.Namespace, ending: Ending) -> int:
    with connect(args) as client:
        found: list[tuple[str, list[FileInfo]]] = []
        for argument in args.paths:
            try:
                found.append((argument, _entries(client, remote(argument), args)))
            except Fs9Error as error:
                ending.fail(argument, error)
    if args.json:
        print_json([as_dict(entry) for _, entries in found for entry in entries])
        return ending.code
    for number, (argument, entries) in enumerate(found):
        if len(args.paths) > 1 and not args.directory:
            print(f"{'' if not number else chr(10)}{on_terminal(argument)}:")
        _print(entries, args)
    return ending.code


def _entries(client: Client, path: str, args: argparse.Namespace) -> list[FileInfo]:
    """What to list for one argument; a file stands for itself, and with -l a link, too."""
    info = client.stat(path)
    if info.is_symlink and not args.long and not args.directory:
        info = client.stat(path, follow=True)
    if args.directory or not info.is_dir:
        return [info]
    entries = client.readdir(info.path)
    return [entry for entry in entries if args.all or not name_of(entry).startswith(".")]


def _print(entries: list[FileInfo], args: argparse.Namespace) -> None:
    names = [on_terminal(name_of(entry)) for entry in entries]
    if args.long:
        for line in _long(entries, names, exact=args.bytes):
            print(line)
    elif sys.stdout.isatty():
        _print_columns([_coloured(entry, name) for entry, name in zip(entries, names, strict=True)])
    else:
        for name in names:
            print(name)


def _long(entries: list[FileInfo], names: list[str], *, exact: bool) -> list[str]:
    sizes = [str(entry.size) if exact else human(entry.size) for entry in entries]
    owners = [f"{entry.uid}:{entry.gid}" for entry in entries]
    size_width = max(map(len, sizes), default=0)
    owner_width = max(map(len, owners), default=0)
    lines = []
    for entry, name, size, owner in zip(entries, names, sizes, owners, strict=True):
        arrow = f" -> {on_terminal(entry.symlink_target or '')}" if entry.is_symlink else ""
        lines.append(
            f"{mode_text(entry)} {owner:<{owner_width}} {size:>{size_width}}"
            f" {time_text(entry.mtime_ns)} {_coloured(entry, name)[1]}{arrow}"
        )
    return lines


def _coloured(entry: FileInfo, name: str) -> tuple[int, str]:
    """(width, text): directories blue, links cyan, on terminals that want colour."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return len(name), name
    code = "1;34" if entry.is_dir else "36" if entry.is_symlink else ""
    return len(name), f"\x1b[{code}m{name}\x1b[0m" if code else name


def _print_columns(cells: list[tuple[int, str]]) -> None:
    """Down, then right, as many columns as fit."""
    if not cells:
        return
    width = max(size for size, _ in cells) + _GAP
    columns = max(1, shutil.get_terminal_size().columns // width)
    rows = -(-len(cells) // columns)
    for row in range(rows):
        line = [f"{text}{' ' * (width - size)}" for size, text in cells[row::rows]]
        print("".join(line).rstrip())
