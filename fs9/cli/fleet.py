"""`fs9 fleet`: look at a running fleet and change it, worker by worker, while it serves."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fs9.cli.ending import DENIED, ERROR, OK, UNAVAILABLE, USAGE
from fs9.config import ConfigError, add_flags, flags_of, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_WATCH_EVERY_S = 1.0
#: ECMA-48: the cursor to the first line; erase to the end of the line, and of the screen.
_HOME, _END_OF_LINE, _END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_STATUS_TIMEOUT_S = 5.0
#: Beside the broker's own deadline for each slot, so that its refusal is heard.
_MARGIN_S = 5.0
#: As many as `server.workers` may be; a reload may have to wait for each, one after the other.
_SLOTS_MAX = 1024
_SECONDS_MAX = 86_400.0

#: Stands between the last answer and why there is no newer one.
_STALE = "\nas of then; now "

_COLUMNS = ("slot", "state", "pid", "namespaces", "handles", "in flight", "uptime", "ring")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "fleet", help="look at a running fleet, drain, scale, reload it", description=__doc__
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    status = _action(actions, "status", "show every slot")
    status.add_argument("--json", action="store_true", help="one JSON document")
    status.add_argument("--watch", action="store_true", help="repeat every second, until Ctrl-C")
    for name, text in (
        ("drain", "move the namespaces of a slot to the others; done when it has none"),
        ("undrain", "let a drained slot serve again"),
    ):
        _action(actions, name, text).add_argument("slot", type=_slot)
    scale = _action(actions, "scale", "change the number of workers")
    scale.add_argument("count", metavar="N", type=int)
    _action(
        actions,
        "reload",
        "read code and settings anew, and replace every worker, one slot at a time",
    )
    level = _action(actions, "log-level", "change what all workers log")
    level.add_argument("level", choices=("trace", "debug", "info", "warn", "error"))


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text.capitalize() + ".")
    add_flags(parser)
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="how long each slot may take (default: %(default)s)",
    )
    return parser


def _slot(text: str) -> int:
    if not text.isdecimal() or not int(text) < _SLOTS_MAX:
        raise argparse.ArgumentTypeError(f"a slot is a number from 0 to {_SLOTS_MAX - 1}: {text}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"seconds, more than 0, at most {_SECONDS_MAX:g}: {text}")
    return seconds


def run(args: argparse.Namespace) -> int:
    try:
        settings = load(flags_of(args), os.environ, Path.cwd())
    except ConfigError as error:
        print(f"fs9: fleet: {error}", file=sys.stderr)
        return ERROR
    # By name, at call time: commands import nothing of the processes.
    slots = importlib.import_module("workers.slots")
    asking = importlib.import_module("workers.asking")
    messages = importlib.import_module("router.messages")
    run_directory = slots.run_directory_of(settings.data_dir)

    def ask(request: object, timeout_s: float) -> Any:  # noqa: ANN401 - one of several structs
        return asking.bus_request(run_directory, request, timeout_s)

    try:
        return _ACTIONS[args.action](args, ask)
    except asking.NoBroker as error:
        print(
            f"fs9: fleet: {error}: is a fleet serving {settings.data_dir}?"
            " give its --data-dir, or start it with `fs9 serve`",
            file=sys.stderr,
        )
        return UNAVAILABLE
    except PermissionError as error:
        print(
            f"fs9: fleet: {error.filename}: permission denied: run it as the fleet's user",
            file=sys.stderr,
        )
        return DENIED
    except TimeoutError as error:
        print(f"fs9: fleet {args.action}: {error}: see `fs9 fleet status`", file=sys.stderr)
        return UNAVAILABLE
    except messages.UnknownMessage as error:
        print(f"fs9: fleet: the fleet runs another version of fs9: {error}", file=sys.stderr)
        return ERROR


def _status(args: argparse.Namespace, ask: Callable[[object, float], Any]) -> int:
    request = importlib.import_module("router.messages").StatusRequest()

    def text() -> str:
        status = ask(request, _STATUS_TIMEOUT_S)
        return json.dumps(_as_dict(status), indent=2) if args.json else _table(status)

    if not args.watch:
        print(text())
    elif sys.stdout.isatty() and not args.json:
        _watch_in_place(text)
    else:
        while True:
            print(text(), flush=True)
            time.sleep(_WATCH_EVERY_S)
    return OK


def _watch_in_place(text: Callable[[], str]) -> None:
    """Write over what is there, so that nothing flickers; while no broker answers, say so."""
    shown = text()  # without a fleet this ends here
    while True:
        width, height = shutil.get_terminal_size()
        lines = [line[:width] + _END_OF_LINE for line in shown.splitlines()[: height - 1]]
        print(_HOME + "\n".join(lines), end=f"\n{_END_OF_SCREEN}", flush=True)
        time.sleep(_WATCH_EVERY_S)
        try:
            shown = text()
        except ConnectionError as error:
            shown = f"{shown.partition(_STALE)[0]}{_STALE}{error}"


def _as_dict(status: Any) -> dict[str, Any]:  # noqa: ANN401  router.messages.Status
    slots = [
        {
            "slot": slot.slot,
            "pid": slot.pid or None,
            "state": slot.state.value,
            "namespaces": slot.namespaces,
            "handles": slot.handles,
            "in_flight": slot.in_progress,
            "uptime_s": round(slot.uptime_s, 1),
            "ring_share": round(slot.ring_share, 4),
        }
        for slot in status.slots
    ]
    return {
        "view": status.view,
        "workers": status.workers,
        "operation": status.operation or None,
        "slots": slots,
    }


def _table(status: Any) -> str:  # noqa: ANN401  router.messages.Status
    rows = [_COLUMNS] + [
        (
            str(slot.slot),
            slot.state.value,
            str(slot.pid or "-"),
            str(slot.namespaces),
            str(slot.handles),
            str(slot.in_progress),
            f"{slot.uptime_s:.0f}s",
            f"{slot.ring_share:.1%}",
        )
        for slot in status.slots
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if status.operation:
        lines.append(f"under way: {status.operation}")
    return "\n".join(lines)


def _changing(
    name: str, make: Callable[[Any, argparse.Namespace], object], slots: int = 1
) -> Callable[[argparse.Namespace, Callable[[object, float], Any]], int]:
    """An action that asks for one change and waits until it is done, in `slots` steps at most."""

    def act(args: argparse.Namespace, ask: Callable[[object, float], Any]) -> int:
        messages = importlib.import_module("router.messages")
        request = make(messages, args)
        answer = ask(request, slots * 2 * args.timeout + _MARGIN_S)
        if isinstance(answer, messages.Refused):
            print(f"fs9: fleet {name}: {answer.reason}", file=sys.stderr)
            return ERROR
        if getattr(answer, "note", ""):
            print(f"fs9: fleet {name}: {answer.note}", file=sys.stderr)
        return OK

    return act


def _scale(args: argparse.Namespace, ask: Callable[[object, float], Any]) -> int:
    if not 1 <= args.count <= _SLOTS_MAX:
        bound = "at least one worker must serve" if args.count < 1 else f"at most {_SLOTS_MAX}"
        print(f"fs9: fleet scale: {bound}", file=sys.stderr)
        return USAGE
    return _changing("scale", _scale_request, _SLOTS_MAX)(args, ask)


def _scale_request(messages: ModuleType, args: argparse.Namespace) -> object:
    return messages.ScaleRequest(args.count, args.timeout)


_ACTIONS: dict[str, Callable[[argparse.Namespace, Callable[[object, float], Any]], int]] = {
    "status": _status,
    "drain": _changing("drain", lambda m, args: m.DrainRequest(args.slot, args.timeout)),
    "undrain": _changing("undrain", lambda m, args: m.UndrainRequest(args.slot)),
    "scale": _scale,
    "reload": _changing("reload", lambda m, args: m.ReloadRequest(args.timeout), _SLOTS_MAX),
    "log-level": _changing("log-level", lambda m, args: m.LogLevelRequest(args.level)),
}
