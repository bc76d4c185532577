"""`fs9 admin`, also the program `fs9-admin`: namespaces, mounts, tokens, users, quotas, events.

    flags, environment, admin.toml ── access ──> Server ── HTTP ──> the file server
                                            └──> Accounts ──> metadata service, or its database

Errors are `Error: …` on the standard error with exit code 1; a command line that makes no sense
has exit code 2.
"""

from __future__ import annotations

import argparse
import sys

from fs9 import __version__
from fs9.cli import (
    admin_accounts,
    admin_events,
    admin_namespaces,
    admin_setup,
    admin_tokens,
)
from fs9.cli.admin_access import AdminError
from fs9.cli.admin_server import text_of
from fs9.cli.ending import ERROR, USAGE, UsageError, describe, silence_libraries, visible
from fs9.cli.main import run_guarded
from fs9.errors import Fs9Error

_GROUPS = (admin_setup, admin_namespaces, admin_tokens, admin_accounts, admin_events)
_EPILOG = """\
The server: -s, FS9_SERVER_ENDPOINTS, the file that `init` writes, http://localhost:9999.
Who asks: --secret-file, --token-file, FS9_JWT_SECRET, the file, FS9_TOKEN.
Users, roles and keys: --meta URL with --meta-key-file (FS9_META_URL, FS9_META_KEY), or the
database itself: --data-dir DIR or --dsn DSN (FS9_DATA_DIR, FS9_META_DSN).
Exit codes: 0 ok, 1 error, 2 usage.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "admin",
        help="namespaces, mounts, tokens, users, quotas and events of a server",
        description="Administer a server.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_all(parser)


def make_parser() -> argparse.ArgumentParser:
    """That of `fs9-admin`."""
    parser = argparse.ArgumentParser(
        prog="fs9-admin",
        description="Administer an fs9 server.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="version", version=f"fs9-admin {__version__}")
    _add_all(parser)
    return parser


def _add_all(parser: argparse.ArgumentParser) -> None:
    admin_setup.add_access(parser)
    commands = parser.add_subparsers(dest="group", metavar="COMMAND", required=True)
    for group in _GROUPS:
        group.add_commands(commands)


def run(args: argparse.Namespace) -> int:
    """The command in question; every ending is an exit code."""
    silence_libraries()
    try:
        code: int = args.handler(args)
    except UsageError as error:
        print(f"Error: {visible(str(error))}", file=sys.stderr)
        return USAGE
    except AdminError as error:
        print(f"Error: {visible(str(error))}", file=sys.stderr)
        return ERROR
    except Fs9Error as error:
        print(f"Error: {visible(text_of(error))}", file=sys.stderr)
        return ERROR
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"Error: {describe(None, error)}", file=sys.stderr)
        return ERROR
    return code


def main() -> int:
    """The program `fs9-admin`."""
    return run_guarded("fs9-admin", _main)


def _main() -> int:
    try:
        args = make_parser().parse_args()
    except SystemExit as end:  # argparse has printed the help, or what is wrong
        return end.code if isinstance(end.code, int) else USAGE
    return run(args)


if __name__ == "__main__":
    sys.exit(main())
