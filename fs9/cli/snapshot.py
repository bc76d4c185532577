"""`fs9 snapshot`: keep a pagefs tree as it is, restore it, make writable copies of it.

Snapshots are directories of the mount: list, create and delete need rights below `/.snapshots`.
Restore and fork are commands written to the mount's control file, if it has one.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from fs9.cli.connection import add_options, connect
from fs9.cli.ending import Ending, UsageError, command
from fs9.cli.paths import remote
from fs9.cli.show import name_of, on_terminal, print_json
from fs9.errors import Fs9Error, NotFound
from fs9.path import join
from fs9.types import OpenFlags

if TYPE_CHECKING:
    import argparse

    from fs9.client.sync import Client

_ACTIONS = {
    "list": "show the snapshots",
    "create": "keep the tree as it is now",
    "restore": "the tree becomes what the snapshot is; what it has now is gone",
    "fork": "make the writable copy /.forks/NEW of a snapshot",
    "delete": "give a snapshot up",
}
_NO_CONTROL = (
    "the mount has `control_file: false` in its configuration, or is no pagefs (docs/storage.md)"
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "snapshot",
        help="keep a tree as it is, restore it, make writable copies of it",
        description=__doc__,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, text in _ACTIONS.items():
        each = actions.add_parser(action, help=text, description=text)
        if action == "list":
            each.add_argument("--json", action="store_true", help="one JSON array of the names")
        else:
            each.add_argument("name", metavar="NAME", help="the snapshot")
        if action == "fork":
            each.add_argument("new", metavar="NEW", help="the new fork")
        each.add_argument(
            "--mount", metavar="PATH", default="/", help="where pagefs is mounted (default: /)"
        )
        add_options(each)


@command("snapshot")
def run(args: argparse.Namespace, ending: Ending) -> int:
    mount = remote(args.mount)
    for name in (getattr(args, "name", None), getattr(args, "new", None)):
        if name is not None and (not name or "/" in name or name in {".", ".."}):
            raise UsageError(f"{name!r} is not the name of a snapshot: one without a slash")
    directory = join(mount, ".snapshots")
    with connect(args) as client:
        try:
            if args.action == "list":
                _list(client, directory, as_json=args.json)
            elif args.action == "create":
                client.mkdir(join(directory, args.name))
            elif args.action == "delete":
                client.remove(join(directory, args.name))
            else:
                names = [args.name, args.new] if args.action == "fork" else [args.name]
                _command(client, directory, shlex.join([args.action, *names]))
        except Fs9Error as error:
            ending.fail(getattr(args, "name", args.mount), error, _hint(args.action, error))
    return ending.code


def _list(client: Client, directory: str, *, as_json: bool) -> None:
    names = [name_of(info) for info in client.scandir(directory)]
    if as_json:
        print_json(names)
        return
    for name in names:
        print(on_terminal(name))


class _NoControlFile(NotFound):
    """There is nothing to write a command to."""

    kind = NotFound.kind


def _command(client: Client, directory: str, text: str) -> None:
    control = join(directory, ".ctl")
    try:
        handle = client.open(control, OpenFlags(write=True))
    except NotFound:
        raise _NoControlFile(control) from None
    try:
        client.write(handle, 0, text.encode())
    finally:
        client.close(handle)


def _hint(action: str, error: Fs9Error) -> str | None:
    if isinstance(error, _NoControlFile):
        return _NO_CONTROL
    return "`fs9 snapshot list` shows what there is" if isinstance(error, NotFound) else None
