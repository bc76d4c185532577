"""What type of value a setting takes, and how a YAML node, a variable or a flag becomes one.

Variables and flags arrive as expanded scalars (`yaml_file.scalar`), so that there is one
reading of a value, wherever it comes from. A reader raises Mismatch; the loader knows the
place and the key.
"""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from fs9 import path as slash_path
from fs9.config.errors import nearest
from fs9.config.yaml_file import Node, Scalar, Sequence, Table, plain, scalar
from fs9.errors import Fs9Error
from fs9.names import is_namespace_name
from fs9.types import MountSpec, PluginSpec

#: The largest number that SQLite, JSON readers and C all take.
WHOLE_MAX = 2**63 - 1


class Mismatch(Exception):
    """The value does not fit; `line` is set when it stands deeper than the setting's own."""

    def __init__(self, text: str, line: int | None = None) -> None:
        super().__init__(text)
        self.line = line


class Kind(Protocol):
    @property
    def title(self) -> str:
        """The type in words, for messages and for the reference page."""

    def read(self, node: Node) -> object:
        """The typed value; raises Mismatch."""


@dataclass(frozen=True, slots=True)
class Text:
    choices: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return "one of " + ", ".join(self.choices) if self.choices else "text"

    def read(self, node: Node) -> str:
        if not isinstance(node, Scalar) or not (isinstance(node.value, str) or node.expanded):
            hint = "; quote it" if isinstance(node, Scalar) and node.text else ""
            raise Mismatch(f"expected {self.title}, got {_described(node)}{hint}")
        value = node.text
        if self.choices and value not in self.choices:
            raise Mismatch(f"expected {self.title}, got {value!r}{nearest(value, self.choices)}")
        return value


@dataclass(frozen=True, slots=True)
class Switch:
    title: str = "true or false"

    def read(self, node: Node) -> bool:
        value = _value(node)
        if not isinstance(value, bool):
            raise Mismatch(f"expected {self.title}, got {_described(node)}")
        return value


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `least` to `most`."""

    title: str = "whole number"
    least: int = 1
    most: int = WHOLE_MAX

    def read(self, node: Node) -> int:
        value = _value(node)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Mismatch(f"expected a whole number, got {_described(node)}")
        if not self.least <= value <= self.most:
            bounds = f"from {self.least} to {self.most}"
            if self.most == WHOLE_MAX:
                bounds = f"of at least {self.least}"
            raise Mismatch(f"expected a whole number {bounds}, got {value}")
        return value


@dataclass(frozen=True, slots=True)
class Seconds:
    title: str = "seconds"

    def read(self, node: Node) -> float:
        value = _value(node)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Mismatch(f"expected a number of seconds, got {_described(node)}")
        if not (value > 0 and math.isfinite(value)):
            raise Mismatch(f"expected seconds greater than 0, got {value}")
        return float(value)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses of a service, separated by commas or as a list."""

    title: str = "http:// or https:// addresses"

    def read(self, node: Node) -> tuple[str, ...]:
        items = node.items if isinstance(node, Sequence) else (node,)
        texts = [part.strip() for item in items for part in Text().read(item).split(",")]
        found = [text.rstrip("/") for text in texts if text]
        for text in found:
            self._check(text)
        return tuple(dict.fromkeys(found))

    def _check(self, text: str) -> None:
        try:
            parts = urlsplit(text)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
            whole = usable and (parts.port is None or parts.port > 0)
        except ValueError:
            whole = False
        if not whole or parts.query or parts.fragment or parts.username is not None:
            raise Mismatch("expected http://HOST:PORT or https://HOST:PORT, one or several")


@dataclass(frozen=True, slots=True)
class Directory:
    """A path of the host; the loader makes it absolute."""

    title: str = "path"

    def read(self, node: Node) -> Path:
        text = Text().read(node)
        if not text or "\0" in text:
            raise Mismatch("expected a path, got empty text")
        return Path(text)


@dataclass(frozen=True, slots=True)
class InternalPrefix:
    """A path that no client's request has: a tenant's name begins with no dot."""

    title: str = "a path as /.fs9/files/"

    def read(self, node: Node) -> str:
        text = Text().read(node)
        if not _PREFIX.fullmatch(text):
            raise Mismatch(f"expected {self.title}, got {text!r}")
        return text


_PREFIX = re.compile(r"/\.[A-Za-z0-9_-]+/(?:[A-Za-z0-9_-]+/)*")


@dataclass(frozen=True, slots=True)
class BusAddress:
    """`ipc`, or an address of this host with a port that has one after it."""

    title: str = "`ipc` or tcp://ADDRESS:PORT"

    def read(self, node: Node) -> str:
        text = Text().read(node)
        host, _, port = text.removeprefix("tcp://").rpartition(":")
        try:
            address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
            bracketed = host.startswith("[") and host.endswith("]")
            fits = 0 < int(port) < 65_535 and bracketed == (address.version == 6)
        except ValueError:
            fits = False
        if text != "ipc" and not (fits and text.startswith("tcp://")):
            raise Mismatch(f"expected {self.title}, got {text!r}")
        return text


@dataclass(frozen=True, slots=True)
class Peers:
    """Addresses and networks of other programs, and `unix`."""

    title: str = "list of addresses, networks and `unix`"

    def read(self, node: Node) -> tuple[str, ...]:
        if isinstance(node, Scalar) and node.value is None:
            return ()
        if not isinstance(node, Sequence):
            raise Mismatch(f"expected a {self.title}, got {_described(node)}")
        return tuple(_peer(item) for item in node.items)


def _peer(node: Node) -> str:
    try:
        text = Text().read(node)
        return text if text == "unix" else str(ipaddress.ip_network(text))
    except Mismatch as mismatch:
        raise Mismatch(str(mismatch), node.line) from None
    except ValueError as error:
        raise Mismatch(f"not an address, a network or `unix`: {error}", node.line) from None


@dataclass(frozen=True, slots=True)
class Networks:
    title: str = "list of networks"

    def read(self, node: Node) -> tuple[str, ...]:
        found = Peers(self.title).read(node)
        if "unix" in found:
            raise Mismatch("expected a network, got `unix`", node.line)
        return found


@dataclass(frozen=True, slots=True)
class Texts:
    title: str = "list of texts"

    def read(self, node: Node) -> tuple[str, ...]:
        if isinstance(node, Scalar) and node.value is None:
            return ()
        if not isinstance(node, Sequence):
            raise Mismatch(f"expected a {self.title}, got {_described(node)}")
        return tuple(Text().read(item) for item in node.items)


@dataclass(frozen=True, slots=True)
class NamespaceNames:
    title: str = "list of namespaces"

    def read(self, node: Node) -> tuple[str, ...]:
        if isinstance(node, Scalar) and node.value is None:
            return ()
        if not isinstance(node, Sequence):
            raise Mismatch(f"expected a {self.title}, got {_described(node)}")
        return tuple(_namespace(item) for item in node.items)


def _namespace(node: Node) -> str:
    try:
        name = Text().read(node)
    except Mismatch as mismatch:
        raise Mismatch(str(mismatch), node.line) from None
    if not is_namespace_name(name):
        raise Mismatch(f"{name!r} is no name of a namespace", node.line)
    return name


@dataclass(frozen=True, slots=True)
class Mounts:
    title: str = "list of mounts"

    def read(self, node: Node) -> tuple[MountSpec, ...]:
        if isinstance(node, Scalar) and node.value is None:
            return ()
        if not isinstance(node, Sequence):
            raise Mismatch(f"expected a list of path, provider, config; got {_described(node)}")
        specs = tuple(_mount(item) for item in node.items)
        for index, spec in enumerate(specs):
            if any(spec.path == earlier.path for earlier in specs[:index]):
                raise Mismatch(f"{spec.path} is mounted twice", node.items[index].line)
        return specs


@dataclass(frozen=True, slots=True)
class Directories:
    """Paths of the host; the loader makes them absolute. One alone may stand without a list."""

    title: str = "list of paths"

    def read(self, node: Node) -> tuple[Path, ...]:
        if isinstance(node, Scalar) and node.value is None:
            return ()
        items = node.items if isinstance(node, Sequence) else (node,)
        return tuple(Directory().read(item) for item in items)


@dataclass(frozen=True, slots=True)
class Plugins:
    title: str = "list of name and path"

    def read(self, node: Node) -> tuple[PluginSpec, ...]:
        if isinstance(node, Scalar) and node.value is None:
            return ()
        if not isinstance(node, Sequence):
            raise Mismatch(f"expected a {self.title}, got {_described(node)}")
        return tuple(_plugin(item) for item in node.items)


def _plugin(node: Node) -> PluginSpec:
    if not isinstance(node, Table) or set(node.items) != {"name", "path"}:
        raise Mismatch(f"a plugin has name and path, got {_described(node)}", node.line)
    try:
        name = Text().read(node.items["name"])
        return PluginSpec(name, Directory().read(node.items["path"]))
    except Mismatch as mismatch:
        raise Mismatch(str(mismatch), node.line) from None


_MOUNT_KEYS = ("path", "provider", "config")


def _mount(node: Node) -> MountSpec:
    if not isinstance(node, Table):
        raise Mismatch(f"a mount has path, provider and config, got {_described(node)}", node.line)
    for key, line in node.key_lines.items():
        if key not in _MOUNT_KEYS:
            raise Mismatch(f"a mount has no key {key}{nearest(key, _MOUNT_KEYS)}", line)
    path = _mount_text(node, "path")
    try:
        clean = slash_path.clean(path)
    except Fs9Error as error:
        raise Mismatch(str(error), node.key_lines["path"]) from None
    if path != clean:
        raise Mismatch(f"the mount path {path!r} must be written {clean!r}", node.key_lines["path"])
    return MountSpec(path, _mount_text(node, "provider"), _mount_config(node))


def _mount_text(node: Table, key: str) -> str:
    item = node.items.get(key)
    if item is None:
        raise Mismatch(f"a mount needs {key}", node.line)
    try:
        text = Text().read(item)
    except Mismatch as mismatch:
        raise Mismatch(f"{key}: {mismatch}", item.line) from None
    if not text:
        raise Mismatch(f"{key} is empty", item.line)
    return text


def _mount_config(node: Table) -> dict[str, Any]:
    item = node.items.get("config")
    if item is None or (isinstance(item, Scalar) and item.value is None):
        return {}
    if not isinstance(item, Table):
        raise Mismatch(f"config: expected keys and values, got {_described(item)}", item.line)
    return {key: plain(value) for key, value in item.items.items()}


def _value(node: Node) -> object:
    if not isinstance(node, Scalar):
        return None
    # A quoted "${PORT}" is text for YAML; for a number the reader means what it says.
    return scalar(node.text).value if node.expanded else node.value


def _described(node: Node) -> str:
    match node:
        case Table():
            return "keys and values"
        case Sequence():
            return "a list"
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=bool()):
            return node.text
        case Scalar(value=int() | float()) if not node.expanded:
            return f"the number {node.text}"
        case _:
            return f"the text {node.text!r}"
