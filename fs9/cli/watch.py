"""`fs9 watch`: print a line for each change at a path and below, as it happens."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

from fs9.cli.connection import add_options, connect
from fs9.cli.ending import Ending, command
from fs9.cli.paths import remote
from fs9.cli.show import on_terminal
from fs9.errors import Fs9Error

if TYPE_CHECKING:
    import argparse

    from fs9.wire.messages import WatchEvent


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "watch", help="tell what changes, as it happens", description=__doc__
    )
    parser.add_argument("path", metavar="PATH", nargs="?", default="/")
    parser.add_argument(
        "--since", metavar="CURSOR", help="go on after this event (the `cursor` of --json)"
    )
    parser.add_argument("-n", "--count", type=int, metavar="N", help="end after this many events")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_options(parser)


@command("watch")
def run(args: argparse.Namespace, ending: Ending) -> int:
    left: int | None = args.count
    with connect(args) as client:
        try:
            for event in client.watch(remote(args.path), since=args.since):
                if event.type == "cursor" and not args.json:
                    continue  # where to go on is for programs
                print(msgspec.json.encode(event).decode() if args.json else _line(event))
                sys.stdout.flush()
                if left is not None:
                    left -= 1
                    if left < 1:
                        break
        except Fs9Error as error:
            ending.fail(args.path, error)
    return ending.code


def _line(event: WatchEvent) -> str:
    arrow = f" -> {on_terminal(event.target)}" if event.target else ""
    return f"{event.type}\t{on_terminal(event.path)}{arrow}"
