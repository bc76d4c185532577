#!/usr/bin/env python3
"""Writes the synchronous client from the asynchronous one: `tools/async_to_sync.py [--check]`.

The asynchronous files are the source. Each token is copied, `async` and `await` are left out,
and the names in `NAMES` are replaced, in code and in docstrings; ruff formats the result.
With `--check` nothing is written, and the exit code is 1 when a file is not up to date.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENT = ROOT / "fs9" / "client"

#: Source -> generated file.
FILES = {
    "aio.py": "sync.py",
    "aio_link.py": "sync_link.py",
    "aio_file.py": "sync_file.py",
    "aio_transfer.py": "sync_transfer.py",
    "aio_tree.py": "sync_tree.py",
    "aio_watch.py": "sync_watch.py",
}

#: Asynchronous name -> synchronous name.
NAMES = {
    "AsyncClient": "Client",
    "AsyncColour": "SyncColour",
    "AsyncCopySource": "CopySource",
    "AsyncDownload": "Download",
    "AsyncFile": "File",
    "AsyncIterable": "Iterable",
    "AsyncIterator": "Iterator",
    "AsyncLink": "Link",
    "AsyncSource": "Source",
    "StopAsyncIteration": "StopIteration",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
    "aio": "sync",
    "aio_file": "sync_file",
    "aio_link": "sync_link",
    "aio_transfer": "sync_transfer",
    "aio_tree": "sync_tree",
    "aio_watch": "sync_watch",
    "aiter_bytes": "iter_bytes",
    "aiter_raw": "iter_raw",
    "aread": "read",
    "asynchronous": "synchronous",
}

#: What leaving words out makes necessary: sorted imports, none unused, simpler loops.
RULES = "I,F401,C416,PYI016,UP028"

HEAD = "# Written by tools/async_to_sync.py from {source}. DO NOT CHANGE: edit that file instead.\n"

_WORDS = re.compile(r"\b(?:async |await |" + "|".join(map(re.escape, NAMES)) + r"(?!\w))")


def to_sync(text: str, source: str) -> str:
    """The synchronous form of a module, not yet formatted."""
    pieces: list[str] = []
    position = (1, 0)
    lines = text.splitlines(keepends=True)
    skipping = False
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        gap = _between(lines, position, token.start)
        position = token.end
        if skipping:  # the blank after a word that was left out
            gap = gap.lstrip(" ")
        skipping = token.type == tokenize.NAME and token.string in {"async", "await"}
        pieces.append(gap)
        if not skipping:
            pieces.append(_replaced(token))
    return HEAD.format(source=source) + "".join(pieces)


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]] if start[0] <= len(lines) else ""
    middle = "".join(lines[start[0] : end[0] - 1])
    last = lines[end[0] - 1][: end[1]] if end[0] <= len(lines) else ""
    return lines[start[0] - 1][start[1] :] + middle + last


def _replaced(token: tokenize.TokenInfo) -> str:
    if token.type == tokenize.NAME:
        return NAMES.get(token.string, token.string)
    if token.type in {tokenize.STRING, tokenize.COMMENT}:
        return _WORDS.sub(lambda word: NAMES.get(word[0], ""), token.string)
    return token.string


def formatted(text: str, name: str) -> str:
    """`text` as the project's ruff settings want it, imports sorted and unused ones dropped."""
    ruff = [sys.executable, "-m", "ruff"]
    fix = ["check", "--quiet", "--fix-only", "--unsafe-fixes", "--select", RULES]
    for arguments in (fix, ["format", "--quiet"]):
        command = [*ruff, *arguments, "--stdin-filename", str(CLIENT / name), "-"]
        text = subprocess.run(
            command, input=text, capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    check = parser.parse_args().check
    stale = False
    for source, target in FILES.items():
        text = formatted(to_sync((CLIENT / source).read_text(), source), target)
        path = CLIENT / target
        if path.exists() and path.read_text() == text:
            continue
        stale = True
        print(f"{path.relative_to(ROOT)} {'is not up to date' if check else 'written'}")
        if not check:
            path.write_text(text)
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
