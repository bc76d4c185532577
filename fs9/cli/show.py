"""Values for people and for programs: sizes, modes, times, JSON."""

from __future__ import annotations

import json
import stat
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fs9.cli.ending import visible
from fs9.types import FileType

if TYPE_CHECKING:
    from fs9.types import FileInfo

_SECOND_NS = 1_000_000_000
_UNITS = "KMGTPE"
_TYPE_BITS = {
    FileType.REGULAR: stat.S_IFREG,
    FileType.DIRECTORY: stat.S_IFDIR,
    FileType.SYMLINK: stat.S_IFLNK,
}


def human(size: int) -> str:
    """A size as `ls -h` shows it: powers of 1024, at most four characters."""
    if size < 1024:
        return str(size)
    value = float(size)
    for unit in _UNITS:
        value /= 1024
        if value < 9.95:
            return f"{value:.1f}{unit}"
        if value < 1023.5:
            return f"{value:.0f}{unit}"
    return f"{value:.0f}{_UNITS[-1]}"


def mode_text(info: FileInfo) -> str:
    """The mode as ls shows it: `-rw-r--r--`."""
    return stat.filemode(_TYPE_BITS[info.file_type] | info.mode & 0o7777)


def time_text(time_ns: int) -> str:
    """Local time to the second."""
    moment = datetime.fromtimestamp(time_ns // _SECOND_NS, UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def name_of(info: FileInfo) -> str:
    return info.path.rpartition("/")[2] or "/"


def on_terminal(name: str) -> str:
    """A name as it goes to the standard output: as it is, but made harmless on a terminal."""
    return visible(name) if sys.stdout.isatty() else name


def as_dict(info: FileInfo) -> dict[str, Any]:
    """A file in JSON: sizes in bytes, the mode in octal, times in RFC 3339."""
    values: dict[str, Any] = {
        "path": info.path,
        "name": name_of(info),
        "type": info.file_type.value,
        "size": info.size,
        "mode": f"{info.mode & 0o7777:04o}",
        "uid": info.uid,
        "gid": info.gid,
        "mtime": _rfc3339(info.mtime_ns),
        "atime": _rfc3339(info.atime_ns),
        "ctime": _rfc3339(info.ctime_ns),
        "etag": info.etag,
    }
    if info.symlink_target is not None:
        values["symlink_target"] = info.symlink_target
    return values


def _rfc3339(time_ns: int) -> str:
    moment = datetime.fromtimestamp(time_ns // _SECOND_NS, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def print_json(document: object) -> None:
    """One document, and a newline; ASCII only, so that every terminal and pipe takes it."""
    print(json.dumps(document, indent=2))
