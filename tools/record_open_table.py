"""Record what Linux does: `python tools/record_open_table.py [DIRECTORY]`.

Every combination of open flags on every kind of target, and rename, remove and wstat likewise,
are tried on real files in DIRECTORY (a temporary one by default). What happened, errno names
and what is at the path afterwards, goes to `tests/conformance/linux_table.json`, which memfs
and localfs must match but for the differences listed in `tests/conformance/truth.py`.

Linux has no open file that can neither be read nor written and yet be created, so the
combinations without `read` and `write` are opened for reading and then not read.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TABLE = Path(__file__).parent.parent / "tests" / "conformance" / "linux_table.json"

#: The letters of a flag combination, as `tests/conformance/truth.py` reads them.
FLAGS = {
    "r": "read",
    "w": "write",
    "c": "create",
    "t": "truncate",
    "a": "append",
    "d": "directory",
    "x": "exclusive",
}
OPEN_TARGETS = ("new", "file", "empty", "full", "link", "gone/new", "file/new")
OTHER_TARGETS = (*OPEN_TARGETS, "dangling")
RENAME_TARGETS = ("new", "file2", "empty2", "full2", "link2", "gone/new", "file/new")
#: Renames in one line of descent; a directory cannot go below itself nor replace its parent.
RENAMES_WITHIN = (
    ("file", "file"),
    ("link", "link"),
    ("empty", "empty"),
    ("full", "full"),
    ("empty", "empty/new"),
    ("full", "full/new"),
    ("full", "full/sub"),
    ("full", "full/sub/new"),
    ("full/inner", "full"),
    ("full/sub", "full"),
    ("full/inner", "full/sub/new"),
    ("full/inner", "full/sub"),
    ("full/sub", "full/inner"),
    ("full/inner", "new"),
    ("full/sub", "empty"),
    ("new", "new"),
)


def main() -> None:
    base = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=base) as directory:
        os.chdir(directory)
        os.umask(0o022)
        table = {
            "recorded on": f"{platform.system()} {platform.release()}",
            "open": grouped(open_cases()),
            "rename": grouped(rename_cases()),
            "remove": grouped(remove_cases()),
            "wstat": grouped(wstat_cases()),
        }
        os.chdir("/")
    TABLE.write_text(json.dumps(table, indent=1) + "\n")


def grouped(cases: Iterator[tuple[str, str]]) -> dict[str, str]:
    """outcome -> the cases that ended so, with "; " between them."""
    groups: dict[str, list[str]] = {}
    for case, outcome in cases:
        groups.setdefault(outcome, []).append(case)
    return {outcome: "; ".join(cases) for outcome, cases in groups.items()}


def make_tree() -> None:
    for name in os.listdir():
        if os.path.isdir(name) and not os.path.islink(name):
            shutil.rmtree(name)
        else:
            os.unlink(name)
    for name in ("file", "file2"):
        Path(name).write_text(f"<{name}>")
    for name in ("empty", "empty2"):
        Path(name).mkdir()
    for name in ("full", "full2"):
        Path(name, "sub").mkdir(parents=True)
        Path(name, "inner").write_text(f"<{name}/inner>")
    for name in ("link", "link2"):
        Path(name).symlink_to("file")
    Path("dangling").symlink_to("nowhere")


def what_is(path: str) -> str:
    """What is at the path now, with a file's content."""
    if os.path.islink(path):
        return f"link to {os.readlink(path)}"
    if os.path.isdir(path):
        return "directory of " + ",".join(sorted(os.listdir(path)))
    try:
        return f"file of {Path(path).read_text()}"
    except OSError:
        return "nothing"


def attempt(call: Callable[[], object]) -> str:
    """What the call returned, or the name of its errno."""
    try:
        result = call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return result.decode() if isinstance(result, bytes) else "ok"


def open_cases() -> Iterator[tuple[str, str]]:
    """Case `target flags`; outcome `open, read, write, what is there then`."""
    for target in OPEN_TARGETS:
        for chosen in itertools.product((False, True), repeat=len(FLAGS)):
            letters = "".join(itertools.compress(FLAGS, chosen))
            make_tree()
            yield f"{target} {letters}".strip(), open_outcome(target, letters)


def open_outcome(target: str, letters: str) -> str:
    flags = os.O_NOFOLLOW
    both = "r" in letters and "w" in letters
    flags |= os.O_RDWR if both else os.O_WRONLY if "w" in letters else os.O_RDONLY
    for letter, flag in (("t", os.O_TRUNC), ("a", os.O_APPEND), ("x", os.O_EXCL)):
        flags |= flag if letter in letters else 0
    try:
        if "c" in letters and "d" in letters:
            os.mkdir(target)
            flags = os.O_RDONLY | os.O_DIRECTORY
        else:
            flags |= os.O_CREAT if "c" in letters else 0
            flags |= os.O_DIRECTORY if "d" in letters else 0
        descriptor = os.open(target, flags, 0o644)
    except OSError as error:
        return f"{errno.errorcode[error.errno or 0]}, , , {what_is(target)}"
    read = attempt(lambda: os.pread(descriptor, 4, 0)) if "r" in letters else "EBADF"
    write = attempt(lambda: os.pwrite(descriptor, b"XY", 0))
    os.close(descriptor)
    return f"ok, {read}, {write}, {what_is(target)}"


def rename_cases() -> Iterator[tuple[str, str]]:
    """Case `source target`; outcome `errno, what is at the source, what is at the target`."""
    for source, target in (*itertools.product(OTHER_TARGETS, RENAME_TARGETS), *RENAMES_WITHIN):
        make_tree()
        outcome = attempt(lambda: os.rename(source, target))  # noqa: B023 (called at once)
        yield f"{source} {target}", f"{outcome}, {what_is(source)}, {what_is(target)}"


def remove_cases() -> Iterator[tuple[str, str]]:
    for target in OTHER_TARGETS:
        make_tree()
        is_directory = os.path.isdir(target) and not os.path.islink(target)
        outcome = attempt(lambda: (os.rmdir if is_directory else os.unlink)(target))  # noqa: B023
        yield target, f"{outcome}, {what_is(target)}"


def wstat_cases() -> Iterator[tuple[str, str]]:
    """Case `change target`; outcome `errno, what is there then, mode, seconds of mtime`."""
    changes: dict[str, Callable[[str], object]] = {
        "size=0": lambda path: truncate(path, 0),
        "size=3": lambda path: truncate(path, 3),
        "size=9": lambda path: truncate(path, 9),
        "mode=0640": lambda path: chmod(path, 0o640),
        "mode=7777": lambda path: chmod(path, 0o7777),
        "mtime=1000": lambda path: os.utime(path, (2000, 1000), follow_symlinks=False),
        "symlink=to": lambda path: os.symlink("to", path),
    }
    for (change, call), target in itertools.product(changes.items(), OTHER_TARGETS):
        make_tree()
        outcome = attempt(lambda: call(target))  # noqa: B023
        mode = mtime = ""
        if outcome == "ok":
            status = os.lstat(target)
            mode = f"{status.st_mode & 0o7777:o}"
            mtime = f"{int(status.st_mtime)}" if status.st_mtime < 1_000_000 else "now"
        yield f"{change} {target}", f"{outcome}, {what_is(target)}, {mode}, {mtime}"


def truncate(path: str, size: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def chmod(path: str, mode: int) -> None:
    """Of the path itself, as fchmodat2 with AT_SYMLINK_NOFOLLOW, which refuses links."""
    if os.path.islink(path):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    os.chmod(path, mode)


if __name__ == "__main__":
    main()
