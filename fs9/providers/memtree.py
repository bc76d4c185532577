"""Inodes in memory and the walk to them: the tree of `memfs`, without its rules.

A directory holds its children, so a directory is renamed by moving one entry; a handle holds
its inode, so it follows a rename and survives a removal.
"""

from __future__ import annotations

from typing import TypeAlias

from fs9.errors import NotDirectory, NotFound
from fs9.path import split
from fs9.providers.pages import Pages
from fs9.types import FileInfo, FileType


class Inode:
    """What files, directories and links have in common.

    `version` changes with the content and never comes twice in one memfs. `linked` is False
    once no directory has the inode.
    """

    __slots__ = ("atime_ns", "ctime_ns", "gid", "linked", "mode", "mtime_ns", "uid", "version")

    file_type: FileType

    def __init__(self, mode: int, version: int, now_ns: int) -> None:
        self.mode = mode
        self.uid = 0
        self.gid = 0
        self.atime_ns = self.mtime_ns = self.ctime_ns = now_ns
        self.version = version
        self.linked = True

    @property
    def size(self) -> int:
        return 0

    @property
    def etag(self) -> str:
        return f"{self.version:x}"

    def info(self, path: str) -> FileInfo:
        return FileInfo(
            path,
            self.size,
            self.file_type,
            self.mode,
            self.uid,
            self.gid,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
            f"{self.version:x}",
        )


class File(Inode):
    __slots__ = ("opens", "pages")

    file_type = FileType.REGULAR

    def __init__(self, mode: int, version: int, now_ns: int) -> None:
        super().__init__(mode, version, now_ns)
        self.pages = Pages()
        self.opens = 0

    @property
    def size(self) -> int:
        return self.pages.size


class Link(Inode):
    __slots__ = ("target",)

    file_type = FileType.SYMLINK

    def __init__(self, target: str, version: int, now_ns: int) -> None:
        super().__init__(0o777, version, now_ns)
        self.target = target

    @property
    def size(self) -> int:
        return len(self.target.encode())

    def info(self, path: str) -> FileInfo:
        return FileInfo(
            path,
            self.size,
            FileType.SYMLINK,
            self.mode,
            self.uid,
            self.gid,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
            f"{self.version:x}",
            self.target,
        )


class Directory(Inode):
    __slots__ = ("_sorted", "children")

    file_type = FileType.DIRECTORY

    def __init__(self, mode: int, version: int, now_ns: int) -> None:
        super().__init__(mode, version, now_ns)
        self.children: dict[str, Node] = {}
        self._sorted: list[str] | None = None

    def names(self) -> list[str]:
        """Sorted; text sorts as its UTF-8 bytes do. Kept until the directory changes."""
        if self._sorted is None:
            self._sorted = sorted(self.children)
        return self._sorted

    def put(self, name: str, node: Node) -> None:
        if name not in self.children:
            self._sorted = None
        self.children[name] = node
        node.linked = True

    def drop(self, name: str) -> None:
        self._sorted = None
        self.children.pop(name).linked = False


Node: TypeAlias = File | Link | Directory


def find(root: Directory, path: str) -> Node:
    """The inode at the clean path; raises NotFound, NotDirectory (a file in the middle)."""
    node: Node = root
    if path == "/":
        return node
    for name in path[1:].split("/"):
        if not isinstance(node, Directory):
            raise NotDirectory(path)
        child = node.children.get(name)
        if child is None:
            raise NotFound(path)
        node = child
    return node


def find_parent(root: Directory, path: str) -> tuple[Directory, str]:
    """The directory for the last name of the clean path, and that name ("" for the root).

    Raises NotFound and NotDirectory with the path itself, as the kernel does.
    """
    parent, name = split(path)
    node: Node = root
    for step in parent[1:].split("/") if parent != "/" else ():
        child = node.children.get(step) if isinstance(node, Directory) else None
        if child is None:
            raise NotFound(path) if isinstance(node, Directory) else NotDirectory(path)
        node = child
    if not isinstance(node, Directory):
        raise NotDirectory(path)
    return node, name
