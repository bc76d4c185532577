"""`fs9 admin events`: list, follow and verify the audit trail of a namespace."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from fs9.cli import admin_setup
from fs9.cli.admin_access import AdminError
from fs9.cli.admin_server import EventInfo, Server
from fs9.cli.admin_show import done, table
from fs9.cli.ending import ERROR, OK, UsageError, visible
from fs9.cli.show import on_terminal, print_json
from fs9.clock import SystemClock
from fs9.observe.audit_chain import AuditRecord, ChainCheck, Tip

if TYPE_CHECKING:
    import argparse

    from fs9.cli.admin_setup import Commands

_LIMIT_DEFAULT = 100
_LINKS_PAGE = 1000
_AGO = re.compile(r"(\d{1,9})([smhd])")
_AGO_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIP = re.compile(r"(\d{1,18}):([0-9a-f]{64}|)")


def add_commands(commands: Commands) -> None:
    events = admin_setup.group(commands, "events", "what happened in a namespace")
    listing = _command(events, "list", "show events, the newest first", _list)
    listing.add_argument("-l", "--limit", type=int, default=_LIMIT_DEFAULT, metavar="N")
    listing.add_argument("-o", "--offset", type=int, default=0, metavar="N")
    for name in ("since", "until"):
        listing.add_argument(
            f"--{name}", metavar="TIME", help="2026-01-31T12:00:00Z, or 90s, 5m, 2h, 7d ago"
        )
    _add_filters(listing)
    follow = _command(events, "follow", "show events as they happen, until Ctrl-C", _follow)
    _add_filters(follow)
    verify = _command(events, "verify", "check the hash chain of a namespace's events", _verify)
    verify.add_argument(
        "--noted",
        metavar="N:DIGEST",
        help="a tip that an earlier `verify` printed: also checks that the end was not cut off",
    )


def _command(
    commands: Commands, name: str, text: str, handler: admin_setup.Handler
) -> argparse.ArgumentParser:
    parser = admin_setup.command(commands, name, text, handler)
    parser.add_argument("-n", "--namespace", required=True)
    return parser


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-p", "--path", help="only paths that begin with this")
    parser.add_argument("-t", "--type", help="only events of this type, for example create")
    parser.add_argument(
        "--outcome",
        choices=("ok", "refused", "all"),
        default="all",
        help="what was done, what was refused, or both (default: %(default)s)",
    )


def _filters(args: argparse.Namespace) -> dict[str, str]:
    query = {"details": "1", "outcome": args.outcome}
    if args.path is not None:
        query["path"] = args.path
    if args.type is not None:
        query["type"] = args.type
    return query


def _list(args: argparse.Namespace) -> int:
    query = _filters(args) | {"limit": str(args.limit), "offset": str(args.offset)}
    for name in ("since", "until"):
        text = getattr(args, name)
        if text is not None:
            query[name] = str(_seconds(text, name))
    server = Server(admin_setup.access(args))
    events = server.within(
        args.namespace, "read-only", "GET", "/events", query=query, shape=list[EventInfo]
    )
    if args.json:
        print_json(events)
        return OK
    table(("TIME", "EVENT", "PATH", "USER", "COUNT", "OUTCOME"), [_row(each) for each in events])
    return OK


def _row(event: dict[str, Any]) -> tuple[object, ...]:
    return (
        _time(event["timestamp"]),
        event["event_type"],
        event["path"],
        event["user"],
        event["count"],
        event.get("outcome", "ok"),
    )


def _follow(args: argparse.Namespace) -> int:
    """One line for each event; with --json one JSON object a line."""
    server = Server(admin_setup.access(args))
    # From the last one on, so that a connection that is lost before the first one loses nothing.
    query = {"details": "1", "outcome": "all", "limit": "1"}
    last = server.within(
        args.namespace, "read-only", "GET", "/events", query=query, shape=list[EventInfo]
    )
    cursor = str(last[0]["sequence"]) if last and last[0].get("sequence") else None
    wanted = _filters(args) | {"follow": "1"}
    for data in server.follow(args.namespace, "/events", wanted, cursor):
        try:
            event = json.loads(data)
            line = data if args.json else "  ".join(map(str, _row(event)))
        except (ValueError, KeyError, TypeError):
            raise AdminError("the server sent something other than events") from None
        print(on_terminal(line), flush=True)
    return OK


def _verify(args: argparse.Namespace) -> int:
    check = ChainCheck(_tip(args.noted))
    server = Server(admin_setup.access(args))
    after = 0
    while check.broken is None:
        query = {"after": str(after), "limit": str(_LINKS_PAGE)}
        links = server.within(
            args.namespace,
            "read-only",
            "GET",
            "/events/chain",
            query=query,
            shape=list[AuditRecord],
        )
        records = msgspec.convert(links, list[AuditRecord])
        check.feed(records)
        if not records:
            break
        after = records[-1].sequence
    broken = check.end()
    if args.json:
        print_json(
            {
                "namespace": args.namespace,
                "whole": broken is None,
                "events": check.count,
                "first": check.first,
                "tip": str(check.tip),
                "broken_at": None if broken is None else broken.sequence,
                "reason": None if broken is None else broken.reason,
            }
        )
    elif broken is not None:
        print(f"Error: the chain is broken at {visible(str(broken))}", file=sys.stderr)
    else:
        done(f"The chain of {args.namespace} is whole: {check.extent}")
        print(f"  Tip: {check.tip}")
    return OK if broken is None else ERROR


def _tip(text: str | None) -> Tip | None:
    if text is None:
        return None
    found = _TIP.fullmatch(text)
    if found is None:
        raise UsageError("--noted is a tip as `events verify` prints it: N:DIGEST")
    return Tip(int(found[1]), found[2])


def _seconds(text: str, name: str) -> int:
    """A point in time, in seconds since 1970."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return max(0, int(SystemClock().now_s()) - int(ago[1]) * _AGO_S[ago[2]])
    try:
        moment = datetime.fromisoformat(text)
        # Without an offset it is the time here.
        return max(0, int(moment.timestamp()))
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"--{name} {text}: expected 2026-01-31T12:00:00Z or 90s, 5m, 2h, 7d"
        ) from None


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
