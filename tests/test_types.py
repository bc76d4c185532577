"""fs9.types: conditions of RFC 9110, and the bits of the plugin ABI."""

from __future__ import annotations

import pytest

from fs9.types import (
    ALWAYS,
    BASIC_RW,
    POSIX_LIKE,
    Capability,
    Condition,
    FileInfo,
    FileType,
    OpenFlags,
)


@pytest.mark.parametrize(
    ("condition", "etag", "holds"),
    [
        (ALWAYS, None, True),
        (ALWAYS, "1", True),
        (Condition(if_match=("1", "2")), "2", True),
        (Condition(if_match=("1",)), "2", False),
        (Condition(if_match=("1",)), None, False),
        (Condition(if_match=("*",)), "9", True),
        (Condition(if_match=("*",)), None, False),
        (Condition(if_match=()), "1", False),
        (Condition(if_none_match=("1", "2")), "2", False),
        (Condition(if_none_match=("1",)), "2", True),
        (Condition(if_none_match=("1",)), None, True),
        (Condition(if_none_match=("*",)), "9", False),
        (Condition(if_none_match=("*",)), None, True),
        (Condition(if_match=("1",), if_none_match=("1",)), "1", False),
        (Condition(if_match=("1",), if_none_match=("2",)), "1", True),
    ],
)
def test_conditions(condition: Condition, etag: str | None, holds: bool):
    """If-Match needs a current version that is named, If-None-Match one that is not."""
    assert condition.holds(etag) is holds


def test_exactly_one_type():
    for file_type in FileType:
        info = FileInfo("/f", 0, file_type, 0, 0, 0, 0, 0, 0)
        assert [info.is_file, info.is_dir, info.is_symlink].count(True) == 1
    assert [file_type.value for file_type in FileType] == ["regular", "directory", "symlink"]


def test_capability_bits():
    """The numbers of the plugin ABI; the contract's presets but for extended attributes."""
    assert BASIC_RW == 0x8000000000F
    assert POSIX_LIKE == 0x180140201C3F & ~Capability.XATTR
    assert Capability.STATEFUL_WRITE == 1 << 52
    assert sum(Capability) == 0x1C1F07C0301C3F


def test_flags_are_off_by_default():
    assert not any(getattr(OpenFlags(), name) for name in OpenFlags.__struct_fields__)
