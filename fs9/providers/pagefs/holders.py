"""Who holds a storage of this host, so that damage does not end one worker after the other.

Reading a damaged LMDB file can end the process, with all namespaces that it serves. So whoever
opens a storage looks who had it before. If that process was ended by a fatal signal (not by a
SIGKILL), another process reads the file first. Ends that one, too, the storage is refused, until
its file is another one. A storage in order is never refused, only read once more after a crash.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import lmdb

from fs9 import crashes
from fs9.errors import Fs9Error, Internal
from fs9.providers.pagefs import apart
from fs9.providers.pagefs.apart import Seen
from fs9.providers.pagefs.lmdbenvironment import Environment

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.providers.pagefs.apart import Look

log = logging.getLogger("fs9.pagefs")

_HOLDER = "holder"
#: Storage -> what its file was when it was refused.
_refused: dict[Path, tuple[int, int, int]] = {}


def enter(directory: Path) -> None:
    """This process opens the storage next; nobody else has it. Blocks.

    Raises Internal (its LMDB file ends whoever reads it), OSError.
    """
    own = crashes.own()
    if not own:
        return
    holder = directory / _HOLDER
    try:
        before = holder.read_text()
    except FileNotFoundError:
        before = ""
    if before and before != own and crashes.crashed(before):
        _verify(directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(OSError):  # a full disk must not keep anybody from his files
        holder.write_text(own)


def _verify(directory: Path) -> None:
    status = (directory / "meta" / "data.mdb").stat()
    found = (status.st_ino, status.st_mtime_ns, status.st_size)
    if _refused.get(directory) != found:
        log.warning("pagefs: %s: the process that had it crashed: its file is read", directory)
        (seen,) = apart.look(read, [directory], repair=False, scrub=False)
        if not seen.astray:
            _refused.pop(directory, None)
            return
        log.error("pagefs: %s: %s", directory, seen.error)
        _refused[directory] = found
    raise Internal("the metadata is damaged, and reading it ends the process: see `fs9 fsck`")


def read(directory: Path, _look: Look) -> Seen:
    """Read all that LMDB has of a storage, and where it would write."""
    try:
        environment = Environment.acquire(str(directory / "meta"))
        faults = environment.faults()
        writing = environment.env.begin(write=True, db=environment.system)
        writing.put(b"read", b"")
        writing.abort()
        environment.release()
    except (lmdb.Error, Fs9Error, OSError) as error:  # opening it says so, too
        return Seen(error=str(error))
    return Seen(error="; ".join(faults))
