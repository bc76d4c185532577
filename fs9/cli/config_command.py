"""`fs9 config`: the effective settings and where each of them came from, secrets masked."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from fs9.config import SETTINGS, SYSTEM_FILE, ConfigError, Settings, add_flags, flags_of, load
from fs9.config.masking import shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command; it takes the flags of `fs9 serve` and shows what they would do."""
    parser = subparsers.add_parser(
        "config",
        help="show the effective settings and where each came from",
        description="Show the effective settings and where each came from, secrets masked.",
    )
    add_flags(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """The command in this process's environment; the exit code."""
    return show(args, os.environ, Path.cwd(), sys.stdout, sys.stderr)


def show(
    args: argparse.Namespace,
    environ: Mapping[str, str],
    cwd: Path,
    out: TextIO,
    err: TextIO,
    system_file: Path = SYSTEM_FILE,
) -> int:
    """The command in a given environment; 0, or 1 when the settings cannot be used."""
    try:
        settings = load(flags_of(args), environ, cwd, system_file=system_file)
        _check_mounts(settings)
    except ConfigError as error:
        print(f"fs9: config: {error}", file=err)
        return 1
    print(_as_json(settings) if args.json else _as_table(settings), file=out)
    for warning in settings.warnings:
        print(f"fs9: config: warning: {warning}", file=err)
    return 0


def _check_mounts(settings: Settings) -> None:
    """Raises ConfigError where it can be seen that a mount cannot be made."""
    if not {"mounts", "namespace_template"}.isdisjoint(settings.origins):
        # By name, at call time: commands need nothing of the server but here.
        builtin = importlib.import_module("fs9.providers.builtin")
        builtin.check_mounts(builtin.registry(), settings)


def _as_json(settings: Settings) -> str:
    values = {
        setting.key: {"value": shown(settings, setting), "origin": settings.origin(setting)}
        for setting in SETTINGS
    }
    document = {"settings": values, "warnings": list(settings.warnings)}
    return json.dumps(document, indent=2, ensure_ascii=False)


def _as_table(settings: Settings) -> str:
    rows = [("KEY", "VALUE", "ORIGIN")]
    for setting in SETTINGS:
        value = json.dumps(shown(settings, setting), ensure_ascii=False)
        rows.append((setting.key, value, settings.origin(setting)))
    key_width = max(len(key) for key, _, _ in rows)
    # A long value (a list of mounts) must not push every origin off the screen.
    value_width = max(len(value) for _, value, _ in rows if len(value) <= _VALUE_WIDTH_MAX)
    return "\n".join(f"{key:<{key_width}}  {value:<{value_width}}  {by}" for key, value, by in rows)


_VALUE_WIDTH_MAX = 40
