"""`fs9 admin token` and `revoke`: sign and look at tokens, and end them."""

from __future__ import annotations

import argparse
import base64
import binascii
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fs9.cli import admin_setup
from fs9.cli.admin_access import (
    AdminError,
    argument_or_stdin,
    needed_secret,
    signed,
)
from fs9.cli.admin_server import Server
from fs9.cli.admin_show import caution, done
from fs9.cli.ending import OK, UsageError
from fs9.cli.show import on_terminal, print_json
from fs9.clock import SystemClock
from fs9.errors import InvalidArgument
from fs9.names import check_namespace_name

if TYPE_CHECKING:
    from fs9.cli.admin_setup import Commands

ROLES = ("read-only", "read-write", "admin", "operator")
_TTL_DEFAULT_S = 86_400
#: More of them cannot be revoked.
_USER_MAX = 1024
#: As much of a token as a person needs to tell it from others.
_SHOWN = 20


def add_commands(commands: Commands) -> None:
    tokens = admin_setup.group(commands, "token", "sign tokens, and look into them")
    generate = admin_setup.command(tokens, "generate", "sign a token here", _generate)
    generate.add_argument("-u", "--user", required=True)
    generate.add_argument("-n", "--namespace", required=True)
    generate.add_argument(
        "-r",
        "--role",
        action="append",
        choices=ROLES,
        help="may be given several times (default: read-write)",
    )
    generate.add_argument(
        "-T",
        "--ttl",
        metavar="SECONDS",
        type=whole,
        default=_TTL_DEFAULT_S,
        help="how long it is valid (default: %(default)s)",
    )
    generate.add_argument("-q", "--quiet", action="store_true", help="the token and nothing else")
    decode = admin_setup.command(
        tokens, "decode", "show what a token says, without verifying it", _decode
    )
    decode.add_argument("token_text", metavar="TOKEN", help="- is the standard input")
    revoke = admin_setup.group(commands, "revoke", "end tokens at once, on every worker")
    for kind, metavar, text in (
        ("token", "TOKEN", "end one token, or API key; - is the standard input"),
        ("user", "USER", "end all tokens of a user"),
        ("namespace", "NAME", "end all tokens of a namespace"),
        ("jti", "ID", "end the token with this id (its claim `jti`)"),
    ):
        parser = admin_setup.command(revoke, kind, text, _revoke)
        parser.add_argument("subject", metavar=metavar)
        if kind in {"user", "jti"}:
            parser.add_argument("-n", "--namespace", help="only tokens of this namespace")


def whole(text: str) -> int:
    """A number of seconds on the command line."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
    if not 0 < number < 2**31:
        raise argparse.ArgumentTypeError("expected a number from 1 to 2147483647")
    return number


def payload_of(token: str) -> dict[str, Any]:
    """What a token says of itself, unverified. Raises AdminError."""
    parts = token.split(".")
    try:
        data = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        payload = json.loads(data)
    except (IndexError, binascii.Error, ValueError, RecursionError):
        payload = None
    if len(parts) != 3 or not isinstance(payload, dict):
        raise AdminError(
            "not a token: a token has three parts separated by dots, the second in JSON"
        )
    return payload


def _generate(args: argparse.Namespace) -> int:
    found = admin_setup.access(args)
    roles = list(dict.fromkeys(args.role or ["read-write"]))
    _check_named(args.user, args.namespace)
    now_s = int(SystemClock().now_s())
    token = signed(needed_secret(found), args.user, args.namespace, roles, args.ttl)
    if args.quiet:
        print(token)
        return OK
    expires = _utc(now_s + args.ttl)
    jti = payload_of(token)["jti"]
    if args.json:
        print_json(
            {
                "token": token,
                "user": args.user,
                "namespace": args.namespace,
                "roles": roles,
                "expires_at": expires,
                "jti": jti,
            }
        )
        return OK
    done("Token generated")
    print()
    print(token)
    print()
    print(f"  User: {on_terminal(args.user)}")
    print(f"  Namespace: {on_terminal(args.namespace)}")
    print(f"  Roles: {', '.join(roles)}")
    print(f"  Expires: {expires} (in {args.ttl} s)")
    print(f"  Id: {jti}")
    print()
    print("Use it:")
    print(
        f'  curl -H "Authorization: Bearer {token[:_SHOWN]}..."'
        f' "{found.server}/api/v1/readdir?path=/"'
    )
    return OK


def _check_named(user: str, namespace: str) -> None:
    """Raise UsageError for a token that would hold nowhere."""
    if not 1 <= len(user) <= _USER_MAX:
        raise UsageError(f"a user has 1 to {_USER_MAX} characters")
    if any("\ud800" <= char <= "\udfff" for char in user):
        raise UsageError("the user is not UTF-8")
    try:
        check_namespace_name(namespace)
    except InvalidArgument as error:
        raise UsageError(f"Invalid namespace name: {error.detail}") from None


def _decode(args: argparse.Namespace) -> int:
    payload = payload_of(argument_or_stdin(args.token_text, "token").strip())
    print_json(payload)
    expires_s = payload.get("exp")
    if args.json or not isinstance(expires_s, int | float):
        return OK
    try:
        text = _utc(int(expires_s))
    except (ValueError, OverflowError, OSError):
        raise AdminError("the claim `exp` is not a time") from None
    if expires_s > SystemClock().now_s():
        done(f"Expires at {text}")
    else:
        caution(f"Token expired at {text}")
    return OK


def _revoke(args: argparse.Namespace) -> int:
    kind: str = args.action
    subject = argument_or_stdin(args.subject, "token") if kind == "token" else args.subject
    if not subject:
        raise UsageError(f"the {kind} is empty")
    body = {kind: subject}
    namespace = getattr(args, "namespace", None) if kind in {"user", "jti"} else None
    if namespace:
        body["namespace"] = namespace
    Server(admin_setup.access(args)).administer("POST", "/auth/revoke", body)
    # The token itself is not shown again.
    shown = None if kind == "token" else subject
    if args.json:
        print_json({"revoked": kind, "subject": shown, "namespace": namespace})
        return OK
    where = f" (namespace: {namespace})" if namespace else ""
    done(f"Revoked: {kind}{where}" if shown is None else f"Revoked: {kind} {shown}{where}")
    return OK


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
