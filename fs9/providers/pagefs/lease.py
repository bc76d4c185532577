"""Ownership of a namespace's storage that several hosts can reach.

`Ownership` is what an opened store knows about itself: the storage is ours, or it was taken over,
and why. `Lease` adds a time: the storage is ours at least until then, because others wait that long
before they take it. A lease only keeps hosts from taking the storage from one another; a writer
that slept through its lease is kept out by the epoch, which each commit checks.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from typing import TYPE_CHECKING

from fs9.errors import OwnerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fs9.clock import Clock

#: The part of its lease that a holder relies on: clocks of two hosts do not run alike.
_RELIED_SHARE = 0.8
#: After this part it is renewed.
_RENEWED_SHARE = 0.3

#: The change that was refused with this text was not made.
TAKEN_OVER = "another host has taken over the storage"
UNKNOWN_OUTCOME = "the storage did not say whether it kept a change; it is loaded anew"


class Ownership:
    """Ours, until `lose` is called; then for good not."""

    def __init__(self) -> None:
        self.lost = ""
        self._call: Callable[[], None] | None = None

    def when_lost(self, call: Callable[[], None]) -> None:
        """`call` is called once, soon after the loss; at once when that has happened."""
        self._call = call
        if self.lost:
            self._announce()

    def lose(self, why: str) -> None:
        if not self.lost:
            self.lost = why
            self._announce()

    def check(self) -> None:
        """Raises OwnerUnavailable."""
        if self.lost:
            raise OwnerUnavailable(self.lost)

    def _announce(self) -> None:
        if self._call is not None:
            asyncio.get_running_loop().call_soon(self._call)


class Lease(Ownership):
    """An ownership with a time to live, which the holder renews."""

    def __init__(self, clock: Clock, ttl_s: float) -> None:
        super().__init__()
        self.ttl_s = ttl_s
        self._clock = clock
        self._until_s = 0.0

    def now_s(self) -> float:
        """To be taken before a renewal is asked for."""
        return self._clock.monotonic_s()

    def renewed(self, asked_s: float) -> None:
        """A renewal that was asked for at that time was granted."""
        self._until_s = max(self._until_s, asked_s + _RELIED_SHARE * self.ttl_s)

    @property
    def due(self) -> bool:
        """Is it time to renew it? Commits do that, too."""
        return self.now_s() >= self._until_s - (_RELIED_SHARE - _RENEWED_SHARE) * self.ttl_s

    @property
    def over(self) -> bool:
        """May another host have it by now?"""
        return self.now_s() >= self._until_s


def host_id(data_dir: Path) -> str:
    """Names the host, by its data directory; made at the first call. Blocks. Raises OSError.

    Workers of one host exclude each other by file locks, so one may take over at once what
    another one held.
    """
    path = data_dir / "pagefs" / "host"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"host-{secrets.token_hex(8)}")
    draft.write_text(secrets.token_hex(16), encoding="ascii")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text(encoding="ascii")
