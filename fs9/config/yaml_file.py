"""Parses a YAML text into a tree of values that know their line.

YAML is parsed first; then `${VAR}` and `${VAR:-default}` are expanded, in scalar values only: a
comment or a key is never expanded, and a variable can bring a value but no structure. A plain
scalar is resolved by YAML's rules after its expansion (`${PORT}` becomes a number); between quotes
it stays text. Nothing here knows any setting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import yaml

from fs9.config.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Deeper files are refused, so that a recursive alias ends in an error.
DEPTH_MAX = 32

_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")
_PREFIX = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset(_PREFIX + name for name in ("str", "int", "float", "bool", "null"))


@dataclass(frozen=True, slots=True)
class Scalar:
    """`value` by YAML's rules; `text` as written (after expansion, if `expanded`)."""

    line: int
    value: str | int | float | bool | None
    text: str
    expanded: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    line: int
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping; `key_lines` says where each key stands."""

    line: int
    items: dict[str, Node]
    key_lines: dict[str, int]


Node: TypeAlias = Scalar | Sequence | Table


def parse(text: str, source: str, environ: Mapping[str, str]) -> Table:
    """The top-level mapping of `text`; empty when there is nothing but comments.

    Raises ConfigError with `source` and the line.
    """
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return Table(1, {}, {})
        tree = _Reader(loader, source, environ).node(root, 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise ConfigError(f"{source}:{line}: not valid YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{source}:{line}: not valid YAML: {error.reason}") from None
    except RecursionError:
        raise ConfigError(f"{source}: nested too deeply") from None
    if isinstance(tree, Scalar) and tree.value is None:
        return Table(tree.line, {}, {})
    if not isinstance(tree, Table):
        raise ConfigError(f"{source}:{tree.line}: expected keys and values at the top")
    return tree


def scalar(text: str) -> Scalar:
    """A text from outside YAML (a variable, a flag), read as a plain scalar; its line is 0."""
    loader = yaml.SafeLoader("")
    try:
        tag: str = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        if tag not in _SCALAR_TAGS:
            return Scalar(0, text, text, expanded=True)
        value = loader.construct_object(yaml.ScalarNode(tag, text))
        return Scalar(0, value, text, expanded=True)
    except ValueError:  # looks like a number or a date and is none
        return Scalar(0, text, text, expanded=True)


def plain(node: Node) -> object:
    """The tree as ordinary dicts, lists and scalars."""
    match node:
        case Table():
            return {key: plain(item) for key, item in node.items.items()}
        case Sequence():
            return [plain(item) for item in node.items]
        case Scalar():
            return node.value


class _Reader:
    def __init__(self, loader: yaml.SafeLoader, source: str, environ: Mapping[str, str]) -> None:
        self._loader = loader
        self._source = source
        self._environ = environ

    def node(self, node: yaml.Node, depth: int) -> Node:
        line = node.start_mark.line + 1
        if depth > DEPTH_MAX:
            raise self._error(line, "nested too deeply")
        if isinstance(node, yaml.MappingNode):
            return self._table(node, line, depth)
        if isinstance(node, yaml.SequenceNode):
            return Sequence(line, tuple(self.node(item, depth + 1) for item in node.value))
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, line)

    def _table(self, node: yaml.MappingNode, line: int, depth: int) -> Table:
        items: dict[str, Node] = {}
        key_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(key_line, "a key must be a plain word")
            key = str(key_node.value)
            if key in items:
                raise self._error(key_line, f"{key} is given twice, first in line {key_lines[key]}")
            items[key] = self.node(value_node, depth + 1)
            key_lines[key] = key_line
        return Table(line, items, key_lines)

    def _scalar(self, node: yaml.ScalarNode, line: int) -> Scalar:
        text = self._expand(node.value, line)
        expanded = text != node.value or "${" in node.value
        if expanded and node.style is None:
            result = scalar(text)
            return Scalar(line, result.value, text, expanded=True)
        if node.tag not in _SCALAR_TAGS:
            kind = node.tag.removeprefix(_PREFIX)
            raise self._error(line, f"a value of type {kind} is not understood; quote it")
        try:
            value = text if expanded else self._loader.construct_object(node)
        except ValueError:
            raise self._error(line, "not a valid number; quote it if it is text") from None
        return Scalar(line, value, text, expanded)

    def _expand(self, text: str, line: int) -> str:
        if "${" not in text:
            return text

        def replacement(match: re.Match[str]) -> str:
            name, default = match.group(1), match.group(2)
            if match.group() == "$${":
                return "${"
            if name is None:
                raise self._error(line, "expected ${NAME} or ${NAME:-default}; write $${ for ${")
            value = self._environ.get(name)
            if default is not None:
                return value or default
            if value is None:
                raise self._error(line, f"the variable {name} is not set (${{{name}:-default}}?)")
            return value

        return _VARIABLE.sub(replacement, text)

    def _error(self, line: int, text: str) -> ConfigError:
        return ConfigError(f"{self._source}:{line}: {text}")
