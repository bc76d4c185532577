# Written by tools/async_to_sync.py from aio_tree.py. DO NOT CHANGE: edit that file instead.
"""Whole trees: sent, received, copied on the server, removed.

All of them go on after a failure and tell at the end (`TreeReport`); running them again does
what is left. Symbolic links are data: sent, received and copied as links, never followed.
Files are complete before they have their names, directories get their mode and time when
their entries are there, so a time that is equal means that the copy is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from fs9.client import localfiles, localtree, ops
from fs9.client.localtree import LocalEntry
from fs9.client.policy import Repeat
from fs9.client.report import Tally, TreeOptions, TreeReport
from fs9.errors import InvalidArgument, IsDirectory, NotDirectory, NotFound
from fs9.path import is_within, join
from fs9.types import FileInfo, StatChanges

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fs9.client.sync import Client

#: The bits that are carried over; set-user-id and its kin stay behind, as with `cp -r`.
_MODE_BITS = 0o777


def put_tree(client: Client, source: Path, target: str, options: TreeOptions) -> TreeReport:
    tally = Tally(options)
    with tally.whole(str(source)):
        _Put(client, options, tally).run(source, target)
    return tally.report


def get_tree(client: Client, source: str, target: Path, options: TreeOptions) -> TreeReport:
    tally = Tally(options)
    with tally.whole(source):
        _Get(client, options, tally).run(source, target)
    return tally.report


def copy_tree(client: Client, source: str, target: str, options: TreeOptions) -> TreeReport:
    if is_within(target, source):
        raise InvalidArgument(f"{target} is inside {source}: a tree cannot be copied into itself")
    tally = Tally(options)
    with tally.whole(source):
        _Copy(client, options, tally).run(source, target)
    return tally.report


def remove_tree(client: Client, path: str, options: TreeOptions) -> TreeReport:
    tally = Tally(options)
    with tally.whole(path):
        _Remove(client, options, tally).run(path)
    return tally.report


def _settle(client: Client, path: str, changes: StatChanges) -> None:
    """Set mode and time; we alone say what they are here, so twice is as good as once."""
    client.link.run(ops.wstat(path, changes, repeat=Repeat.REPEATABLE))


def _name(info: FileInfo) -> str:
    return info.path.rpartition("/")[2]


class _Put:
    """Sends a directory of this host. A work item is a local entry and where it goes."""

    def __init__(self, client: Client, options: TreeOptions, tally: Tally) -> None:
        self._client = client
        self._options = options
        self._tally = tally
        # Directories in the order of their discovery: parents before children.
        self._directories: list[tuple[LocalEntry, str]] = []

    def run(self, source: Path, target: str) -> None:
        root = self._client.colour.run(localtree.directory, source)
        first: _PutItem = (root, target, None)
        self._client.colour.spread(self._one, [first], self._options.concurrency)
        for entry, path in reversed(self._directories):
            changes = StatChanges(mode=entry.mode & _MODE_BITS, mtime_ns=entry.mtime_ns)
            with self._tally.failures_of(path):
                _settle(self._client, path, changes)

    def _one(self, item: _PutItem) -> Iterable[_PutItem]:
        entry, path, there = item
        more: Iterable[_PutItem] = ()
        with self._tally.failures_of(str(entry.path)):
            if entry.is_dir:
                more = self._directory(entry, path, there)
            elif entry.is_symlink:
                self._symlink(entry, path)
            elif entry.is_file:
                self._file(entry, path, there)
            else:
                raise InvalidArgument(f"{entry.path} is no file, directory or symbolic link")
        return more

    def _directory(
        self, entry: LocalEntry, path: str, there: FileInfo | None
    ) -> Iterable[_PutItem]:
        entries = self._client.colour.run(localtree.scan, entry.path)
        self._tally.found(sum(child.size for child in entries if child.is_file))
        known: dict[str, FileInfo] = {}
        if not self._client.link.run(ops.ensure_directory(path, there)):
            known = {_name(info): info for info in self._client.readdir(path)}
        self._directories.append((entry, path))
        self._tally.add_directory()
        return [(child, join(path, child.name), known.get(child.name)) for child in entries]

    def _symlink(self, entry: LocalEntry, path: str) -> None:
        assert entry.link is not None, "a symbolic link has a target"
        self._client.link.run(ops.ensure_symlink(path, entry.link))
        self._tally.add_link()

    def _file(self, entry: LocalEntry, path: str, there: FileInfo | None) -> None:
        mode = entry.mode & _MODE_BITS
        if there is not None and there.is_dir:
            raise IsDirectory(path)
        if (
            there is not None
            and self._options.skip_unchanged
            and localtree.is_unchanged(entry, there)
        ):
            if there.mode & _MODE_BITS != mode:
                _settle(self._client, path, StatChanges(mode=mode))
            self._tally.skip(entry.size)
            return
        if there is not None and there.is_symlink:
            self._client.remove(path)
        file = self._client.colour.run(localfiles.open_regular, entry.path, follow=False)
        try:
            self._client.upload(path, file, progress=self._tally.progress())
        finally:
            file.close()
        # The time comes last: a file whose time is not yet right is sent again.
        _settle(self._client, path, StatChanges(mode=mode, mtime_ns=entry.mtime_ns))
        self._tally.add_file()


_PutItem: TypeAlias = tuple[LocalEntry, str, FileInfo | None]


class _Get:
    """Receives a directory. A work item is a remote entry and where it goes."""

    def __init__(self, client: Client, options: TreeOptions, tally: Tally) -> None:
        self._client = client
        self._options = options
        self._tally = tally
        self._directories: list[tuple[FileInfo, Path]] = []

    def run(self, source: str, target: Path) -> None:
        root = self._client.stat(source)
        if not root.is_dir:
            raise NotDirectory(source)
        self._client.colour.run(localfiles.make_root, target)
        self._client.colour.spread(self._one, [(root, target)], self._options.concurrency)
        for info, path in reversed(self._directories):
            with self._tally.failures_of(str(path)):
                self._client.colour.run(localfiles.finish_directory, path, info.mode, info.mtime_ns)

    def _one(self, item: _GetItem) -> Iterable[_GetItem]:
        info, path = item
        more: Iterable[_GetItem] = ()
        with self._tally.failures_of(info.path):
            if info.is_dir:
                more = self._directory(info, path)
            elif info.is_symlink:
                self._client.colour.run(localfiles.make_link, path, info.symlink_target or "")
                self._tally.add_link()
            else:
                self._file(info, path)
        return more

    def _directory(self, info: FileInfo, path: Path) -> Iterable[_GetItem]:
        if self._directories:
            self._client.colour.run(localfiles.make_directory, path)
        self._directories.append((info, path))
        entries = self._client.readdir(info.path)
        self._tally.found(sum(entry.size for entry in entries if entry.is_file))
        self._tally.add_directory()
        safe, refused = localtree.check_names(info.path, entries)
        for refusal in refused:
            self._tally.fail(info.path, refusal)
        return [(entry, path / name) for name, entry in safe]

    def _file(self, info: FileInfo, path: Path) -> None:
        if self._options.skip_unchanged:
            there = self._client.colour.run(localtree.unchanged_copy, path, info)
            if there:
                self._tally.skip(info.size)
                return
        self._client.download_to(
            info.path,
            path,
            mode=info.mode & _MODE_BITS,
            mtime_ns=info.mtime_ns,
            follow=False,
            progress=self._tally.progress(),
        )
        self._tally.add_file()


_GetItem: TypeAlias = tuple[FileInfo, Path]


class _Copy:
    """Copies a tree within the namespace, through this client."""

    def __init__(self, client: Client, options: TreeOptions, tally: Tally) -> None:
        self._client = client
        self._options = options
        self._tally = tally
        self._directories: list[tuple[FileInfo, str]] = []

    def run(self, source: str, target: str) -> None:
        root = self._client.stat(source)
        if not root.is_dir:
            raise NotDirectory(source)
        self._client.colour.spread(self._one, [(root, target)], self._options.concurrency)
        for info, path in reversed(self._directories):
            changes = StatChanges(mode=info.mode & _MODE_BITS, mtime_ns=info.mtime_ns)
            with self._tally.failures_of(path):
                _settle(self._client, path, changes)

    def _one(self, item: _CopyItem) -> Iterable[_CopyItem]:
        info, path = item
        more: Iterable[_CopyItem] = ()
        with self._tally.failures_of(info.path):
            if info.is_dir:
                self._client.link.run(ops.ensure_directory(path))
                self._directories.append((info, path))
                entries = self._client.readdir(info.path)
                self._tally.found(sum(entry.size for entry in entries if entry.is_file))
                self._tally.add_directory()
                more = [(entry, join(path, _name(entry))) for entry in entries]
            elif info.is_symlink:
                link = info.symlink_target or ""
                self._client.link.run(ops.ensure_symlink(path, link))
                self._tally.add_link()
            else:
                self._client.copy(info.path, path, progress=self._tally.progress())
                self._tally.add_file()
        return more


_CopyItem: TypeAlias = tuple[FileInfo, str]


class _Remove:
    """Removes a tree: files as they are found, then the directories from the deepest up."""

    def __init__(self, client: Client, options: TreeOptions, tally: Tally) -> None:
        self._client = client
        self._options = options
        self._tally = tally
        self._directories: list[str] = []

    def run(self, path: str) -> None:
        root = self._client.stat(path)
        self._client.colour.spread(self._one, [root], self._options.concurrency)
        for directory in reversed(self._directories):
            with self._tally.failures_of(directory):
                self._remove(directory)

    def _one(self, info: FileInfo) -> Iterable[FileInfo]:
        more: Iterable[FileInfo] = ()
        with self._tally.failures_of(info.path):
            if info.is_dir:
                self._directories.append(info.path)
                more = self._client.readdir(info.path)
                self._tally.add_directory()
            else:
                self._remove(info.path)
                self._tally.add_file()
        return more

    def _remove(self, path: str) -> None:
        """Gone is gone, whoever did it."""
        try:
            self._client.remove(path)
        except NotFound:
            return
