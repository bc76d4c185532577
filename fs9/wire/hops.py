"""`X-FS9-Hop-Count`: how many servers have passed a request on, so that every loop ends.

A server that mounts another one (`proxyfs`) sends the count with each request; the server that
receives it checks it on arrival (`fs9.http.dispatch`) and sets `hops_so_far` for the request, so
that a mount, which does not see the request, can go on counting.
"""

from __future__ import annotations

from contextvars import ContextVar

from fs9.errors import InvalidArgument, TooManyHops

HOP_COUNT = "x-fs9-hop-count"
_DIGITS_MAX = 10

#: Of the request that the current task works for; 0 when a client asked itself.
hops_so_far: ContextVar[int] = ContextVar("fs9_hops_so_far", default=0)


def hops_of(value: str, hops_max: int) -> int:
    """The count in a header. Raises InvalidArgument, and TooManyHops beyond `hops_max`."""
    if not (value.isascii() and value.isdigit()):
        raise InvalidArgument(f"X-FS9-Hop-Count must be a whole number, not {value[:32]!r}")
    hops = int(value.lstrip("0")[:_DIGITS_MAX] or "0")  # so many are too many, whatever follows
    if hops > hops_max:
        raise too_many_hops(hops, hops_max)
    return hops


def too_many_hops(hops: int, hops_max: int) -> TooManyHops:
    return TooManyHops(f"{hops} (max: {hops_max})")
