"""The command-line flags of the settings, for every program that starts or shows a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fs9.config.loader import Flags
from fs9.config.settings import SETTINGS

if TYPE_CHECKING:
    import argparse


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add `-c`, `--insecure`, and a flag for each setting that has one."""
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help="read this file instead of the search path (FS9_CONFIG wins over it)",
    )
    for setting in SETTINGS:
        if setting.flag is not None:
            parser.add_argument(
                setting.flag,
                dest=setting.field,
                metavar=setting.flag.rpartition("-")[2].upper(),
                help=f"{setting.summary} (default: {setting.default_shown})",
            )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="allow to listen for other hosts without authentication",
    )


def flags_of(args: argparse.Namespace) -> Flags:
    """What the parsed command line says about the settings."""
    given = {
        setting.key: getattr(args, setting.field)
        for setting in SETTINGS
        if setting.flag is not None and getattr(args, setting.field) is not None
    }
    config = None if args.config is None else Path(args.config)
    return Flags(given, config, args.insecure)
