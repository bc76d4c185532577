"""Directories of this host, and what may come into them. Blocking; no network."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fs9.errors import Fs9Error, InvalidArgument
from fs9.path import join

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fs9.types import FileInfo

_SECOND_NS = 1_000_000_000
#: A file that was changed within this time before it was copied may have been changed again
#: in the same second, which whole-second times do not show: it is copied again.
_SETTLED_S = 2


class LocalEntry(msgspec.Struct, frozen=True):
    """A file, directory or symbolic link of this host, as lstat saw it."""

    path: Path
    name: str
    mode: int
    size: int
    mtime_ns: int
    link: str | None = None

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)


def lstat(path: Path) -> LocalEntry:
    found = os.lstat(path)
    link = os.readlink(path) if stat.S_ISLNK(found.st_mode) else None
    return LocalEntry(path, path.name, found.st_mode, found.st_size, found.st_mtime_ns, link)


def directory(path: Path) -> LocalEntry:
    """The directory at `path`, also behind a symbolic link; NotADirectoryError for others."""
    found = os.stat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(20, "Not a directory", str(path))
    return LocalEntry(path, path.name, found.st_mode, found.st_size, found.st_mtime_ns)


def scan(path: Path) -> list[LocalEntry]:
    """The entries of a directory, sorted by name; one that vanishes meanwhile is left out."""
    entries = []
    for name in sorted(os.listdir(path)):
        try:
            entries.append(lstat(path / name))
        except FileNotFoundError:
            continue
    return entries


def is_unchanged(entry: LocalEntry, there: FileInfo) -> bool:
    """Is the server's file surely the copy of the local one that an earlier run made?

    The size and the time in whole seconds are equal, and the copy was made long enough after
    that time. A clock of the server that is ahead by more than that weakens the last part.
    """
    return (
        there.is_file
        and there.size == entry.size
        and _same_settled(there.mtime_ns, entry.mtime_ns, there.ctime_ns)
    )


def unchanged_copy(path: Path, info: FileInfo) -> bool:
    """Is the local file surely the copy of the server's? Its mode is put right then."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if not (
        stat.S_ISREG(found.st_mode)
        and found.st_size == info.size
        and _same_settled(found.st_mtime_ns, info.mtime_ns, found.st_ctime_ns)
    ):
        return False
    if (found.st_mode ^ info.mode) & 0o777:
        os.chmod(path, info.mode & 0o777)
    return True


def _same_settled(one_ns: int, other_ns: int, copied_ns: int) -> bool:
    mtime_s = one_ns // _SECOND_NS
    return mtime_s == other_ns // _SECOND_NS and copied_ns // _SECOND_NS >= mtime_s + _SETTLED_S


def check_names(
    directory: str, entries: Iterable[FileInfo]
) -> tuple[list[tuple[str, FileInfo]], list[Fs9Error]]:
    """(name, entry) of the entries that are safe to create below a local directory, refusals.

    A listing is data from outside: a name with a slash, `..`, or one that comes twice could
    lead out of the directory or through a link that was made a moment ago.
    """
    safe: dict[str, FileInfo] = {}
    refused: list[Fs9Error] = []
    for entry in entries:
        name = entry.path.rpartition("/")[2]
        if (
            entry.path != join(directory, name)
            or name in {"", ".", ".."}
            or "\0" in name
            or name in safe
        ):
            refused.append(InvalidArgument(f"the server lists an impossible name: {entry.path!r}"))
        else:
            safe[name] = entry
    return list(safe.items()), refused
