"""Finds the paths of inodes, so that checks can name files instead of inode numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.providers.pagefs import records

if TYPE_CHECKING:
    from collections.abc import Collection

    from fs9.providers.pagefs.core import Core
    from fs9.providers.pagefs.view import View


async def paths_of(core: Core, view: View, inodes: Collection[int]) -> dict[int, str]:
    """One path of each that has one. Reads all names; remembers those of directories."""
    above: dict[int, tuple[int, str]] = {}
    async for key, value in core.rows(b"D", b"E", view):
        number, kind = records.unpack_entry(value)
        if kind == records.DIRECTORY or number in inodes:
            above[number] = int.from_bytes(key[1:9], "big"), records.entry_name(key)
    return {inode: path for inode in inodes if (path := _path(above, inode))}


def _path(above: dict[int, tuple[int, str]], inode: int) -> str:
    names: list[str] = []
    while inode != records.ROOT:
        if inode == records.TRASH:
            names.append(".trash")
            break
        if inode not in above or len(names) > len(above):
            return ""  # a directory is lost, or in itself
        inode, name = above[inode]
        names.append(name)
    return "/" + "/".join(reversed(names))
