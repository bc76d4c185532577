"""`fs9 serve`: start the fleet of workers with the effective settings."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fs9.cli.ending import ERROR
from fs9.config import ConfigError, add_flags, check_exposure, flags_of, load

if TYPE_CHECKING:
    import argparse
    from types import ModuleType


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "serve", help="serve files until told to stop", description=__doc__
    )
    add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Serve; returns when told to stop (SIGTERM, Ctrl-C)."""
    # From a fleet that serves and starts its program anew (`workers.renewal`).
    order = os.environ.pop("FS9_RENEWAL", None)
    # Taken out: gunicorn would say that it is ready before a worker is.
    notify_socket = os.environ.pop("NOTIFY_SOCKET", None)
    environ = dict(os.environ)
    if order is not None:
        renewed: int = _fleet().renew(
            order, environ, lambda: load(flags_of(args), environ, Path.cwd())
        )
        return renewed
    try:
        settings = load(flags_of(args), environ, Path.cwd())
        check_exposure(settings)
        code: int = _fleet().main(settings, environ, notify_socket)
    except ConfigError as error:
        print(f"fs9: serve: {error}", file=sys.stderr)
        return ERROR
    return code


def _fleet() -> ModuleType:
    """By name, at call time: the processes are composed of everything, also of this; and only when
    the settings can be used, for it takes a while."""
    return importlib.import_module("workers.fleet")
