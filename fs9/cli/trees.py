"""The target of a tree, and the end of its transfer; for put, get and cp with -r.

As with `cp -r`, a tree goes into an existing directory under its own name; where there is none, it
becomes the target itself. A target that is being made holds the file `.fs9-incomplete`, which names
the command, until it is complete: so running an interrupted command again finishes the copy instead
of putting a second one inside.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fs9.cli.paths import remote
from fs9.cli.show import human
from fs9.errors import NotDirectory, NotFound
from fs9.path import clean, join

if TYPE_CHECKING:
    import argparse

    from fs9.cli.ending import Ending
    from fs9.cli.progress import Progress
    from fs9.client.report import TreeOptions, TreeReport
    from fs9.client.sync import Client

MARKER = ".fs9-incomplete"


def add_tree_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-r", "-R", "--recursive", action="store_true", help="whole directories")
    parser.add_argument(
        "-T",
        "--no-target-directory",
        dest="exact",
        action="store_true",
        help="TARGET is the copy itself, also when it is a directory already",
    )
    parser.add_argument("--no-progress", dest="quiet", action="store_true", help="show no progress")


class RemoteTarget:
    """The directory of the server that a tree becomes. `key` names the command and source."""

    def __init__(self, client: Client, name: str, target: str, key: str, *, exact: bool) -> None:
        self._client = client
        self._key = key.encode("utf-8", "backslashreplace")
        self.path = remote(target)
        self._marker = join(self.path, MARKER)
        self._marked = False
        info = client.stat(self.path) if client.exists(self.path) else None
        if info is not None and not info.is_dir:
            raise NotDirectory(self.path)
        if info is None:
            client.mkdir(self.path)
            client.write_file(self._marker, self._key)
            self._marked = True
        elif self._is_ours():
            self._marked = True
        elif not exact:
            self.path = clean(join(self.path, name))

    def _is_ours(self) -> bool:
        try:
            return self._client.read_file(self._marker) == self._key
        except NotFound:
            return False

    def finish(self) -> None:
        """The tree is complete."""
        if self._marked:
            info = self._client.stat(self.path)
            self._client.remove(self._marker)
            self._client.utime(self.path, mtime_s=info.mtime_ns // 1_000_000_000)


class LocalTarget:
    """The same for a directory of this host."""

    def __init__(self, name: str, target: str, key: str, *, exact: bool) -> None:
        self._key = key.encode("utf-8", "backslashreplace")
        self.path = Path(target)
        self._marker = self.path / MARKER
        self._marked = False
        if not os.path.lexists(self.path):
            self.path.mkdir()
            self._marker.write_bytes(self._key)
            self._marked = True
        elif not self.path.is_dir():
            raise NotADirectoryError(20, "Not a directory", str(self.path))
        elif self._is_ours():
            self._marked = True
        elif not exact:
            self.path = self.path / name

    def _is_ours(self) -> bool:
        try:
            return not self._marker.is_symlink() and self._marker.read_bytes() == self._key
        except OSError:
            return False

    def finish(self) -> None:
        """The tree is complete."""
        if self._marked:
            found = self.path.stat()
            self._marker.unlink(missing_ok=True)
            os.utime(self.path, ns=(found.st_atime_ns, found.st_mtime_ns))


def tree_options(progress: Progress, ending: Ending, *, skip_unchanged: bool = True) -> TreeOptions:
    from fs9.client.report import TreeOptions

    return TreeOptions(
        skip_unchanged=skip_unchanged, progress=progress.update, on_failure=ending.fail
    )


def conclude(report: TreeReport, target: RemoteTarget | LocalTarget, ending: Ending) -> None:
    """Mark a complete tree as such; sum up an incomplete one, and say what to do."""
    if not report.failures:
        target.finish()
        return
    ending.partial = True
    done = f"{report.files} files ({human(report.bytes_done)}) done, {report.skipped} unchanged"
    failed = f"{len(report.failures)} failed"
    rest = ", the rest was not tried" if report.aborted else ""
    ending.say(f"incomplete: {done}, {failed}{rest}; run it again to do what is left")
