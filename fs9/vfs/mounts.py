"""The mount table: which provider serves which path.

An immutable snapshot. A namespace replaces its table whole (`with_mount`, `without`), so an
operation that began on one table ends on it. Lookup walks down the path and stops at the
first name below which nothing is mounted: its cost depends on the depth of the path, not on
the number of mounts.

Mount points are visible where they hang: `children` names what a listing must add, and
`holds_mounts` tells the directories that exist at least because a mount point is below them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fs9.errors import AlreadyExists, NotFound
from fs9.path import split
from fs9.provider import Provider
from fs9.types import Capability
from fs9.vfs.inuse import MountUse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_STREAMING = int(Capability.STREAMING)


class Mount(msgspec.Struct, frozen=True, eq=False):
    """A provider at a clean path. `capabilities` are its bits, asked once: they are constant.

    `use` counts the open files.
    """

    path: str
    provider: Provider
    capabilities: int
    use: MountUse = msgspec.field(default_factory=MountUse)

    @classmethod
    def of(cls, path: str, provider: Provider) -> Mount:
        return cls(path, provider, int(provider.capabilities()))

    @property
    def message_like(self) -> bool:
        """Is one write one message, so that it must reach the provider in one piece?"""
        return bool(self.capabilities & _STREAMING)

    def relative(self, path: str) -> str:
        """The provider's own name for the clean namespace path, which is within this mount."""
        return path if self.path == "/" else path[len(self.path) :] or "/"

    def absolute(self, path: str) -> str:
        """The namespace path of the provider's own path."""
        if self.path == "/":
            return path
        return self.path if path == "/" else self.path + path


class MountTable:
    __slots__ = ("_below", "_children", "_mounts", "_root")

    def __init__(self, mounts: Iterable[Mount] = ()) -> None:
        """A table of these mounts; raises AlreadyExists when two have one path."""
        self._mounts: dict[str, Mount] = {}
        for mount in mounts:
            if mount.path in self._mounts:
                raise AlreadyExists(mount.path)
            self._mounts[mount.path] = mount
        self._root = self._mounts.get("/")
        #: Each mount point but the root, and each directory above one (None, if not one itself).
        self._below: dict[str, Mount | None] = {}
        #: Directory -> names directly in it that lead to mount points, sorted.
        self._children: dict[str, list[str]] = {}
        for mount in self._mounts.values():
            self._index(mount)
        for names in self._children.values():
            names.sort()

    def _index(self, mount: Mount) -> None:
        path, entry = mount.path, mount if mount.path != "/" else None
        while path != "/":
            known = path in self._below
            if entry is not None or not known:
                self._below[path] = entry
            if known:
                return
            entry = None
            path, name = split(path)
            self._children.setdefault(path, []).append(name)

    def find(self, path: str) -> Mount:
        """The mount that serves the clean path: the longest prefix by whole names.

        Raises NotFound when no mount contains the path.
        """
        best = self._root
        below = self._below
        end = 0 if below else -1
        while end >= 0:
            end = path.find("/", end + 1)
            prefix = path[:end] if end > 0 else path
            if prefix not in below:
                break
            best = below[prefix] or best
        if best is None:
            raise NotFound(path)
        return best

    def resolve(self, path: str) -> tuple[Mount, str]:
        """The mount and the path within its provider; raises NotFound."""
        mount = self.find(path)
        return mount, mount.relative(path)

    def serves(self, mount: Mount, path: str) -> bool:
        """Is it this mount that serves the clean path?"""
        try:
            return self.find(path) is mount
        except NotFound:
            return False

    def at(self, path: str) -> Mount | None:
        """The mount whose mount point is exactly the clean path."""
        return self._mounts.get(path)

    def children(self, path: str) -> list[str]:
        """Sorted names directly below the clean path that are, or lead to, mount points."""
        return self._children.get(path, [])

    def holds_mounts(self, path: str) -> bool:
        """Is there a mount point below the clean path?"""
        return path in self._children

    def with_mount(self, mount: Mount) -> MountTable:
        """A table with one mount more; raises AlreadyExists when the path is taken."""
        return MountTable((*self._mounts.values(), mount))

    def without(self, path: str) -> MountTable:
        """A table without the mount at exactly this path; raises NotFound."""
        if path not in self._mounts:
            raise NotFound(path)
        return MountTable(mount for mount in self if mount.path != path)

    def __iter__(self) -> Iterator[Mount]:
        """The mounts, sorted by path."""
        return iter(sorted(self._mounts.values(), key=lambda mount: mount.path))

    def __len__(self) -> int:
        return len(self._mounts)
