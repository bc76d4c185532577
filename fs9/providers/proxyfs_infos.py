"""What an upstream says of files, brought into the form that ours have.

Older servers write paths and modes otherwise, and send whole listings; nobody's listing has names
that are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fs9.path import NAME_BYTES_MAX, join, split

if TYPE_CHECKING:
    from fs9.types import FileInfo

#: Without the file's type, which older servers put into the mode.
MODE_BITS = 0o7777


def at(path: str, info: FileInfo) -> FileInfo:
    """The info under the path that was asked for; older servers write it, and modes, otherwise."""
    if info.path == path and info.mode <= MODE_BITS:
        return info
    return msgspec.structs.replace(info, path=path, mode=info.mode & MODE_BITS)


def page(path: str, entries: list[FileInfo], after: str, limit: int) -> list[FileInfo]:
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
