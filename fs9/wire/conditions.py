"""Conditional requests (RFC 9110, section 13): entity tags, dates, preconditions.

Our tags are strong: a tag changes with every version of the bytes. A client's weak tag
(`W/"…"`) therefore never matches in `If-Match`, and matches its strong twin in
`If-None-Match`.
"""

from __future__ import annotations

import enum
import re
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING

from fs9.errors import InvalidArgument
from fs9.types import ALWAYS, Condition

if TYPE_CHECKING:
    from collections.abc import Mapping

# etagc of RFC 9110, section 8.8.3; obs-text arrives decoded from Latin-1.
_TAG = r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"'
_ONE_TAG = re.compile(_TAG)
_TAGS = re.compile(rf"(?:[ \t,]*{_TAG}[ \t]*(?:,|$))+[ \t,]*")
_TAG_CHARACTERS = re.compile(r"[\x21\x23-\x7e]+")
_DATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d{2}) ([A-Z][a-z]{2}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT",
    re.ASCII,
)
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_CHANGE_HEADERS = ("if-match", "if-none-match")


class Outcome(enum.Enum):
    """What a precondition makes of a GET."""

    PROCEED = "proceed"
    NOT_MODIFIED = "not modified"
    FAILED = "failed"


def quote(etag: str) -> str | None:
    """The `ETag` header of a version; None for one that cannot be written as a tag."""
    return f'"{etag}"' if _TAG_CHARACTERS.fullmatch(etag) else None


def http_date(time_ns: int) -> str:
    """Nanoseconds since 1970 as an IMF-fixdate, such as `Sun, 06 Nov 1994 08:49:37 GMT`."""
    return formatdate(max(time_ns, 0) // 1_000_000_000, usegmt=True)


def parse_http_date(text: str | None) -> int | None:
    """Seconds since 1970 of an IMF-fixdate; None for anything else (RFC 9110, 13.1.3).

    The two obsolete forms are not read: a condition that is ignored is safe, one that is
    misread is not.
    """
    match = _DATE.fullmatch(text) if text is not None else None
    if match is None or match[2] not in _MONTHS:
        return None
    day, month, year, hour, minute, second = match.groups()
    try:
        moment = datetime(
            int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second)
        )
    except ValueError:
        return None
    return int(moment.replace(tzinfo=UTC).timestamp())


def condition_from_headers(headers: Mapping[str, str]) -> Condition:
    """The precondition of a change: `If-Match`, `If-None-Match`. Raises InvalidArgument."""
    if_match, if_none_match = (headers.get(name) for name in _CHANGE_HEADERS)
    if if_match is None and if_none_match is None:
        return ALWAYS
    return Condition(
        if_match=None if if_match is None else _tags("If-Match", if_match, weak=False),
        if_none_match=(
            None if if_none_match is None else _tags("If-None-Match", if_none_match, weak=True)
        ),
    )


def _tags(name: str, header: str, *, weak: bool) -> tuple[str, ...]:
    """The tags of a list; without `weak` the weak ones are left out, as they match nothing."""
    text = header.strip(" \t")
    if text == "*":
        return ("*",)
    # A comma may be part of a tag, so the list is matched, not split.
    if _TAGS.fullmatch(text) is None:
        raise InvalidArgument(f"{name} must be * or a list of quoted entity tags")
    return tuple(
        found[2] for found in _ONE_TAG.finditer(text) if (weak or not found[1]) and found[2] != "*"
    )


def evaluate(headers: Mapping[str, str], etag: str, mtime_ns: int) -> Outcome:
    """The preconditions of a GET or HEAD, in the order of RFC 9110, section 13.2.2."""
    condition = condition_from_headers(headers)
    if condition.if_match is not None:
        if not Condition(if_match=condition.if_match).holds(etag):
            return Outcome.FAILED
    elif _modified_since(headers.get("if-unmodified-since"), mtime_ns) is True:
        return Outcome.FAILED
    if condition.if_none_match is not None:
        if not Condition(if_none_match=condition.if_none_match).holds(etag):
            return Outcome.NOT_MODIFIED
    elif _modified_since(headers.get("if-modified-since"), mtime_ns) is False:
        return Outcome.NOT_MODIFIED
    return Outcome.PROCEED


def _modified_since(date: str | None, mtime_ns: int) -> bool | None:
    """Was the file changed after the date? None when there is no date to compare with."""
    since_s = parse_http_date(date)
    return None if since_s is None else mtime_ns // 1_000_000_000 > since_s


def range_still_valid(headers: Mapping[str, str], etag: str, mtime_ns: int) -> bool:
    """`If-Range` (section 13.1.5): is the client's partial copy of this very version?

    Compared strongly. A date is a strong validator only when the file has not changed within
    the same second that it names; we cannot know that, so a date must be equal and older
    files are what it is used for.
    """
    wanted = headers.get("if-range")
    if wanted is None:
        return True
    tag = _ONE_TAG.fullmatch(wanted.strip(" \t"))
    if tag is not None:
        return not tag[1] and bool(etag) and tag[2] == etag
    return parse_http_date(wanted) == mtime_ns // 1_000_000_000
