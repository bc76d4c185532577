"""Query strings."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs9.errors import InvalidArgument, InvalidHandle
from fs9.wire.query import number, parse_query, required

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(TEXT, TEXT))
def test_what_was_encoded_is_decoded(fields: dict[str, str]) -> None:
    for quoting in (quote, quote_plus):
        encoded = urlencode(fields, quote_via=quoting).encode()
        assert parse_query(encoded) == fields


@given(st.binary())
def test_any_bytes_decode_as_the_standard_library_does_or_are_refused(query: bytes) -> None:
    expected = parse_qsl(query.decode("latin-1"), True, encoding="utf-8", errors="replace")
    try:
        found = parse_query(query)
    except InvalidArgument:
        assert len(dict(expected)) < len(expected) or not query.isascii()
        return
    if query.isascii():  # the library decodes raw bytes, not only escapes, on its own terms
        assert found == dict(expected)
    for name, value in found.items():
        name.encode()
        value.encode()


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        (b"", {}),
        (b"path=/a", {"path": "/a"}),
        (b"path=%2Fa+b%20c", {"path": "/a b c"}),
        (b"path=%zz%", {"path": "%zz%"}),
        (b"path=%ff", {"path": "�"}),
        (b"path=\xff&x=1", {"path": "�", "x": "1"}),
        (b"path=a=b", {"path": "a=b"}),
        (b"&&path&", {"path": ""}),
        (b"=", {"": ""}),
        (b"p%61th=x", {"path": "x"}),
        (b"path=\xc3\xa4", {"path": "ä"}),
    ],
)
def test_forms(query: bytes, fields: dict[str, str]) -> None:
    assert parse_query(query) == fields


@pytest.mark.parametrize("query", [b"path=a&path=a", b"path=a&p%61th=b", b"a&a"])
def test_a_repeated_key_is_refused(query: bytes) -> None:
    with pytest.raises(InvalidArgument):
        parse_query(query)


def test_a_missing_field_is_named_and_never_mistaken_for_a_handle() -> None:
    with pytest.raises(InvalidArgument, match="offset") as refused:
        required({}, "offset")
    assert "handle" not in str(refused.value)
    with pytest.raises(InvalidHandle):
        required({}, "handle_id")


@given(st.integers(0, 2**64 - 1))
def test_a_number_is_read(value: int) -> None:
    assert number(str(value), "offset") == value


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", " 1", "1_0", "0x1", "٣", "1" * 21])
def test_what_is_not_a_plain_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        number(text, "offset")


def test_bounds_are_inclusive() -> None:
    assert number("1", "limit", at_least=1, at_most=3) == 1
    assert number("3", "limit", at_least=1, at_most=3) == 3
    for text in ("0", "4"):
        with pytest.raises(InvalidArgument, match="from 1 to 3"):
            number(text, "limit", at_least=1, at_most=3)
