"""Finds clients that are too slow: that send a body, or take an answer, byte by byte.

A request without any progress ends by its own timeout. This is about clients that go on making a
little progress for ever, and hold a connection, a buffer and perhaps a place among the requests in
progress. They are checked periodically from outside, so requests pay nothing for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fs9.limits import Limits

#: What a client can be too slow with; REST: what the transport has left of an answer.
HEAD, BODY, ANSWER, REST = "head", "body", "answer", "rest"


class Pace:
    """The pace of one connection: in each period it must move a minimum of bytes."""

    __slots__ = ("_doing", "_from_bytes", "_from_s", "_request_s")

    def __init__(self) -> None:
        self._doing: str | None = None
        self._request_s = self._from_s = 0.0
        self._from_bytes = 0

    def too_slow(
        self, doing: str | None, request_s: float, moved_bytes: int, now_s: float, limits: Limits
    ) -> bool:
        """Has a whole period passed with too few bytes?

        `doing`: what we wait for, None when it is not for the client. `request_s`: when the
        request began, so that two are not taken for one. `moved_bytes`: of this `doing` so far,
        from any start.
        """
        if doing is None or doing is not self._doing or request_s != self._request_s:
            self._doing, self._request_s = doing, request_s
            self._from_s, self._from_bytes = now_s, moved_bytes
            return False
        period_s = now_s - self._from_s
        if period_s < limits.transfer_period_s:
            return False
        slow = moved_bytes - self._from_bytes < limits.transfer_bytes_per_s_min * period_s
        self._from_s, self._from_bytes = now_s, moved_bytes
        return slow
