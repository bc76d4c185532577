"""fs9.observe.access: what a request asked is told, but no secret."""

from __future__ import annotations

import pytest

from fs9.observe.access import redacted


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (b"", b""),
        (b"path=/a&limit=3", b"path=/a&limit=3"),
        (b"token=abc&path=/a", b"token=***&path=/a"),
        (b"path=/a&access_TOKEN=abc", b"path=/a&access_TOKEN=***"),
        (b"t%6Fken=abc", b"t%6Fken=***"),
        (b"api_key=1&apikey=2&X-Signature=3", b"api_key=***&apikey=***&X-Signature=***"),
        (b"path=/token", b"path=/token"),
        (b"token", b"token"),
    ],
)
def test_values_of_fields_named_like_secrets_are_left_out(query: bytes, shown: bytes) -> None:
    assert redacted(query) == shown
