"""Which server `fs9 admin` talks to, and as whom: flags, environment, and its own file.

The file is `{user config dir}/fs9/admin.toml`, made by `fs9 admin init` for its owner alone.
The signing secret can make any token, so each call gets one of its own, valid for an hour, with no
more than the role that the call needs. A token that is given is used as it is.
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fs9.cli.ending import UsageError
from fs9.clock import SystemClock

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

SERVER_DEFAULT = "http://localhost:9999"
ADMIN_NAMESPACE = "admin"
#: Who signs what this program asks for.
SUBJECT = "admin"
TOKEN_S = 3600
_SECRET_BYTES_MAX = 64 * 1024
_KEYS = {"server", "jwt_secret"}
_OTHERS = 0o077


class AdminError(Exception):
    """The command cannot be done; the text is for people, and says what to do."""


@dataclass(frozen=True, slots=True)
class Access:
    """What the flags, the environment and the file came to. Secrets are not shown."""

    server: str
    secret: str | None = field(repr=False)
    token: str | None = field(repr=False)
    admin_namespace: str
    file: Path

    @property
    def means(self) -> str:
        """What is shown to the server: "token", tokens signed with the "secret", or "nothing"."""
        if self.token is not None:
            return "token"
        return "nothing" if self.secret is None else "secret"

    def token_for(self, namespace: str, role: str) -> str | None:
        """What to show for a call in this namespace that needs this role."""
        if self.token is not None or self.secret is None:
            return self.token
        return signed(self.secret, SUBJECT, namespace, (role,), TOKEN_S)


def signed(secret: str, subject: str, namespace: str, roles: Sequence[str], ttl_s: int) -> str:
    """A token of its own from now on: no other one has its `jti`, so it can be revoked alone."""
    now_s = int(SystemClock().now_s())
    claims = {
        "sub": subject,
        "ns": namespace,
        "roles": list(roles),
        "iat": now_s,
        "exp": now_s + ttl_s,
        "jti": secrets.token_hex(16),
    }
    # By name, at call time: commands are no part of the server.
    token: str = importlib.import_module("fs9.auth.tokens").sign(claims, secret)
    return token


def access_of(args: argparse.Namespace, environ: Mapping[str, str]) -> Access:
    """Flags before environment before file. Raises AdminError, UsageError."""
    path = file_path(environ)
    kept = read_file(path)
    first = environ.get("FS9_SERVER_ENDPOINTS", "").split(",")[0].strip()
    if getattr(args, "server", None) == "":
        raise UsageError("the server's URL is empty")
    server = (
        getattr(args, "server", None)
        or getattr(args, "url", None)
        or first
        or environ.get("FS9_URL")
        or kept.get("server")
        or SERVER_DEFAULT
    )
    secret = given_secret(args)
    token = None if secret is not None else _given_token(args)
    if secret is None and token is None:
        secret = environ.get("FS9_JWT_SECRET") or kept.get("jwt_secret") or None
        if secret is None:
            token = _environment_token(environ)
    return Access(
        server if "://" in server else f"http://{server}",
        secret,
        token,
        getattr(args, "admin_ns", None) or ADMIN_NAMESPACE,
        path,
    )


def needed_secret(access: Access) -> str:
    """Raises AdminError without one."""
    if access.secret is None:
        raise AdminError(
            "no signing secret: run `init`, or give --secret-file FILE or FS9_JWT_SECRET"
        )
    return access.secret


# -- The file. --------------------------------------------------------------------------------


def file_path(environ: Mapping[str, str]) -> Path:
    """By the XDG Base Directory Specification; a relative directory counts as none."""
    home = environ.get("XDG_CONFIG_HOME", "")
    base = Path(home) if home.startswith("/") else Path.home() / ".config"
    return base / "fs9" / "admin.toml"


def read_file(path: Path) -> dict[str, str]:
    """What the file says; nothing without one. Raises AdminError for one that is not readable."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            values = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise AdminError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AdminError(f"{path}: {error}; `init` writes a new one") from None
    unknown = sorted(set(values) - _KEYS)
    if unknown or not all(isinstance(value, str) for value in values.values()):
        what = f"unknown key {unknown[0]!r}" if unknown else "its values are texts"
        raise AdminError(f"{path}: {what}; it has server and jwt_secret")
    if mode & _OTHERS and values.get("jwt_secret"):
        print(
            f"⚠ {path} holds the secret and is open to others: chmod 600 '{path}'", file=sys.stderr
        )
    return values


def write_file(path: Path, server: str, secret: str) -> None:
    """A new file in place of the old one, for this user alone. Raises AdminError, OSError."""
    for name, value in (("server", server), ("secret", secret)):
        if not value.isprintable():
            raise AdminError(f"the {name} has characters that do not belong there")
    # The strings of TOML are those of JSON.
    lines = (
        f"server = {json.dumps(server, ensure_ascii=False)}\n"
        f"jwt_secret = {json.dumps(secret, ensure_ascii=False)}\n"
    )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(lines)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


# -- Secrets that do not stand on the command line. -------------------------------------------


def given_secret(args: argparse.Namespace) -> str | None:
    """That of --secret or --secret-file."""
    file = getattr(args, "secret_file", None)
    if file is not None:
        return secret_text(file, "secret")
    secret: str | None = getattr(args, "secret", None)
    if secret == "":
        raise UsageError("the secret is empty")
    return secret


def secret_text(file: str, what: str) -> str:
    """The first line of a file, `-` is the standard input. Raises UsageError."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(_SECRET_BYTES_MAX)
        else:
            with Path(file).open("rb") as source:
                data = source.read(_SECRET_BYTES_MAX)
        text = data.decode().split("\n", 1)[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text"
        raise UsageError(f"the {what} cannot be read from {file}: {reason}") from None
    if not text:
        raise UsageError(f"the {what} in {file} is empty")
    return text


def argument_or_stdin(text: str, what: str) -> str:
    """`-` stands for the standard input, where nobody else sees it."""
    return secret_text("-", what) if text == "-" else text


def _given_token(args: argparse.Namespace) -> str | None:
    file = getattr(args, "token_file", None)
    return secret_text(file, "token") if file else getattr(args, "token", None)


def _environment_token(environ: Mapping[str, str]) -> str | None:
    if environ.get("FS9_TOKEN"):
        return environ["FS9_TOKEN"].strip()
    file = environ.get("FS9_TOKEN_FILE")
    return secret_text(file, "token") if file else None


# -- JSON and `--set`. ------------------------------------------------------------------------


def configuration(document: str | None, settings: Sequence[str]) -> dict[str, Any] | None:
    """The JSON object with what `--set a.b=c` says over it; None when nothing is given.

    Raises UsageError.
    """
    if document is None and not settings:
        return None
    try:
        value = {} if document is None else json.loads(document)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the configuration is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError("the configuration is a JSON object")
    for setting in settings:
        key, equals, text = setting.partition("=")
        names = key.split(".")
        if not equals or not all(names):
            raise UsageError(f"--set {setting}: expected KEY=VALUE, with dots between nested keys")
        _set(value, names, typed(text), setting)
    return value


def _set(into: dict[str, Any], names: list[str], value: object, setting: str) -> None:
    for name in names[:-1]:
        inner = into.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {setting}: {name} is not an object")
        into = inner
    into[names[-1]] = value


def typed(text: str) -> object:
    """An integer, a number, true or false, else the text."""
    if text in {"true", "false"}:
        return text == "true"
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        # Python's own spellings (1_000, nan) mean themselves.
        if "_" not in text and text.strip() == text and number - number == 0:
            return number
    return text
