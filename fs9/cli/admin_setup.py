"""`fs9 admin init`, `config`, `health` and `whoami`; the options that every command has."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from typing import TYPE_CHECKING, Any

from fs9 import errors
from fs9.cli.admin_access import (
    SERVER_DEFAULT,
    SUBJECT,
    Access,
    access_of,
    file_path,
    given_secret,
    write_file,
)
from fs9.cli.admin_server import Server, text_of
from fs9.cli.admin_show import caution, done
from fs9.cli.admin_tokens import payload_of
from fs9.cli.ending import ERROR, OK, UsageError
from fs9.cli.show import print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    Handler = Callable[[argparse.Namespace], int]


def add_access(parser: argparse.ArgumentParser, *, secret: bool = True) -> None:
    """Which server, as whom: before or after the command."""
    group = parser.add_argument_group("server")
    default = argparse.SUPPRESS
    group.add_argument(
        "-s",
        "--server",
        metavar="URL",
        default=default,
        help=f"the server (FS9_SERVER_ENDPOINTS; default: {SERVER_DEFAULT})",
    )
    if secret:
        group.add_argument(
            "--secret",
            metavar="SECRET",
            default=default,
            help="the secret that signs tokens; others on this host can see it",
        )
    group.add_argument(
        "--secret-file",
        metavar="FILE",
        default=default,
        help="read the secret here, - is the standard input (FS9_JWT_SECRET)",
    )
    group.add_argument(
        "--token",
        default=default,
        help="a token to use instead of the secret; others on this host can see it",
    )
    group.add_argument("--token-file", metavar="FILE", default=default, help="read the token here")
    group.add_argument(
        "--admin-ns",
        metavar="NAME",
        default=default,
        help="the namespace whose admins administer the server (default: admin)",
    )


def command(
    commands: Commands, name: str, text: str, handler: Handler, *, json: bool = True
) -> argparse.ArgumentParser:
    """A command with the options of all commands."""
    parser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
    )
    add_access(parser)
    if json:
        parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(handler=handler)
    return parser


def group(commands: Commands, name: str, text: str) -> Commands:
    """A command of commands."""
    parser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
    )
    return parser.add_subparsers(dest="action", metavar="ACTION", required=True)


def add_commands(commands: Commands) -> None:
    parser = commands.add_parser(
        "init",
        help="remember a server and its secret",
        description="Write the server and its secret to a file of this user's.",
        allow_abbrev=False,
    )
    add_access(parser, secret=False)
    parser.add_argument(
        "-k",
        "--secret",
        metavar="SECRET",
        default=argparse.SUPPRESS,
        help="the secret that signs tokens; others on this host can see it, so prefer"
        " --secret-file or the prompt",
    )
    parser.set_defaults(handler=_init)
    command(commands, "config", "show what this program would use", _config)
    command(commands, "health", "ask whether the server answers", _health)
    command(
        commands,
        "whoami",
        "show as whom this program asks, and whether the server accepts it",
        _whoami,
    )


def access(args: argparse.Namespace) -> Access:
    return access_of(args, os.environ)


def _init(args: argparse.Namespace) -> int:
    secret = given_secret(args) or os.environ.get("FS9_JWT_SECRET")
    if not secret and sys.stdin.isatty():
        secret = getpass.getpass("JWT secret: ")
    if not secret:
        raise UsageError("init needs the secret: --secret-file FILE (- is standard input) or -k")
    path = file_path(os.environ)
    write_file(path, getattr(args, "server", SERVER_DEFAULT), secret)
    done(f"Configuration saved to {path}")
    return OK


def _config(args: argparse.Namespace) -> int:
    found = access(args)
    if args.json:
        print_json(
            {
                "server": found.server,
                "jwt_secret_set": found.secret is not None,
                "token_set": found.token is not None,
                "admin_namespace": found.admin_namespace,
                "config": str(found.file),
            }
        )
        return OK
    print("FS9 Admin Configuration")
    print(f"  Server: {found.server}")
    print(f"  JWT Secret: {'(not set)' if found.secret is None else '(set)'}")
    if found.token is not None:
        print("  Token: (set)")
    print(f"  Config: {found.file}")
    return OK


def _health(args: argparse.Namespace) -> int:
    found = access(args)
    Server(found).healthy()
    if args.json:
        print_json({"healthy": True, "server": found.server})
        return OK
    done("Server is healthy")
    print(f"  URL: {found.server}")
    return OK


def _whoami(args: argparse.Namespace) -> int:
    """Exit code 1 when the server does not take what is shown to it."""
    found = access(args)
    claims: dict[str, Any] = {}
    if found.token is not None and not found.token.startswith("fs9_"):
        claims = payload_of(found.token)
    elif found.secret is not None:
        claims = {"sub": SUBJECT, "ns": found.admin_namespace, "roles": ["admin"]}
    administrator, problem = True, None
    try:
        Server(found).administer("GET", "/namespaces")
    except errors.Forbidden:
        administrator = False
    except errors.Unauthenticated as error:
        administrator, problem = False, text_of(error)
    answer = {
        "server": found.server,
        "by": found.means,
        "user": claims.get("sub"),
        "namespace": claims.get("ns"),
        "roles": claims.get("roles", []),
        "accepted": problem is None,
        "server_administrator": administrator,
    }
    if args.json:
        print_json(answer)
    else:
        print(f"  Server: {found.server}")
        print(f"  Shown to it: {found.means}")
        if claims:
            roles = ", ".join(map(str, answer["roles"])) or "(none)"
            print(f"  User: {claims.get('sub')}, namespace {claims.get('ns')}, roles {roles}")
        if problem is not None:
            caution(problem)
        else:
            done("The server accepts it" + (", as its administrator" if administrator else ""))
    return OK if problem is None else ERROR
