"""What Linux does, as a table, and where fs9 differs on purpose.

`tools/record_open_table.py` recorded `linux_table.json` and says what the cases mean.
`cases` turns it into what a provider must do: errno becomes the kind of error, and
`DIFFERENCES`, the only list of them, is applied.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TABLE = json.loads(Path(__file__).with_name("linux_table.json").read_text())

_KINDS = {
    "ENOENT": "NotFound",
    "ENOTDIR": "NotDirectory",
    "EISDIR": "IsDirectory",
    "EEXIST": "AlreadyExists",
    "ENOTEMPTY": "DirectoryNotEmpty",
    "EINVAL": "InvalidArgument",
    "ENOTSUP": "NotImplemented",
}

#: The letters of a flag combination -> the fields of OpenFlags.
FLAGS = {
    "r": "read",
    "w": "write",
    "c": "create",
    "t": "truncate",
    "a": "append",
    "d": "directory",
    "x": "exclusive",
}

#: What is at each path before a case, as `Outcome.after` has it.
TREE = {
    "file": "file of <file>",
    "file2": "file of <file2>",
    "empty": "directory of ",
    "empty2": "directory of ",
    "full": "directory of inner,sub",
    "full2": "directory of inner,sub",
    "link": "link to file",
    "link2": "link to file",
    "dangling": "link to nowhere",
}


@dataclass(frozen=True)
class Case:
    """An operation with its arguments, and the fields of the recorded outcome."""

    table: str
    arguments: tuple[str, ...]
    outcome: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """Where `concerns` holds, the outcome is `instead` of what Linux does."""

    reason: str
    concerns: Callable[[Case], bool]
    instead: Callable[[Case], tuple[str, ...]]


def _letters(case: Case) -> str:
    return case.arguments[1] if len(case.arguments) > 1 else ""


DIFFERENCES = (
    Difference(
        "Symbolic links are data, and there is no error for too many of them: opening one, or "
        "changing its size, is an invalid argument.",
        lambda case: "ELOOP" in case.outcome,
        lambda case: ("InvalidArgument", *case.outcome[1:]),
    ),
    Difference(
        "Reading or writing a handle that was not opened for it is PermissionDenied, the kind "
        "that HTTP and older clients know (EBADF says that the handle itself is wrong).",
        lambda case: case.table == "open" and "EBADF" in case.outcome[1:3],
        lambda case: tuple(
            "PermissionDenied" if field == "EBADF" else field for field in case.outcome
        ),
    ),
    Difference(
        "POSIX leaves O_TRUNC without write access undefined; Linux empties the file, we refuse "
        "the combination before looking at the path.",
        lambda case: case.table == "open" and "t" in _letters(case) and "w" not in _letters(case),
        lambda case: ("InvalidArgument", "", "", TREE.get(case.arguments[0], "nothing")),
    ),
    Difference(
        "When both ends of a rename are wrong the source is told; Linux looks at both parents "
        "first.",
        lambda case: case.arguments == ("new", "file/new") and case.table == "rename",
        lambda case: ("NotFound", *case.outcome[1:]),
    ),
    Difference(
        "A provider may drop the bits above 0o777: nobody runs programs from here, and on a host "
        "set-user-ID is a danger. They are not compared.",
        lambda case: case.arguments[0] == "mode=7777" and case.outcome[0] == "ok",
        lambda case: (*case.outcome[:2], "777", *case.outcome[3:]),
    ),
)


def cases(table: str) -> Iterator[Case]:
    """The cases of `open`, `rename`, `remove` or `wstat`, with the outcome fs9 must have."""
    for outcome, recorded in _TABLE[table].items():
        for words in recorded.split("; "):
            case = Case(table, tuple(words.split(" ")), tuple(outcome.split(", ")))
            for difference in DIFFERENCES:
                if difference.concerns(case):
                    case = Case(table, case.arguments, difference.instead(case))
            yield Case(
                table,
                case.arguments,
                tuple(_KINDS.get(field, field) for field in case.outcome),
            )
