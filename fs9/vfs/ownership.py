"""How the owners of a namespace exclude one another, and what each leaves to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fs9.vfs.locks import NO_LOCKS, NamespaceLocks

if TYPE_CHECKING:
    from fs9.vfs.journal import HandleJournal
    from fs9.vfs.watchfile import WatchFiles


@dataclass(frozen=True, slots=True)
class Ownership:
    """The defaults are those of a process that serves alone.

    A namespace's lock is held from before its record is read until its providers are closed. Open
    handles and watches outlive their owner by the journal and the watch files: None keeps none.
    """

    locks: NamespaceLocks = NO_LOCKS
    journal: HandleJournal | None = None
    watch_files: WatchFiles | None = None


ALONE = Ownership()
