"""Entity tags, dates, preconditions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs9.errors import InvalidArgument
from fs9.types import ALWAYS, Condition
from fs9.wire.conditions import (
    Outcome,
    condition_from_headers,
    evaluate,
    http_date,
    parse_http_date,
    quote,
    range_still_valid,
)

TAGS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"'))
MTIME_NS = 784_111_777_500_000_000
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"


@given(st.lists(st.tuples(TAGS, st.booleans()), min_size=1), st.sampled_from([",", ", ", " ,, "]))
def test_a_list_of_tags_is_read_whatever_is_in_them(
    tags: list[tuple[str, bool]], comma: str
) -> None:
    header = comma.join(f'{"W/" if weak else ""}"{tag}"' for tag, weak in tags)
    condition = condition_from_headers({"if-match": header, "if-none-match": header})
    # "*" in quotes is a tag, not the wildcard; ours are never that.
    assert condition.if_match == tuple(tag for tag, weak in tags if not weak and tag != "*")
    assert condition.if_none_match == tuple(tag for tag, _ in tags if tag != "*")


@given(st.text())
def test_any_other_list_is_refused(header: str) -> None:
    try:
        condition = condition_from_headers({"if-match": header})
    except InvalidArgument:
        return
    assert condition.if_match == ("*",) or '"' in header


def test_no_header_is_no_condition() -> None:
    assert condition_from_headers({}) is ALWAYS
    assert condition_from_headers({"if-match": " * "}) == Condition(if_match=("*",))


def test_only_weak_tags_match_nothing_strongly() -> None:
    condition = condition_from_headers({"if-match": 'W/"a"'})
    assert not condition.holds("a")


@given(st.integers(0, 253_402_300_799))
def test_dates_round_trip(seconds: int) -> None:
    assert parse_http_date(http_date(seconds * 10**9)) == seconds


def test_the_date_of_the_rfc() -> None:
    assert http_date(MTIME_NS) == DATE
    assert parse_http_date(DATE) == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()
    assert http_date(-5) == "Thu, 01 Jan 1970 00:00:00 GMT"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Xyz 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
    ],
)
def test_what_is_not_a_date_is_none(text: str | None) -> None:
    assert parse_http_date(text) is None


@pytest.mark.parametrize(
    ("headers", "outcome"),
    [
        ({}, Outcome.PROCEED),
        ({"if-match": '"v"'}, Outcome.PROCEED),
        ({"if-match": '"x"'}, Outcome.FAILED),
        ({"if-match": '"v"', "if-unmodified-since": EARLIER}, Outcome.PROCEED),
        ({"if-unmodified-since": EARLIER}, Outcome.FAILED),
        ({"if-unmodified-since": DATE}, Outcome.PROCEED),
        ({"if-unmodified-since": "x"}, Outcome.PROCEED),
        ({"if-none-match": '"v"'}, Outcome.NOT_MODIFIED),
        ({"if-none-match": 'W/"v"'}, Outcome.NOT_MODIFIED),
        ({"if-none-match": "*"}, Outcome.NOT_MODIFIED),
        ({"if-none-match": '"x"', "if-modified-since": DATE}, Outcome.PROCEED),
        ({"if-modified-since": DATE}, Outcome.NOT_MODIFIED),
        ({"if-modified-since": EARLIER}, Outcome.PROCEED),
        ({"if-match": '"x"', "if-none-match": '"v"'}, Outcome.FAILED),
    ],
)
def test_the_order_of_preconditions(headers: dict[str, str], outcome: Outcome) -> None:
    assert evaluate(headers, "v", MTIME_NS) is outcome


@pytest.mark.parametrize(
    ("header", "valid"),
    [
        (None, True),
        ('"v"', True),
        ('W/"v"', False),
        ('"x"', False),
        (DATE, True),
        (EARLIER, False),
        ("v", False),
    ],
)
def test_if_range(header: str | None, valid: bool) -> None:
    headers = {} if header is None else {"if-range": header}
    assert range_still_valid(headers, "v", MTIME_NS) is valid


def test_a_file_without_a_version_is_never_the_same_version() -> None:
    assert not range_still_valid({"if-range": '""'}, "", MTIME_NS)


def test_only_what_can_be_a_tag_is_quoted() -> None:
    assert quote("1f-2") == '"1f-2"'
    for etag in ("", 'a"b', "a b", "ä", "a\n"):
        assert quote(etag) is None
