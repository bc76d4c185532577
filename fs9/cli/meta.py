"""`fs9 meta`: make, copy and bring back the metadata of a server."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fs9.cli.ending import ERROR, OK, Ending
from fs9.config import ConfigError, Settings, add_flags, flags_of, load
from fs9.config.dsn import sqlite_path
from fs9.errors import Conflict, Fs9Error

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "meta", help="make, copy and bring back the metadata", description=__doc__
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    migrate = actions.add_parser("migrate", help="bring the database to this program's version")
    backup = actions.add_parser("backup", help="copy all metadata to a file, while servers run")
    restore = actions.add_parser("restore", help="put back what a backup has")
    for action in (backup, restore):
        action.add_argument("file", type=Path, metavar="FILE", help="lines of JSON")
    restore.add_argument(
        "--force", action="store_true", help="remove what is in the store before; stop servers"
    )
    for action in (migrate, backup, restore):
        action.add_argument(
            "--dsn",
            help="another database than the settings': sqlite:PATH or postgresql://USER@HOST/NAME;"
            " give its password in PGPASSWORD or FS9_META_DSN, because others see command lines",
        )
        add_flags(action)


def run(args: argparse.Namespace) -> int:
    """Do it and print a sentence about it."""
    ending = Ending(f"meta {args.action}")
    try:
        settings = _settings(args)
    except ConfigError as error:
        print(f"fs9: meta {args.action}: {error}", file=sys.stderr)
        return ERROR
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
