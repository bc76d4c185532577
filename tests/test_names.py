"""What a namespace may be called."""

import pytest

from fs9.errors import InvalidArgument
from fs9.names import check_namespace_name, is_namespace_name


@pytest.mark.parametrize("name", ["a", "0", "default", "a-b_c", "9" * 64])
def test_good_names(name):
    """1 to 64 characters: a lowercase letter or digit first, then also `_` and `-`."""
    check_namespace_name(name)
    assert is_namespace_name(name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "Namespace name must be 1 to 64 characters long"),
        ("a" * 65, "Namespace name must be 1 to 64 characters long"),
        ("-x", "Namespace name must start with a lowercase letter or a digit"),
        ("BadName", "Namespace name must start with a lowercase letter or a digit"),
        ("ä", "Namespace name must start with a lowercase letter or a digit"),
        ("bad@name!", "Namespace name may contain only lowercase letters, digits, '_' and '-'"),
        ("a/..", "Namespace name may contain only lowercase letters, digits, '_' and '-'"),
        ("a\n", "Namespace name may contain only lowercase letters, digits, '_' and '-'"),
        ("a٣", "Namespace name may contain only lowercase letters, digits, '_' and '-'"),
    ],
)
def test_bad_names_say_why(name, text):
    """Three distinct texts, as the contract wants them."""
    assert not is_namespace_name(name)
    with pytest.raises(InvalidArgument) as caught:
        check_namespace_name(name)
    assert caught.value.detail == text
