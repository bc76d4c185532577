"""`fs9 tree`: a directory and all below it, as a picture or as one JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fs9.cli.connection import add_options, connect
from fs9.cli.ending import Ending, command
from fs9.cli.paths import remote
from fs9.cli.show import as_dict, name_of, on_terminal, print_json
from fs9.errors import Fs9Error

if TYPE_CHECKING:
    import argparse

    from fs9.client.sync import Client
    from fs9.types import FileInfo


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("tree", help="show a directory as a tree", description=__doc__)
    parser.add_argument("path", metavar="PATH", nargs="?", default="/")
    parser.add_argument(
        "-L", dest="levels", metavar="LEVELS", type=int, help="at most this many levels deep"
    )
    parser.add_argument("-a", "--all", action="store_true", help="names that begin with a dot, too")
    parser.add_argument("--json", action="store_true", help="one JSON object with `children`")
    add_options(parser)


class _Walk:
    """One walk: which entries are shown, and how many there were."""

    def __init__(self, client: Client, ending: Ending, levels: int | None, *, dots: bool) -> None:
        self._client = client
        self._ending = ending
        self._levels = levels
        self._dots = dots
        self.directories = 0
        self.files = 0

    def children(self, info: FileInfo, level: int) -> list[FileInfo]:
        """The entries below `info`, counted; none of a file, or beyond the last level."""
        if not info.is_dir or (self._levels is not None and level >= self._levels):
            return []
        try:
            entries = self._client.readdir(info.path)
        except Fs9Error as error:
            self._ending.fail(info.path, error)
            return []
        shown = [entry for entry in entries if self._dots or not name_of(entry).startswith(".")]
        self.directories += sum(entry.is_dir for entry in shown)
        self.files += sum(not entry.is_dir for entry in shown)
        return shown


@command("tree")
def run(args: argparse.Namespace, ending: Ending) -> int:
    with connect(args) as client:
        root = client.stat(remote(args.path), follow=True)
        walk = _Walk(client, ending, args.levels, dots=args.all)
        if args.json:
            print_json(_document(walk, root))
            return ending.code
        print(on_terminal(args.path))
        _print_below(walk, root)
    print(f"\n{walk.directories} directories, {walk.files} files")
    return ending.code


def _print_below(walk: _Walk, root: FileInfo) -> None:
    """Every entry as soon as it is known; a stack instead of recursion, for deep trees."""
    stack = [iter(_branches(walk, root, "", 0))]
    while stack:
        step = next(stack[-1], None)
        if step is None:
            stack.pop()
            continue
        entry, lead, branch = step
        arrow = f" -> {on_terminal(entry.symlink_target or '')}" if entry.is_symlink else ""
        print(f"{lead}{branch}{on_terminal(name_of(entry))}{arrow}")
        below = lead + ("    " if branch.startswith("└") else "│   ")
        stack.append(iter(_branches(walk, entry, below, len(stack))))


def _branches(
    walk: _Walk, info: FileInfo, lead: str, level: int
) -> list[tuple[FileInfo, str, str]]:
    entries = walk.children(info, level)
    return [
        (entry, lead, "├── " if number < len(entries) else "└── ")
        for number, entry in enumerate(entries, 1)
    ]


def _document(walk: _Walk, root: FileInfo) -> dict[str, Any]:
    document = as_dict(root)
    stack = [(root, document, 0)]
    while stack:
        info, values, level = stack.pop()
        if not info.is_dir:
            continue
        entries = [(entry, as_dict(entry)) for entry in walk.children(info, level)]
        values["children"] = [child for _, child in entries]
        stack.extend((entry, child, level + 1) for entry, child in reversed(entries))
    return document
