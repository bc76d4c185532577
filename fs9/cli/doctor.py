"""`fs9 doctor`: check what could keep fs9 from working, and say what to do.

The server is looked for at the URL of the connection options; settings, data directory and port are
those that `fs9 serve` would use here.
"""

from __future__ import annotations

import http.client
import os
import platform
import shutil
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from fs9 import __version__
from fs9.cli.connection import add_options, connect, token_of, url_of
from fs9.cli.ending import ERROR, OK, UsageError, describe, exit_code
from fs9.cli.show import human, print_json
from fs9.errors import Fs9Error, Unauthenticated

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from fs9.config import Settings

Verdict: TypeAlias = Literal["ok", "warn", "fail"]

#: Less free space than this is worth a warning.
_FREE_BYTES_MIN = 1024**3
_PYTHON_MIN = (3, 11)
_SERVICE_TIMEOUT_S = 5.0


class Finding(msgspec.Struct, frozen=True):
    """One line of the answer. `advice` says what to do; `code` is the exit code of a failure."""

    check: str
    verdict: Verdict
    text: str
    advice: str = ""
    code: int = ERROR


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from fs9.config import add_flags

    parser = subparsers.add_parser(
        "doctor",
        help="check what could keep fs9 from working, and say what to do",
        description=__doc__,
    )
    parser.add_argument("--json", action="store_true", help="one JSON array of findings")
    add_flags(parser)
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    findings: list[Finding] = []
    for finding in _findings(args):
        findings.append(finding)
        if not args.json:
            print(f"{finding.verdict:<4}  {finding.check}: {finding.text}")
            if finding.advice:
                print(f"      → {finding.advice}")
    if args.json:
        print_json([_without_code(finding) for finding in findings])
    return next((finding.code for finding in findings if finding.verdict == "fail"), OK)


def _without_code(finding: Finding) -> dict[str, str]:
    values = msgspec.structs.asdict(finding)
    del values["code"]
    return values


def _findings(args: argparse.Namespace) -> Iterator[Finding]:
    yield _python()
    settings, finding = _settings(args)
    yield finding
    reached = False
    for finding in _server(args):
        reached = reached or (finding.check == "server" and finding.verdict == "ok")
        yield finding
    if settings is not None:
        yield _data_directory(settings)
        for endpoint in settings.meta_endpoints:
            yield _metadata_service(endpoint, settings.meta_key)
        if not reached:
            yield _port(settings)


def _python() -> Finding:
    text = f"fs9 {__version__} on Python {platform.python_version()}"
    if sys.version_info < _PYTHON_MIN:
        return Finding("python", "fail", text, "install Python 3.11 or later")
    return Finding("python", "ok", text)


def _settings(args: argparse.Namespace) -> tuple[Settings | None, Finding]:
    from fs9.config import ConfigError, check_exposure, flags_of, load

    try:
        settings = load(flags_of(args), os.environ, Path.cwd())
        check_exposure(settings)
    except ConfigError as error:
        return None, Finding("settings", "fail", str(error), "correct it; then `fs9 config`")
    if settings.warnings:
        return settings, Finding("settings", "warn", "; ".join(settings.warnings))
    auth = "on" if settings.auth_enabled else "off"
    return settings, Finding("settings", "ok", f"understood; authentication is {auth}")


# -- The server. ----------------------------------------------------------------------------


def _server(args: argparse.Namespace) -> Iterator[Finding]:
    try:
        url = url_of(args, os.environ)
        token = token_of(args, os.environ)
        client = connect(args)
    except (UsageError, Fs9Error) as error:
        yield Finding("server", "fail", str(error), code=exit_code(error))
        return
    with client:
        try:
            health = client.health()
        except Fs9Error as error:
            yield Finding("server", "fail", describe(None, error), code=exit_code(error))
            return
        yield Finding("server", "ok", f"{url} answers (instance {health.instance_id})")
        try:
            root = client.stat("/")
        except Unauthenticated as error:
            advice = "give a token with --token-file, FS9_TOKEN_FILE or FS9_TOKEN"
            if token:
                advice = "ask for a new token; this one is wrong or too old"
            yield Finding("access", "fail", str(error), advice, exit_code(error))
        except Fs9Error as error:
            advice = "the token's namespace may not exist, or its root mount may be broken"
            yield Finding("access", "fail", str(error), advice, exit_code(error))
        else:
            how = "with the token" if token else "without a token"
            verdict: Verdict = "ok" if root.is_dir else "fail"
            yield Finding("access", verdict, f"the root can be read {how}")


# -- This host. -----------------------------------------------------------------------------


def _data_directory(settings: Settings) -> Finding:
    path = settings.data_dir
    existing = next(place for place in (path, *path.parents) if place.exists())
    if not existing.is_dir():
        advice = "choose another with --data-dir"
        return Finding("data", "fail", f"{existing} is not a directory", advice)
    if not os.access(existing, os.W_OK | os.X_OK):
        advice = f"make {existing} writable for this user, or choose another with --data-dir"
        return Finding("data", "fail", f"{path} cannot be written to", advice)
    free = shutil.disk_usage(existing).free
    text = f"{path} ({human(free)} free)"
    if free < _FREE_BYTES_MIN:
        return Finding("data", "warn", text, "make room, or choose another with --data-dir")
    return Finding("data", "ok", text if path.exists() else f"{text}, made at the first start")


def _metadata_service(endpoint: str, key: str) -> Finding:
    request = urllib.request.Request(
        f"{endpoint}/api/v1/ping", headers={"x-fs9-meta-key": key} if key else {}
    )
    # As the server does it: this host's proxies are not meant for this.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SERVICE_TIMEOUT_S):
            return Finding("metadata", "ok", f"{endpoint} answers and takes our key")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in {401, 403}:
            advice = "give the admin key of the service in server.meta_key or FS9_META_KEY"
            return Finding("metadata", "fail", f"{endpoint} refuses our key", advice)
        if error.code == 404:
            text = f"{endpoint} answers; it has no feed of changes"
            return Finding(
                "metadata", "warn", text, "revocations made there take minutes to reach this server"
            )
        return Finding("metadata", "fail", f"{endpoint} answers {error.code}", "see its log")
    except (OSError, http.client.HTTPException) as error:
        advice = "start it (`fs9 meta serve`), or correct server.meta_url"
        return Finding("metadata", "fail", f"{endpoint} does not answer: {error}", advice)


def _port(settings: Settings) -> Finding:
    where = f"{settings.host}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.create_server((settings.host, settings.port), family=family):
            pass
    except OSError as error:
        advice = "stop what listens there, or choose another with --port"
        text = f"{where} cannot be listened on: {error.strerror}"
        return Finding("port", "fail", text, advice)
    return Finding("port", "ok", f"{where} is free: `fs9 serve` can take it")
