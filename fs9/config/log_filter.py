"""The language of `logging.filter`: `info,fs9.http=debug`."""

from __future__ import annotations

#: Names that users write, and the standard library's numbers.
LEVELS = {"trace": 5, "debug": 10, "info": 20, "warn": 30, "error": 40}


def parse_filter(text: str) -> dict[str, int]:
    """Level numbers by logger name, "" for all the others; raises ValueError."""
    levels: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, separator, level = part.rpartition("=")
        name, level = name.strip(), level.strip().lower()
        if level not in LEVELS:
            raise ValueError(f"{level!r} is no level; use {', '.join(LEVELS)}")
        if separator and not name:
            raise ValueError(f"a logger's name is missing in {part!r}")
        if name in levels:
            raise ValueError(f"{name or 'the general level'} is given twice")
        levels[name] = LEVELS[level]
    return levels
