"""How much a namespace may hold: bytes and files, counted exactly.

One `Quota` for each loaded namespace, shared by its providers. A provider charges what it adds
before anybody can see it, and gives back what it frees or could not keep; so the sum is right
whatever the order of concurrent writers, and never above the maximum by a change that was
acknowledged.

Files are all entries of the tree but its root; bytes their sizes, holes included. A file that was
removed counts until its last handle is closed, an upload beside the version that it replaces.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from fs9.errors import QuotaExceeded
from fs9.types import FsStats

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class NamespaceQuota(msgspec.Struct, frozen=True, omit_defaults=True):
    """Bounds of one namespace; None leaves it to the settings of the server."""

    bytes_max: int | None = None
    files_max: int | None = None
    handles_max: int | None = None
    requests_per_second_max: int | None = None

    def or_else(self, defaults: NamespaceQuota) -> NamespaceQuota:
        """These bounds, completed by those of `defaults`."""
        own = msgspec.structs.asdict(self)
        return NamespaceQuota(
            **{
                name: getattr(defaults, name) if value is None else value
                for name, value in own.items()
            }
        )


#: Everything is left to the settings.
NO_BOUNDS = NamespaceQuota()


class Refusals:
    """Counts what quotas refused, over all namespaces of a process. Thread-safe."""

    __slots__ = ("_lock", "bytes", "files")

    def __init__(self) -> None:
        self.bytes = 0
        self.files = 0
        self._lock = threading.Lock()

    def count(self, *, bytes_: int = 0, files: int = 0) -> None:
        with self._lock:
            self.bytes += bytes_
            self.files += files


class Quota:
    """Counts for one namespace; may be used from any thread.

    `None` as a maximum means no bound. What is already stored may be more than the maximum (it
    was lowered): then nothing more can be added, and everything can be read and removed.

    A provider for which counting is expensive may postpone it until there is a maximum: it adds
    a function that counts to `uncounted`; it is called at most once.
    """

    __slots__ = (
        "_lock",
        "bytes_max",
        "bytes_used",
        "files_max",
        "files_used",
        "refusals",
        "uncounted",
    )

    def __init__(
        self,
        bytes_max: int | None = None,
        files_max: int | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        self.bytes_max = bytes_max
        self.files_max = files_max
        self.bytes_used = 0
        self.files_used = 0
        self.refusals = refusals or Refusals()
        self.uncounted: list[Callable[[], Awaitable[None]]] = []
        self._lock = threading.Lock()

    @property
    def limited(self) -> bool:
        """Is there any maximum?"""
        return self.bytes_max is not None or self.files_max is not None

    def charge(self, bytes_: int = 0, files: int = 0) -> None:
        """Count a change of what is stored; negative numbers give back.

        Raises QuotaExceeded, and counts nothing then; never for a change that adds nothing.
        """
        with self._lock:
            if bytes_ > 0 and self.bytes_max is not None:
                free = self.bytes_max - self.bytes_used
                if bytes_ > free:
                    self.refusals.count(bytes_=1)
                    raise QuotaExceeded(
                        f"the namespace may hold {self.bytes_max} bytes; {max(0, free)} are free"
                    )
            if files > 0 and self.files_max is not None:
                free = self.files_max - self.files_used
                if files > free:
                    self.refusals.count(files=1)
                    raise QuotaExceeded(f"the namespace may hold {self.files_max} files")
            self.bytes_used += bytes_
            self.files_used += files

    def found(self, bytes_: int, files: int) -> None:
        """Count what a provider holds when it is mounted; negative numbers: it is unmounted."""
        with self._lock:
            self.bytes_used += bytes_
            self.files_used += files

    async def limit(self, bytes_max: int | None, files_max: int | None) -> None:
        """Set the maxima, once all is counted that nobody counted yet.

        Raises what the counting raises; the old maxima hold on then.
        """
        if bytes_max is not None or files_max is not None:
            while self.uncounted:
                count = self.uncounted[-1]
                await count()
                if count in self.uncounted:  # another caller may have waited for it, too
                    self.uncounted.remove(count)
        with self._lock:
            self.bytes_max, self.files_max = bytes_max, files_max

    def within(self, stats: FsStats) -> FsStats:
        """The size and free space of a file system, as the quota limits them."""
        if not self.limited:
            return stats
        with self._lock:
            bytes_max, bytes_used = self.bytes_max, self.bytes_used
            files_max, files_used = self.files_max, self.files_used
        total_bytes, free_bytes = _least(stats.total_bytes, stats.free_bytes, bytes_max, bytes_used)
        total_inodes, free_inodes = _least(
            stats.total_inodes, stats.free_inodes, files_max, files_used
        )
        return FsStats(
            total_bytes,
            free_bytes,
            total_inodes,
            free_inodes,
            stats.block_size,
            stats.max_name_len,
        )


def _least(total: int, free: int, most: int | None, used: int) -> tuple[int, int]:
    if most is None:
        return total, free
    return min(total, most), min(free, max(0, most - used))
