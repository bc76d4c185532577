"""How much a namespace may hold: bytes and files, counted exactly.

One `Quota` for each loaded namespace, shared by its providers. A provider charges what it adds
before anybody can see it, and gives back what it frees or could not keep; so the sum is right
whatever the order of concurrent writers, and never above the maximum by a change that was
acknowledged.
"""

from __future__ import annotations

import threading

from fs9.errors import QuotaExceeded


class Quota:
    """Counts for one namespace; may be used from any thread.

    `None` as a maximum means no bound. What is already stored may be more than the maximum (it
    was lowered): then nothing more can be added, and everything can be read and removed.
    """

    __slots__ = ("_lock", "bytes_max", "bytes_used", "files_max", "files_used")

    def __init__(self, bytes_max: int | None = None, files_max: int | None = None) -> None:
        self.bytes_max = bytes_max
        self.files_max = files_max
        self.bytes_used = 0
        self.files_used = 0
        self._lock = threading.Lock()

    def charge(self, bytes_: int = 0, files: int = 0) -> None:
        """Count a change of what is stored; negative numbers give back.

        Raises QuotaExceeded, and counts nothing then; never for a change that adds nothing.
        """
        with self._lock:
            if bytes_ > 0 and self.bytes_max is not None:
                free = self.bytes_max - self.bytes_used
                if bytes_ > free:
                    raise QuotaExceeded(
                        f"the namespace may hold {self.bytes_max} bytes; {max(0, free)} are free"
                    )
            if files > 0 and self.files_max is not None:
                free = self.files_max - self.files_used
                if files > free:
                    raise QuotaExceeded(f"the namespace may hold {self.files_max} files")
            self.bytes_used += bytes_
            self.files_used += files

    def found(self, bytes_: int, files: int) -> None:
        """Count what a provider holds when it is mounted; negative numbers: it is unmounted."""
        with self._lock:
            self.bytes_used += bytes_
            self.files_used += files
