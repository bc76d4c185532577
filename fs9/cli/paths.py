"""Paths on the command line: those on the server, and those on this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.cli.ending import UsageError
from fs9.path import clean, join

if TYPE_CHECKING:
    from fs9.client.sync import Client

REMOTE_PREFIX = "fs9:"
#: Standard input or output in place of a file.
STREAM = "-"


def remote(text: str) -> str:
    """The clean server path that an argument names, with or without `fs9:`."""
    return clean(text.removeprefix(REMOTE_PREFIX))


def wants_directory(text: str) -> bool:
    """Does the argument end in a way that only a directory's path does?"""
    return text.endswith(("/", "/.", "/..")) or text in {".", ".."}


def base_name(text: str) -> str:
    """What a copy of the argument is called in a directory; "." for `dir/.`, as with cp."""
    stripped = text.removeprefix(REMOTE_PREFIX).rstrip("/")
    return stripped.rpartition("/")[2]


def remote_target(client: Client, sources: list[str], target: str) -> list[tuple[str, str]]:
    """(source, its target path) as cp and mv see it: into a directory, or to the very path.

    Raises UsageError when there are several sources, or a slash at the end, and no directory.
    """
    path = remote(target)
    if client.is_dir(path):
        return [(source, clean(join(path, base_name(source)))) for source in sources]
    if len(sources) > 1 or wants_directory(target):
        raise UsageError(f"{target} is not a directory on the server; `fs9 mkdir -p` makes one")
    return [(sources[0], path)]
