"""Absolute slash paths: clean, split, join.

Paths are resolved lexically, once, before anything looks at them (Plan 9's cleanname; Rob
Pike, "Lexical File Names in Plan 9"): `.` and empty names vanish, `..` goes up and stops at
the root, blanks are kept. A clean path starts with "/", has no trailing slash (but "/") and
encodes to UTF-8.
"""

from __future__ import annotations

import re

from fs9.errors import InvalidArgument

#: Bytes of a whole path, and of one name, as Linux has it (NAME_MAX; its PATH_MAX counts a NUL).
PATH_BYTES_MAX = 4096
NAME_BYTES_MAX = 255

# Paths that are clean already and surely short enough: most of them, so they cost one match.
_CLEAN = re.compile(r"/|(?:/(?!\.)[\x20-\x2e\x30-\x7e]{1,255})+")


def clean(path: str) -> str:
    """The clean form of `path`; raises InvalidArgument for one that no file can have."""
    if len(path) <= PATH_BYTES_MAX and _CLEAN.fullmatch(path):
        return path
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            if names:
                names.pop()
        elif name not in {"", "."}:
            names.append(name)
    _check(path, names)
    return "/" + "/".join(names)


def _check(path: str, names: list[str]) -> None:
    if "\0" in path:
        raise InvalidArgument("a path cannot contain a NUL character")
    try:
        lengths = [len(name.encode()) for name in names]
    except UnicodeEncodeError:
        raise InvalidArgument("a path must be valid Unicode") from None
    if sum(lengths) + len(lengths) > PATH_BYTES_MAX:
        raise InvalidArgument(f"the path is too long: at most {PATH_BYTES_MAX} bytes")
    if max(lengths, default=0) > NAME_BYTES_MAX:
        raise InvalidArgument(f"a name in the path is too long: at most {NAME_BYTES_MAX} bytes")


def split(path: str) -> tuple[str, str]:
    """(parent, name) of a clean path; the root is its own parent with an empty name."""
    parent, _, name = path.rpartition("/")
    return parent or "/", name


def join(directory: str, name: str) -> str:
    """The path of `name` in the clean path `directory`."""
    return f"/{name}" if directory == "/" else f"{directory}/{name}"


def is_within(path: str, ancestor: str) -> bool:
    """Is the clean `path` the clean `ancestor` or below it?"""
    return path == ancestor or ancestor == "/" or path.startswith(ancestor + "/")
