"""From files, environment and flags to one checked `Settings`.

defaults < files < environment < flags; the nearer one wins key by key, lists are replaced
whole. The file is `FS9_CONFIG` alone, else `-c FILE` alone, else all that exist on the search
path, merged in order. A file that cannot be read or understood is an error, never a fallback.
Nothing here reads the process environment: it is an argument.
"""

from __future__ import annotations

import ipaddress
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fs9.config.errors import ConfigError, nearest
from fs9.config.kinds import Mismatch
from fs9.config.log_filter import parse_filter
from fs9.config.settings import RESERVED_KEYS, RESERVED_VARIABLES, SETTINGS, Settings
from fs9.config.yaml_file import Node, Scalar, Table, parse, scalar
from fs9.limits import Limits
from fs9.types import PluginSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fs9.config.setting import Setting

CONFIG_VARIABLE = "FS9_CONFIG"
SYSTEM_FILE = Path("/etc/fs9/fs9.yaml")
#: RFC 7518, section 3.2: a key for HS256 has at least as many bits as the hash.
SECRET_BYTES_MIN = 32

_SECRET_KEY = "server.auth.jwt_secret"
_JWKS_KEY = "server.auth.jwks"
_SERVICE_KEY = "server.meta_url"
_ENABLED_KEY = "server.auth.enabled"
_BY_KEY = {setting.key: setting for setting in SETTINGS}
_SECTIONS = {
    ".".join(parts[:depth])
    for parts in (key.split(".") for key in _BY_KEY)
    for depth in range(1, len(parts))
}


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line said: values by key (as typed by the user), and the rest."""

    values: Mapping[str, str]
    config: Path | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class _Given:
    value: Any
    origin: str


def load(
    flags: Flags, environ: Mapping[str, str], cwd: Path, *, system_file: Path = SYSTEM_FILE
) -> Settings:
    """The effective settings; raises ConfigError. Reads files, changes nothing."""
    warnings: list[str] = []
    given: dict[str, _Given] = {}
    for path in _files(flags, environ, cwd, system_file, warnings):
        given.update(_from_file(path, environ, warnings))
    given.update(_from_environment(environ, given, warnings))
    given.update(_from_flags(flags))
    _decide_authentication(given, warnings)
    return _build(given, flags, environ, cwd, warnings)


# -- Which files ----------------------------------------------------------------------------


def _files(
    flags: Flags,
    environ: Mapping[str, str],
    cwd: Path,
    system_file: Path,
    warnings: list[str],
) -> list[Path]:
    named = environ.get(CONFIG_VARIABLE)
    if named:
        if flags.config is not None:
            warnings.append(
                f"the file {flags.config} of -c is not read: {CONFIG_VARIABLE} names {named}"
            )
        return [cwd / named]
    if flags.config is not None:
        return [cwd / flags.config]
    places = [system_file, *_user_files(environ), cwd / "fs9.yaml"]
    return [path for path in places if _exists(path)]


def _user_files(environ: Mapping[str, str]) -> list[Path]:
    config_home, home = environ.get("XDG_CONFIG_HOME"), environ.get("HOME")
    if config_home:
        return [Path(config_home, "fs9", "fs9.yaml")]
    return [Path(home, ".config", "fs9", "fs9.yaml")] if home else []


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    return True


# -- One source after another ---------------------------------------------------------------


def _from_file(path: Path, environ: Mapping[str, str], warnings: list[str]) -> dict[str, _Given]:
    try:
        text = path.read_bytes().decode()
        open_to_all = bool(path.stat().st_mode & stat.S_IROTH)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None
    given: dict[str, _Given] = {}
    _walk(parse(text, str(path), environ), "", str(path), given)
    secret = given.get(_SECRET_KEY)
    if secret is not None and secret.value and open_to_all and text.find(secret.value) >= 0:
        warnings.append(f"{path} contains {_SECRET_KEY} and every user can read it (chmod 600)")
    return given


def _walk(table: Table, prefix: str, source: str, given: dict[str, _Given]) -> None:
    for name, node in table.items.items():
        key = f"{prefix}{name}"
        place = f"{source}:{table.key_lines[name]}"
        if key in RESERVED_KEYS:
            raise ConfigError(f"{place}: {key} is {RESERVED_KEYS[key]}")
        if key in _BY_KEY:
            given[key] = _Given(_read(_BY_KEY[key], node, source), f"{source}:{node.line}")
        elif key not in _SECTIONS:
            raise ConfigError(f"{place}: unknown key {key}{_suggestion(key)}")
        elif isinstance(node, Table):
            _walk(node, f"{key}.", source, given)
        elif not (isinstance(node, Scalar) and node.value is None):
            raise ConfigError(f"{place}: {key}: expected keys and values below it")


def _suggestion(key: str) -> str:
    """The key that was probably meant: the same name elsewhere, else the most similar key."""
    known = [*_BY_KEY, *_SECTIONS]
    name = key.rpartition(".")[2]
    same = [other for other in known if other.rpartition(".")[2] == name]
    return f"; did you mean {same[0]}?" if same else nearest(key, known)


def _from_environment(
    environ: Mapping[str, str], given: Mapping[str, _Given], warnings: list[str]
) -> dict[str, _Given]:
    for name, reason in RESERVED_VARIABLES.items():
        if environ.get(name):
            raise ConfigError(f"the environment variable {name} is set: {reason}")
    found: dict[str, _Given] = {}
    for setting in SETTINGS:
        text = environ.get(setting.env) if setting.env else None
        if text:
            where = f"environment variable {setting.env}"
            found[setting.key] = _Given(_read(setting, scalar(text), where), where)
    if environ.get("FS9_JWT_SECRET") == "":
        # The contract's rule: an empty secret overrides the file's, which turns it off.
        secret = given.get(_SECRET_KEY)
        if secret is not None and secret.value:
            warnings.append(f"FS9_JWT_SECRET is empty and overrides the secret of {secret.origin}")
        found[_SECRET_KEY] = _Given("", "environment variable FS9_JWT_SECRET")
    return found


def _from_flags(flags: Flags) -> dict[str, _Given]:
    found: dict[str, _Given] = {}
    for key, text in flags.values.items():
        where = f"flag {_BY_KEY[key].flag}"
        found[key] = _Given(_read(_BY_KEY[key], scalar(text), where), where)
    return found


def _read(setting: Setting, node: Node, source: str) -> object:
    if setting.optional and isinstance(node, Scalar) and node.value is None:
        return None
    try:
        return setting.kind.read(node)
    except Mismatch as mismatch:
        text = f"expected {setting.kind.title} (in quotes)" if setting.secret else str(mismatch)
        line = mismatch.line or node.line
        place = f"{source}:{line}" if line else source
        raise ConfigError(f"{place}: {setting.key}: {text}") from None


# -- The whole ------------------------------------------------------------------------------


def _decide_authentication(given: dict[str, _Given], warnings: list[str]) -> None:
    """A secret or a key set turns authentication on; without either it is refused."""
    secret = given.get(_SECRET_KEY)
    enabled = given.get(_ENABLED_KEY)
    jwks = given.get(_JWKS_KEY)
    service = given.get(_SERVICE_KEY)
    if service is not None and service.value:
        if enabled is None or not enabled.value:
            why = f"{service.origin}, because a metadata service is given"
            given[_ENABLED_KEY] = _Given(True, why)
        return
    if (secret is None or not secret.value) and jwks is not None and jwks.value:
        if enabled is None or not enabled.value:
            given[_ENABLED_KEY] = _Given(True, f"{jwks.origin}, because a key set is given")
        return
    if secret is not None and secret.value:
        if enabled is not None and not enabled.value:
            warnings.append(
                f"{_ENABLED_KEY} is false in {enabled.origin} and authentication is on all the"
                f" same, because a secret is set ({secret.origin})"
            )
        if enabled is None or not enabled.value:
            given[_ENABLED_KEY] = _Given(True, f"{secret.origin}, because a secret is set")
        if len(secret.value.encode()) < SECRET_BYTES_MIN:
            warnings.append(
                f"the secret of {secret.origin} is shorter than {SECRET_BYTES_MIN} bytes and may"
                " be guessed"
            )
    elif enabled is not None and enabled.value:
        raise ConfigError(
            f"{enabled.origin}: {_ENABLED_KEY} is true and there is no secret; make one with"
            " `openssl rand -hex 32` and put it in FS9_JWT_SECRET (the same for every server)"
        )


def _build(
    given: Mapping[str, _Given],
    flags: Flags,
    environ: Mapping[str, str],
    cwd: Path,
    warnings: list[str],
) -> Settings:
    values: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for key, item in given.items():
        setting = _BY_KEY[key]
        (limits if setting.is_limit else values)[setting.field] = item.value
    if "host" in values:  # [::1], as in a URL, means ::1
        values["host"] = values["host"].removeprefix("[").removesuffix("]")
    keys_dir = values.get("bus_keys_dir")
    settings = Settings(
        **{
            **values,
            "data_dir": _absolute(values.get("data_dir", Settings.data_dir), environ, cwd),
            "bus_keys_dir": keys_dir and _absolute(keys_dir, environ, cwd),
            "plugin_directories": tuple(
                _absolute(path, environ, cwd) for path in values.get("plugin_directories", ())
            ),
            "plugin_preload": tuple(
                PluginSpec(spec.name, _absolute(spec.path, environ, cwd))
                for spec in values.get("plugin_preload", ())
            ),
        },
        limits=_limits(limits),
        insecure=flags.insecure,
        origins={key: item.origin for key, item in given.items()},
        warnings=tuple(warnings),
    )
    # An empty key set, as a variable that is not set leaves it, would turn authentication off.
    for key, value in (("server.host", settings.host), ("server.auth.jwks", settings.jwks)):
        if value == "":
            raise ConfigError(f"{settings.origins[key]}: {key} is empty")
    try:
        parse_filter(settings.log_filter)
    except ValueError as error:
        raise ConfigError(
            f"{settings.origins['logging.filter']}: logging.filter: {error}"
        ) from None
    return settings


def _absolute(path: Path, environ: Mapping[str, str], cwd: Path) -> Path:
    if path.parts[:1] == ("~",) and environ.get("HOME"):
        return Path(environ["HOME"], *path.parts[1:])
    return cwd / path


def _limits(values: Mapping[str, Any]) -> Limits:
    try:
        return Limits(**values)
    except ValueError as error:
        text = str(error)
        for setting in SETTINGS:
            text = text.replace(setting.field, setting.key) if setting.is_limit else text
        raise ConfigError(text) from None


# -- Who can reach it -----------------------------------------------------------------------


def check_exposure(settings: Settings) -> None:
    """Raise ConfigError when other hosts could reach a server that asks nobody for a token."""
    if settings.auth_enabled or settings.insecure or is_loopback(settings.host):
        return
    raise ConfigError(
        f"refusing to listen on {settings.host} without authentication: everyone who reaches it"
        " could read and change every file. Set FS9_JWT_SECRET (`openssl rand -hex 32`), listen"
        " on 127.0.0.1, or, if that is what you want, pass --insecure."
    )


def is_loopback(host: str) -> bool:
    """Can only this host reach it? Names are not looked up; RFC 6761 reserves `localhost`."""
    name = host.rstrip(".").lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
