"""Listings of localfs: sorted, paged, and what is left out."""

from __future__ import annotations

import os

import pytest
from msgspec.structs import replace

from fs9.errors import (
    DirectoryNotEmpty,
    NotDirectory,
    NotFound,
)
from tests.providers.local_calls import (
    names,
)


async def test_a_listing_is_sorted_by_bytes_and_paged(local, host_root):
    """Pages of any size, joined, are the directory, in the order of the UTF-8 bytes."""
    wanted = [f"n{number:03}" for number in range(50)] + [
        "z",
        "Z",
        "é",
        "\U0001f600",
        "\uffee",
        "a b",
    ]
    for name in wanted:
        (host_root / "d" / name).touch()
    wanted = sorted([*wanted, "x"], key=str.encode)
    assert await names(local, "/d") == [f"/d/{name}" for name in wanted]
    for limit in (1, 5, 49, 57, 58):
        listed: list[str] = []
        after = ""
        while page := await names(local, "/d", after, limit):
            assert len(page) == min(limit, len(wanted) - len(listed))
            listed += page
            after = page[-1].rpartition("/")[2]
        assert listed == [f"/d/{name}" for name in wanted]
    assert await names(local, "/d", "\U0010ffff") == []
    assert await names(local, "/d", "", 0) == []


async def test_listed_infos_are_what_stat_says(local):
    """readdir and stat agree, for every type."""
    for info in await local.readdir("/", "", 100):
        # Reading a link's text may have moved its atime.
        found = await local.stat(info.path)
        assert replace(info, atime_ns=0) == replace(found, atime_ns=0)
    with pytest.raises(NotDirectory):
        await local.readdir("/f", "", 1)
    with pytest.raises(NotFound):
        await local.readdir("/no", "", 1)


async def test_what_has_no_form_for_clients_is_left_out_and_still_there(local, host_root):
    """Names that are not UTF-8 and special files are not listed, and keep their directory."""
    os.mkfifo(host_root / "d" / "fifo")
    (host_root / "d" / "x").unlink()
    assert await names(local, "/d") == []
    with pytest.raises(DirectoryNotEmpty):
        await local.remove("/d")
    os.unlink(host_root / "d" / "fifo")
    os.close(os.open(os.fsencode(host_root) + b"/d/\xff", os.O_CREAT))
    assert await names(local, "/d") == []
    with pytest.raises(DirectoryNotEmpty):
        await local.remove("/d")


async def test_a_page_is_full_although_some_names_are_left_out(local, host_root):
    """A short page means the end, so names without a form do not shorten one."""
    (host_root / "d" / "x").unlink()
    for number in range(40):
        os.mkfifo(host_root / "d" / f"a{number:02}")
        (host_root / "d" / f"b{number:02}").touch()
    assert await names(local, "/d", "", 3) == ["/d/b00", "/d/b01", "/d/b02"]
