"""Which server, and as whom: the options of every command that talks to a server."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fs9.cli.ending import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fs9.client.sync import Client

_GROUP = "connection"


def add_options(parser: argparse.ArgumentParser, default: str | None = argparse.SUPPRESS) -> None:
    """Add the connection options; with SUPPRESS one given before the command stays."""
    group = parser.add_argument_group(_GROUP)
    group.add_argument(
        "--url",
        default=default,
        help="the server, also with a tenant: http://host:9999/acme (FS9_URL;"
        " default: http://127.0.0.1:9999)",
    )
    group.add_argument(
        "--token", default=default, help="the token; others on this host may see it (FS9_TOKEN)"
    )
    group.add_argument(
        "--token-file", metavar="FILE", default=default, help="read the token here (FS9_TOKEN_FILE)"
    )
    group.add_argument(
        "--namespace", metavar="NAME", default=default, help="the tenant, instead of in the URL"
    )


def url_of(args: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """The URL of the server: flag, FS9_URL, the first of FS9_SERVER_ENDPOINTS, the default."""
    first_endpoint = environ.get("FS9_SERVER_ENDPOINTS", "").split(",")[0].strip()
    url = args.url or environ.get("FS9_URL") or first_endpoint or "http://127.0.0.1:9999"
    return url if "://" in url else f"http://{url}"


def token_of(args: argparse.Namespace, environ: Mapping[str, str]) -> str | None:
    """The token: flags, FS9_TOKEN, FS9_TOKEN_FILE. Raises UsageError for an unreadable file."""
    if args.token:
        return str(args.token)
    if not args.token_file and environ.get("FS9_TOKEN"):
        return environ["FS9_TOKEN"].strip()
    path = args.token_file or environ.get("FS9_TOKEN_FILE")
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UsageError(f"the token file {path} cannot be read: {reason}") from None


def connect(args: argparse.Namespace, environ: Mapping[str, str] | None = None) -> Client:
    """A client as the options and the environment say; connects when first used."""
    from fs9.client.sync import Client

    environ = os.environ if environ is None else environ
    return Client(url_of(args, environ), token_of(args, environ), namespace=args.namespace)
