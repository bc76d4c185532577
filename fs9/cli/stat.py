"""`fs9 stat`: show the attributes of files, directories, and symbolic links themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.cli.connection import add_options, connect
from fs9.cli.ending import Ending, command
from fs9.cli.paths import remote
from fs9.cli.show import as_dict, human, mode_text, on_terminal, print_json, time_text
from fs9.errors import Fs9Error

if TYPE_CHECKING:
    import argparse

    from fs9.types import FileInfo


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("stat", help="show the attributes of files", description=__doc__)
    parser.add_argument("paths", metavar="PATH", nargs="+")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object, an array for several PATHs"
    )
    add_options(parser)


@command("stat")
def run(args: argparse.Namespace, ending: Ending) -> int:
    found: list[FileInfo] = []
    with connect(args) as client:
        for argument in args.paths:
            try:
                found.append(client.stat(remote(argument)))
            except Fs9Error as error:
                ending.fail(argument, error)
    if args.json:
        values = [as_dict(info) for info in found]
        if len(args.paths) > 1 or values:
            print_json(values[0] if len(args.paths) == 1 else values)
        return ending.code
    for info in found:
        print(_text(info))
    return ending.code


def _text(info: FileInfo) -> str:
    arrow = f" -> {on_terminal(info.symlink_target)}" if info.symlink_target is not None else ""
    return "\n".join(
        (
            f"  path: {on_terminal(info.path)}{arrow}",
            f"  type: {info.file_type.value}",
            f"  size: {_size(info.size)}",
            f"  mode: {info.mode & 0o7777:04o} ({mode_text(info)})",
            f" owner: {info.uid}:{info.gid}",
            f"modify: {time_text(info.mtime_ns)}",
            f"access: {time_text(info.atime_ns)}",
            f"change: {time_text(info.ctime_ns)}",
            f"  etag: {info.etag}",
        )
    )


def _size(size: int) -> str:
    """In bytes, and as people say it where that is something else."""
    exact = "1 byte" if size == 1 else f"{size} bytes"
    return exact if human(size) == str(size) else f"{exact} ({human(size)})"
