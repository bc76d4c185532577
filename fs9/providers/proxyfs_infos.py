"""Converts file infos of an upstream into `FileInfo`.

Older servers spell paths and modes differently, and send whole listings; entries whose names are
not valid are left out.
"""

from __future__ import annotations

from fs9.errors import Remote
from fs9.path import NAME_BYTES_MAX, join, split
from fs9.types import FileInfo

#: Without the file's type, which older servers put into the mode.
MODE_BITS = 0o7777
_ID_BITS = 0xFFFF_FFFF
_SIZE_MAX = 2**63 - 1
_TIME_NS_MAX = 2**63 - 1
_TAG_MAX = 256


def at(path: str, info: FileInfo) -> FileInfo:
    """The info under the path that was asked for; older servers write it, and modes, otherwise.

    What no file can have is brought into bounds: headers are made of it. Raises Remote.
    """
    if not 0 <= info.size <= _SIZE_MAX:
        raise Remote(f"the upstream: a file of {info.size} bytes")
    return FileInfo(
        path,
        info.size,
        info.file_type,
        info.mode & MODE_BITS,
        info.uid & _ID_BITS,
        info.gid & _ID_BITS,
        _time(info.atime_ns),
        _time(info.mtime_ns),
        _time(info.ctime_ns),
        info.etag if _is_tag(info.etag) else "",
        info.symlink_target,
        info.file_id,
    )


def _time(ns: int) -> int:
    return max(-_TIME_NS_MAX, min(_TIME_NS_MAX, ns))


def _is_tag(etag: str) -> bool:
    """What may stand between the quotes of an entity tag (RFC 9110, section 8.8.3)."""
    return (
        len(etag) <= _TAG_MAX
        and etag.isascii()
        and etag.isprintable()
        and not set(etag) & {'"', " "}
    )


def page_of(path: str, entries: list[FileInfo], after: str, limit: int) -> list[FileInfo]:
    """The entries of one page, in order; older servers know no pages and send everything."""
    named = [(split(entry.path)[1], entry) for entry in entries]
    wanted = [
        (name.encode(), at(join(path, name), entry))
        for name, entry in named
        if name.encode() > after.encode() and _is_name(name)
    ]
    wanted.sort(key=lambda found: found[0])
    return [entry for _, entry in wanted[:limit]]


def _is_name(name: str) -> bool:
    return name not in {".", ".."} and "\0" not in name and len(name.encode()) <= NAME_BYTES_MAX
