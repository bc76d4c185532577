"""fs9.vfs.checks: the first thing a provider lacks is named; wrong flags are refused."""

from __future__ import annotations

import pytest

from fs9.errors import InvalidArgument, NotSupported
from fs9.types import BASIC_RW, POSIX_LIKE, Capability, OpenFlags, StatChanges
from fs9.vfs.checks import check_open, check_remove, check_wstat

ALL = StatChanges(
    mode=0o600, uid=1, gid=1, size=1, atime_ns=1, mtime_ns=1, name="/x", symlink_target="y"
)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (StatChanges(mode=0), "chmod"),
        (StatChanges(uid=0), "chown"),
        (StatChanges(gid=0), "chown"),
        (StatChanges(size=0), "truncate"),
        (StatChanges(atime_ns=0), "utime"),
        (StatChanges(mtime_ns=0), "utime"),
        (StatChanges(name="/x"), "rename"),
        (StatChanges(symlink_target="x"), "symlink"),
    ],
)
def test_each_change_needs_its_capability(changes: StatChanges, text: str):
    """A zero is a change too; without the capability the change is not implemented."""
    with pytest.raises(NotSupported, match=f"^not implemented: {text}$"):
        check_wstat(int(BASIC_RW), changes)
    check_wstat(int(POSIX_LIKE), changes)


def test_changes_are_checked_in_the_contracts_order():
    """Of several missing capabilities the first in the order is told."""
    order = ["chmod", "chown", "truncate", "utime", "rename", "symlink"]
    had = 0
    for text in order:
        with pytest.raises(NotSupported, match=text):
            check_wstat(had, ALL)
        had |= int(Capability[text.upper()])
    check_wstat(had, ALL)


def test_no_change_needs_nothing():
    check_wstat(0, StatChanges())


def test_open_asks_for_read_write_create_in_this_order():
    flags = OpenFlags(read=True, write=True, create=True)
    had = 0
    for text in ("read", "write", "create"):
        with pytest.raises(NotSupported, match=f"^not implemented: {text}$"):
            check_open(had, flags)
        had |= int(Capability[text.upper()])
    check_open(had, flags)


@pytest.mark.parametrize(
    "flags",
    [
        OpenFlags(read=True, truncate=True),
        OpenFlags(read=True, create=True, replace=True),
        OpenFlags(write=True, create=True, directory=True, replace=True),
    ],
)
def test_flags_that_mean_nothing_together(flags: OpenFlags):
    with pytest.raises(InvalidArgument):
        check_open(int(POSIX_LIKE), flags)


def test_remove_needs_delete():
    with pytest.raises(NotSupported, match=r"^not implemented: delete$"):
        check_remove(int(Capability.READ | Capability.WRITE))
    check_remove(int(Capability.DELETE))
