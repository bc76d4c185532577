"""A reference model of fs9: what the ten operations do, in the plainest words.

One flat dict from path to node; slow, and unlike any provider. `ModelFs` raises the errors
that the real thing must raise. Its etags are its own: whoever compares keeps pairs of them.
With `mounts` it is a namespace of several providers, else one provider.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from fs9.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidArgument,
    IsDirectory,
    NotDirectory,
    NotFound,
    NotSupported,
    PermissionDenied,
    PreconditionFailed,
)
from fs9.path import is_within, split
from fs9.types import ALWAYS, Condition, FileType, OpenFlags, StatChanges

_versions = itertools.count(1)


@dataclass(eq=False)
class Node:
    """`version` names the content, and never comes twice."""

    file_type: FileType
    mode: int
    content: bytes = b""
    target: str | None = None
    version: str = field(default_factory=lambda: str(next(_versions)))

    @property
    def is_dir(self) -> bool:
        return self.file_type is FileType.DIRECTORY

    @property
    def size(self) -> int:
        return len(self.target.encode()) if self.target is not None else len(self.content)

    def write(self, content: bytes) -> None:
        self.content = content
        self.version = str(next(_versions))


@dataclass(eq=False)
class Handle:
    """An open file; a replacement knows its place: the directory it began in, and the name."""

    node: Node
    flags: OpenFlags
    condition: Condition = ALWAYS
    parent: Node | None = None
    name: str = ""


def _file() -> Node:
    return Node(FileType.REGULAR, 0o644)


def _directory() -> Node:
    return Node(FileType.DIRECTORY, 0o755)


class ModelFs:
    def __init__(
        self, mounts: tuple[str, ...] = ("/",), *, attributes_make_versions: bool = False
    ) -> None:
        """`attributes_make_versions`: chmod and rename change the etag too, which is allowed."""
        self.mounts = mounts
        self.attributes_make_versions = attributes_make_versions
        self.nodes = {path: _directory() for path in mounts}

    # -- looking --------------------------------------------------------------------------------

    def find(self, path: str) -> Node:
        """The node; raises NotFound, NotDirectory."""
        self._parent(path)
        node = self.nodes.get(path)
        if node is None:
            raise NotFound(path)
        return node

    def _parent(self, path: str) -> Node:
        """The directory that holds the last name; raises NotFound, NotDirectory."""
        parent = split(path)[0]
        if parent == "/":
            return self.nodes["/"]
        node = self.find(parent)
        if not node.is_dir:
            raise NotDirectory(parent)
        return node

    def names(self, path: str) -> list[str]:
        if not self.find(path).is_dir:
            raise NotDirectory(path)
        names = [
            split(other)[1] for other in self.nodes if other != "/" and split(other)[0] == path
        ]
        return sorted(names, key=str.encode)

    def device(self, path: str) -> str:
        """The mount point whose provider has the path."""
        return max((mount for mount in self.mounts if is_within(path, mount)), key=len)

    def used_bytes(self, open_handles: list[Handle]) -> int:
        """Bytes of every file that is named or open."""
        nodes = {*self.nodes.values(), *(handle.node for handle in open_handles)}
        return sum(node.size for node in nodes)

    # -- changes by path ------------------------------------------------------------------------

    def remove(self, path: str, condition: Condition) -> None:
        if path in self.mounts:
            raise PermissionDenied(path)
        node = self.find(path)
        _check(condition, node)
        if node.is_dir and self.names(path):
            raise DirectoryNotEmpty(path)
        del self.nodes[path]

    def wstat(self, path: str, changes: StatChanges, condition: Condition) -> None:
        if changes.symlink_target is not None:
            self._parent(path)
            if path in self.nodes:
                raise AlreadyExists(path)
            _check(condition, None)
            self.nodes[path] = Node(FileType.SYMLINK, 0o777, target=changes.symlink_target)
        elif changes.name is not None:
            self._rename(path, changes.name, condition)
        else:
            node = self.find(path)
            _check(condition, node)
            self._change(node, path, changes)

    def _change(self, node: Node, path: str, changes: StatChanges) -> None:
        if changes.mode is not None and node.file_type is FileType.SYMLINK:
            raise NotSupported("chmod")
        if changes.size is not None:
            if node.is_dir:
                raise IsDirectory(path)
            if node.file_type is FileType.SYMLINK:
                raise InvalidArgument(path)
            node.write(node.content[: changes.size].ljust(changes.size, b"\0"))
        if changes.mode is not None:
            node.mode = changes.mode
            self._attributes_changed(node)

    def _rename(self, path: str, target: str, condition: Condition) -> None:
        if path in self.mounts or target in self.mounts:
            raise PermissionDenied(path)
        if self.device(path) != self.device(target):
            raise InvalidArgument("cannot rename across mount points")
        node = self.find(path)
        if node.is_dir and path != target and is_within(target, path):
            raise InvalidArgument(path)
        self._parent(target)
        _check(condition, node)
        old = self.nodes.get(target)
        if old is node:
            return
        if old is not None and is_within(path, target):
            raise DirectoryNotEmpty(target)
        if old is not None and node.is_dir != old.is_dir:
            raise (NotDirectory if node.is_dir else IsDirectory)(target)
        if old is not None and old.is_dir and self.names(target):
            raise DirectoryNotEmpty(target)
        moved = {
            other: self.nodes.pop(other) for other in list(self.nodes) if is_within(other, path)
        }
        for other, moved_node in moved.items():
            self.nodes[target + other[len(path) :]] = moved_node

    def _attributes_changed(self, node: Node) -> None:
        if self.attributes_make_versions:
            node.write(node.content)

    # -- open files -----------------------------------------------------------------------------

    def open(self, path: str, flags: OpenFlags, condition: Condition) -> Handle:
        if flags.truncate and not flags.write:
            raise InvalidArgument("truncate")
        if flags.replace and (flags.directory or not flags.write):
            raise InvalidArgument("replace")
        if flags.replace and path == "/":
            raise IsDirectory(path)
        self._parent(path)
        node = self.nodes.get(path)
        if flags.create and flags.directory:
            if node is not None:
                raise AlreadyExists(path)
            _check(condition, None)
            self.nodes[path] = _directory()
            return Handle(self.nodes[path], flags)
        if node is None and not flags.create:
            raise NotFound(path)
        if node is not None:
            self._check_existing(node, path, flags)
        _check(condition, node)
        if flags.replace:
            return self._stage(path, flags, condition, node)
        if node is None:
            node = self.nodes[path] = _file()
        elif flags.truncate:
            node.write(b"")
        return Handle(node, flags)

    def _check_existing(self, node: Node, path: str, flags: OpenFlags) -> None:
        if flags.create and flags.exclusive:
            raise AlreadyExists(path)
        if node.is_dir and (flags.write or flags.create):
            raise IsDirectory(path)
        if not node.is_dir and flags.directory:
            raise NotDirectory(path)
        if node.file_type is FileType.SYMLINK:
            raise InvalidArgument(path)

    def _stage(self, path: str, flags: OpenFlags, condition: Condition, old: Node | None) -> Handle:
        staged = _file()
        if old is not None:
            staged.mode = old.mode
        return Handle(staged, flags, condition, self._parent(path), split(path)[1])

    def read(self, handle: Handle, offset: int, size: int) -> bytes:
        if not handle.flags.read:
            raise PermissionDenied("reading")
        if handle.node.is_dir:
            raise IsDirectory("")
        return handle.node.content[offset : offset + size]

    def write(self, handle: Handle, offset: int, data: bytes) -> None:
        node = handle.node
        if not handle.flags.write or node.is_dir:
            raise PermissionDenied("writing")
        if handle.flags.append:
            offset = node.size
        if data:
            before = node.content[:offset].ljust(offset, b"\0")
            node.write(before + data + node.content[offset + len(data) :])

    def close(self, handle: Handle, *, discard: bool) -> None:
        if handle.parent is None or discard:
            return
        directories = [path for path, node in self.nodes.items() if node is handle.parent]
        if not directories:
            raise NotFound(handle.name)
        path = f"{directories[0].rstrip('/')}/{handle.name}"
        old = self.nodes.get(path)
        if old is None and not handle.flags.create:
            raise NotFound(path)
        if old is not None:
            self._check_existing(old, path, handle.flags)
        _check(handle.condition, old)
        if old is not None:
            handle.node.mode = old.mode
        self.nodes[path] = handle.node


def _check(condition: Condition, node: Node | None) -> None:
    if not condition.holds(None if node is None else node.version):
        raise PreconditionFailed("")
