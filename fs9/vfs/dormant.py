"""Handles as the journal knows them: an id, and the path where its file is now.

`Handles` is the state that the records of a journal add up to, and what a namespace keeps of the
handles that an earlier owner opened and nobody has used since. Pure: no file, no clock.

Paths are kept in a tree by name, so renaming a directory moves one node, however many handles are
below it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fs9.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Node:
    """A name that leads to handles. One without handles and children is removed."""

    __slots__ = ("children", "handle_ids", "name", "parent")

    def __init__(self, parent: _Node | None, name: str) -> None:
        self.parent = parent
        self.name = name
        self.children: dict[str, _Node] = {}
        self.handle_ids: set[str] = set()


class _Handle(msgspec.Struct, gc=False):
    """`node` is None once the file has no path any more. No node leads back here: no cycle."""

    node: _Node | None
    bits: int
    file_id: str
    opener: Principal


class Known(NamedTuple):
    """A handle as it is asked for: its path ("" when the file has none), flags as bits.

    `opener` is who opened it, as far as a revocation can mean it.
    """

    path: str
    bits: int
    file_id: str
    opener: Principal


class Handles:
    __slots__ = ("_handles", "_root")

    def __init__(self) -> None:
        self._root = _Node(None, "")
        self._handles: dict[str, _Handle] = {}

    def __len__(self) -> int:
        return len(self._handles)

    def __contains__(self, handle_id: str) -> bool:
        return handle_id in self._handles

    def __iter__(self) -> Iterator[str]:
        return iter(self._handles)

    def get(self, handle_id: str) -> Known | None:
        """None: unknown."""
        handle = self._handles.get(handle_id)
        if handle is None:
            return None
        path = "" if handle.node is None else _path(handle.node)
        return Known(path, handle.bits, handle.file_id, handle.opener)

    def opener(self, handle_id: str) -> Principal | None:
        """Who opened it; None: unknown."""
        handle = self._handles.get(handle_id)
        return None if handle is None else handle.opener

    def add(self, handle_id: str, path: str, bits: int, file_id: str, opener: Principal) -> None:
        """`path`: clean, or "" for a file without one."""
        self.discard(handle_id)
        node = self._make(path) if path else None
        self._handles[handle_id] = _Handle(node, bits, file_id, opener)
        if node is not None:
            node.handle_ids.add(handle_id)

    def discard(self, handle_id: str) -> None:
        handle = self._handles.pop(handle_id, None)
        if handle is not None and handle.node is not None:
            handle.node.handle_ids.discard(handle_id)
            _prune(handle.node)

    def clear(self) -> None:
        self._handles.clear()
        self._root = _Node(None, "")

    def move(self, path: str, target: str) -> None:
        """The file or directory has moved to `target`; what was there has lost its path."""
        if path == target:
            return
        self.lose(target)
        node = self._find(path)
        if node is None or node.parent is None:
            return
        parent = node.parent
        del parent.children[node.name]
        _prune(parent)
        directory, _, name = target.rpartition("/")
        node.name, node.parent = name, self._make(directory)
        node.parent.children[name] = node

    def lose(self, path: str, kept: str = "") -> None:
        """The file at the path has lost it; `kept` is the file id of what is there now."""
        node = self._find(path)
        if node is None:
            return
        if kept:
            lost = {id_ for id_ in node.handle_ids if self._handles[id_].file_id != kept}
            self._lose(lost)
            node.handle_ids -= lost
            _prune(node)
            return
        below = [node]
        for each in below:  # grows
            self._lose(each.handle_ids)
            below.extend(each.children.values())
        node.children.clear()
        node.handle_ids.clear()
        _prune(node)

    def _lose(self, handle_ids: set[str]) -> None:
        for handle_id in handle_ids:
            self._handles[handle_id].node = None

    def _find(self, path: str) -> _Node | None:
        node: _Node | None = self._root
        for name in filter(None, path.split("/")):
            if node is None:
                return None
            node = node.children.get(name)
        return node

    def _make(self, path: str) -> _Node:
        node = self._root
        for name in filter(None, path.split("/")):
            child = node.children.get(name)
            if child is None:
                child = node.children[name] = _Node(node, name)
            node = child
        return node


def _path(node: _Node) -> str:
    names: list[str] = []
    while node.parent is not None:
        names.append(node.name)
        node = node.parent
    return "/" + "/".join(reversed(names))


def _prune(node: _Node) -> None:
    while node.parent is not None and not node.handle_ids and not node.children:
        parent = node.parent
        if parent.children.get(node.name) is node:
            del parent.children[node.name]
        node = parent
