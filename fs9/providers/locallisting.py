"""One page of a directory of localfs, sorted.

A name that is not UTF-8 has no JSON form, and a FIFO, socket or device is no file type of
ours: both are left out, and still keep their directory from being removed. Reserved names are
left out too, and swept.
"""

from __future__ import annotations

import heapq
import os
import stat
from typing import TYPE_CHECKING

from fs9.path import join
from fs9.providers import localstage
from fs9.providers.jail import Entry
from fs9.providers.localinfo import file_info, located_info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fs9.types import FileInfo


def page(path: str, fd: int, after: str, limit: int) -> list[FileInfo]:
    """At most `limit` entries past `after` of the directory open at `fd`. Blocks."""
    names, reserved = _names(fd, after)
    localstage.sweep(fd, reserved)
    listed: list[FileInfo] = []
    for name in _in_order(names, limit):
        if len(listed) >= limit:
            break
        info = _entry_info(join(path, name), Entry(fd, name.encode()))
        if info is not None:
            listed.append(info)
    return listed


def _names(fd: int, after: str) -> tuple[list[str], list[bytes]]:
    """(names past `after` that are text, in no order; reserved names)."""
    names: list[str] = []
    reserved: list[bytes] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            name = entry.name
            if localstage.is_reserved(os.fsencode(name)):
                reserved.append(os.fsencode(name))
            elif name > after and _is_text(name):
                names.append(name)
    return names, reserved


def _is_text(name: str) -> bool:
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _in_order(names: list[str], limit: int) -> Iterator[str]:
    """Sorted; code points sort as their UTF-8 bytes do. Cheap when only a few are wanted."""
    if limit * 8 < len(names):
        first = heapq.nsmallest(limit, names)
        yield from first
        names = [name for name in names if name > first[-1]] if first else []
    yield from sorted(names)


def _entry_info(path: str, entry: Entry) -> FileInfo | None:
    """The info of one listed name, None when it is gone or not for clients."""
    found = entry.stat()
    if found is None:
        return None
    if not stat.S_ISLNK(found.st_mode):
        return file_info(path, found)
    try:
        fd = entry.locate()
    except FileNotFoundError:
        return None
    try:
        return located_info(path, fd)
    finally:
        os.close(fd)
