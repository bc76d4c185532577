"""The error of a wrong configuration: it ends the start of a program, never crosses the wire."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class ConfigError(Exception):
    """The settings cannot be used; the text says where, which key, why, and what to do."""


def nearest(word: str, words: Iterable[str]) -> str:
    """ "; did you mean X?" with the most similar of `words`, or nothing when none is close."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
