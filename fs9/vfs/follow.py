"""The followers of one namespace: counts and bounds them, and ends them.

A follower is not an operation in progress: nobody waits for it when the namespace moves, the server
drains or the token expires. It is closed then; its client reconnects with its cursor to wherever
the namespace is now, and misses nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.errors import QuotaExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.provider import Follower
    from fs9.types import Delivery


class Following:
    """One follower; `close` it in every case."""

    __slots__ = ("_alive", "_follower", "_followers", "open")

    def __init__(self, follower: Follower, followers: Followers, alive: Callable[[], bool]) -> None:
        """`alive`: may it still be told anything?"""
        self._follower = follower
        self._followers = followers
        self._alive = alive
        self.open = True

    async def next(self, wait_s: float) -> Delivery | None:
        """As `Follower.next`; None: the client must ask again."""
        if not (self.open and self._alive()):
            return None
        delivery = await self._follower.next(wait_s)
        told = delivery.messages or delivery.lost or delivery.ended
        return delivery if self._alive() and (told or self.open) else None

    def close(self) -> None:
        """A `next` that waits returns at once. May be called again."""
        if self.open:
            self.open = False
            self._followers.forget(self)
            self._follower.close()


class Followers:
    """All of one namespace. Belongs to its event loop."""

    __slots__ = ("_all", "_most", "_over")

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: set[Following] = set()
        self._over = False

    def __len__(self) -> int:
        return len(self._all)

    def check_room(self) -> None:
        """Raises QuotaExceeded."""
        if len(self._all) >= self._most:
            raise QuotaExceeded(f"a namespace may have {self._most} followers")

    def add(self, follower: Follower, alive: Callable[[], bool]) -> Following:
        """From here on it is `Following.close` that lets the follower go."""
        following = Following(follower, self, alive)
        self._all.add(following)
        if self._over:
            following.close()
        return following

    def forget(self, following: Following) -> None:
        self._all.discard(following)

    def end(self) -> None:
        """Close all, and whoever comes later: they ask again elsewhere."""
        self._over = True
        for following in list(self._all):
            following.close()
