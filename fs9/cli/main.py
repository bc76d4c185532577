"""`fs9`: finds the command, runs it, turns every ending into an exit code.

A command is a module of this package with `add_parser(subparsers)` and `run(args) -> int`.
Only the module of the command in question is imported, because most runs are short.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING

from fs9 import __version__
from fs9.cli.connection import add_options

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

#: Command -> (module, what the list of commands says of it), in the order of the list.
COMMANDS = {
    "serve": ("serve", "serve files until told to stop"),
    "config": ("config_command", "show the effective settings and where each came from"),
    "doctor": ("doctor", "check what could keep fs9 from working, and say what to do"),
    "fsck": ("fsck", "check that stored files are consistent"),
    "scrub": ("scrub", "verify the checksums of all stored files"),
    "fleet": ("fleet", "look at a running fleet, drain, scale, reload it"),
    "meta": ("meta", "migrate, back up, restore, verify and serve the metadata"),
    "admin": ("admin", "namespaces, mounts, tokens, users, quotas and events of a server"),
    "deploy": ("deploy", "write files for nginx, Envoy and systemd"),
    "ls": ("ls", "list directories"),
    "cat": ("cat", "write files to the standard output"),
    "put": ("put", "send local files or trees to the server"),
    "get": ("get", "receive files or trees from the server"),
    "cp": ("cp", "copy files or trees on the server"),
    "mv": ("mv", "rename or move on the server"),
    "rm": ("rm", "remove files, or trees with -r"),
    "mkdir": ("mkdir", "make directories"),
    "stat": ("stat", "show the attributes of files"),
    "tree": ("tree", "show a directory as a tree"),
    "du": ("du", "add up the sizes of files"),
    "watch": ("watch", "tell what changes, as it happens"),
    "snapshot": ("snapshot", "keep a tree as it is, restore it, make writable copies of it"),
    "completion": ("completion", "print the completion script of a shell"),
    "version": ("version", "print the version"),
}

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_EPILOG = """\
Paths of the server start with a slash; `fs9:/a/b` and `/a/b` are the same.
Environment: FS9_URL (or FS9_SERVER_ENDPOINTS), FS9_TOKEN_FILE, FS9_TOKEN, NO_COLOR.
Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 denied, 5 conflict, 6 quota, 7 unavailable.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (the process's own when None); returns the exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return run_guarded("fs9", lambda: _run(arguments))


def run_guarded(program: str, run: Callable[[], int]) -> int:
    """The exit code of a program, also when it is interrupted or its reader leaves."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a terminal's encoding does not have is spelled out there, and no failure.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return run()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_BROKEN_PIPE


def _run(arguments: Sequence[str]) -> int:
    parser = make_parser(COMMANDS.keys() & set(arguments))
    try:
        args = parser.parse_args(arguments)
    except SystemExit as end:  # argparse has printed the help, or what is wrong
        return end.code if isinstance(end.code, int) else 2
    if args.command is None:
        parser.print_help(sys.stderr)
        return 2
    module = importlib.import_module(f"fs9.cli.{COMMANDS[args.command][0]}")
    code: int = module.run(args)
    return code


def make_parser(commands: Collection[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """The parser of the whole command line; only `commands` have all their arguments."""
    parser = argparse.ArgumentParser(
        prog="fs9",
        description="A file server for many tenants: serve files, look at them, move them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fs9 {__version__}")
    add_options(parser, default=None)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, (module_name, text) in COMMANDS.items():
        if name in commands:
            importlib.import_module(f"fs9.cli.{module_name}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=text, add_help=False)
    return parser


def _silence_stdout() -> None:
    """Let the interpreter's last flush go nowhere: the reader of the pipe has left."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


if __name__ == "__main__":
    sys.exit(main())
