"""`fs9 meta`: migrate, back up, restore, verify and serve the metadata of a server."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from dataclasses import replace
from pathlib import Path

from fs9 import __version__
from fs9.cli import events
from fs9.cli.ending import ERROR, OK, Ending, silence_libraries
from fs9.config import ConfigError, Settings, add_flags, flags_of, load
from fs9.config.dsn import sqlite_path
from fs9.config.meta_service import load_meta_service
from fs9.errors import Conflict, Fs9Error

_SERVE_FLAGS = (
    ("dsn", "FS9_META_DSN", "sqlite:PATH or postgresql://USER@HOST/NAME"),
    ("host", "FS9_META_HOST", "address to listen on; 127.0.0.1"),
    ("port", "FS9_META_PORT", "TCP port; 9998, and 0 takes a free one"),
    ("jwt-secret", "FS9_JWT_SECRET", "what signs tokens; others see command lines: better there"),
    ("admin-key", "FS9_META_KEY", "what callers must show; others see command lines"),
    ("processes", "FS9_META_PROCESSES", "processes that serve; 1"),
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "meta", help="migrate, back up, restore, verify and serve the metadata", description=__doc__
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    migrate = actions.add_parser("migrate", help="migrate the database to this program's version")
    backup = actions.add_parser("backup", help="copy all metadata to a file, while servers run")
    restore = actions.add_parser("restore", help="restore a backup")
    for action in (backup, restore):
        action.add_argument("file", type=Path, metavar="FILE", help="lines of JSON")
    restore.add_argument(
        "--force",
        action="store_true",
        help="replace what is in the database; stop the servers first",
    )
    check = actions.add_parser("verify", help="verify the audit trails of all namespaces")
    events.add_flags(check)
    for action in (migrate, backup, restore, check):
        action.add_argument(
            "--dsn",
            help="a database other than the settings': sqlite:PATH or postgresql://USER@HOST/NAME;"
            " give its password in PGPASSWORD or FS9_META_DSN, because others on the host can see"
            " command lines",
        )
        add_flags(action)
    serve = actions.add_parser(
        "serve",
        help="serve metadata to file servers and administrators over HTTP",
        description="Serve metadata to file servers and administrators over HTTP.",
    )
    add_serve_flags(serve)


def add_serve_flags(parser: argparse.ArgumentParser) -> None:
    """Those of `fs9 meta serve` and of `fs9-meta`."""
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="YAML of the service")
    for name, variable, text in _SERVE_FLAGS:
        parser.add_argument(f"--{name}", metavar=name.upper(), help=f"{text} (variable {variable})")


def main() -> int:
    """The program `fs9-meta`."""
    parser = argparse.ArgumentParser(
        prog="fs9-meta", description="Serve metadata to file servers over HTTP."
    )
    parser.add_argument("--version", action="version", version=f"fs9-meta {__version__}")
    add_serve_flags(parser)
    return _serve(parser.parse_args())


def _serve(args: argparse.Namespace) -> int:
    flags = {
        field: value
        for name, _, _ in _SERVE_FLAGS
        if (value := getattr(args, field := name.replace("-", "_"))) is not None
    }
    # By name, at call time: commands are no part of the server.
    service = importlib.import_module("workers.metadata")
    try:
        settings = load_meta_service(flags, args.config, os.environ, Path.cwd())
        code: int = service.main(settings)
    except ConfigError as error:
        print(f"fs9: meta serve: {error}", file=sys.stderr)
        return ERROR
    return code


def run(args: argparse.Namespace) -> int:
    """Do it and print a sentence about it."""
    if args.action == "serve":
        return _serve(args)
    silence_libraries()
    ending = Ending(f"meta {args.action}")
    try:
        settings = _settings(args)
    except ConfigError as error:
        print(f"fs9: meta {args.action}: {error}", file=sys.stderr)
        return ERROR
    if args.action == "verify":
        return events.verify(settings, args.namespace, args.noted)
    # By name, at call time: commands are no part of the server.
    maintenance = importlib.import_module("fs9.meta.maintenance")
    try:
        if args.action == "migrate":
            print(maintenance.migrate(settings))
        elif args.action == "backup":
            print(maintenance.backup(settings, args.file))
        else:
            print(maintenance.restore(settings, args.file, force=args.force))
    except Conflict as error:
        ending.fail(None, error, "`--force` replaces it by the backup")
    except (Fs9Error, OSError) as error:
        ending.fail(None, error)
    else:
        return OK
    return ending.code


def _settings(args: argparse.Namespace) -> Settings:
    settings = load(flags_of(args), os.environ, Path.cwd())
    if args.dsn is None:
        return settings
    try:
        sqlite_path(args.dsn)
    except ValueError as error:
        raise ConfigError(f"--dsn: {error}") from None
    return replace(settings, meta_dsn=args.dsn)
