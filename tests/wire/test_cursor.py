"""Cursors of paged listings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs9.errors import InvalidArgument
from fs9.wire.cursor import decode_cursor, encode_cursor

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1)


@given(NAMES)
def test_a_cursor_carries_any_name_and_needs_no_quoting(name: str) -> None:
    cursor = encode_cursor(name)
    assert decode_cursor(cursor) == name
    assert cursor.replace("-", "").replace("_", "").isalnum()


@given(st.text())
def test_any_other_text_is_refused_or_a_name(text: str) -> None:
    try:
        name = decode_cursor(text)
    except InvalidArgument:
        return
    assert name
    assert "/" not in name


@pytest.mark.parametrize("text", ["", "A", "a b", "Lw", "AA", "_w", "é", "YQ==="])
def test_wrong_cursors(text: str) -> None:
    with pytest.raises(InvalidArgument):
        decode_cursor(text)
