"""Mode, owner, size and times of localfs: checked together, applied together."""

from __future__ import annotations

import os

import pytest

from fs9.errors import (
    InvalidArgument,
    IsDirectory,
    NotDirectory,
    NotFound,
    NotSupported,
    QuotaExceeded,
)
from fs9.types import (
    StatChanges,
)


async def test_attributes_are_applied_together(local, host_root):
    """Mode, owner, size and times in one call; the size does not undo the times."""
    await local.wstat(
        "/f", StatChanges(mode=0o600, uid=1, gid=2, size=3, atime_ns=4, mtime_ns=5_000_000_000)
    )
    info = await local.stat("/f")
    assert (info.mode, info.uid, info.gid, info.size) == (0o600, 1, 2, 3)
    assert (info.atime_ns, info.mtime_ns // 1_000_000_000) == (4, 5)
    await local.wstat("/f", StatChanges(uid=7))
    await local.wstat("/f", StatChanges(atime_ns=8))
    await local.wstat("/f", StatChanges(size=5))
    info = await local.stat("/f")
    assert (info.uid, info.gid, info.atime_ns, info.size) == (7, 2, 8, 5)
    assert info.mtime_ns > 5_000_000_000
    assert (host_root / "f").read_bytes() == b"con\0\0"
    await local.wstat("/", StatChanges(mode=0o700))
    assert (await local.stat("/")).mode == 0o700


async def test_no_mode_gives_the_servers_rights_away(local):
    """Set-user-id is dropped; set-group-id and sticky stay on directories; type bits are cut."""
    await local.wstat("/f", StatChanges(mode=0o107777))
    assert (await local.stat("/f")).mode == 0o777
    await local.wstat("/d", StatChanges(mode=0o47775))
    assert (await local.stat("/d")).mode == 0o3775
    await local.wstat("/d", StatChanges(mode=0o755))
    assert (await local.stat("/d")).mode & 0o777 == 0o755


async def test_attributes_of_a_link_are_its_own(local, host_root):
    """chown and utime change the link; chmod and truncate of one are refused; never the target."""
    before = os.stat(host_root.parent / "secret")
    await local.wstat("/link", StatChanges(uid=3, mtime_ns=4_000_000_000))
    info = await local.stat("/link")
    assert (info.uid, info.mtime_ns // 1_000_000_000) == (3, 4)
    with pytest.raises(NotSupported):
        await local.wstat("/link", StatChanges(mode=0o777))
    with pytest.raises(InvalidArgument, match="symlink"):
        await local.wstat("/link", StatChanges(size=0))
    assert os.stat(host_root.parent / "secret") == before


@pytest.mark.parametrize(
    ("path", "changes", "error"),
    [
        ("/no", StatChanges(), NotFound),
        ("/no", StatChanges(mode=0o600), NotFound),
        ("/f/x", StatChanges(mode=0o600), NotDirectory),
        ("/d", StatChanges(mode=0o700, size=0), IsDirectory),
        ("/f", StatChanges(mode=0o600, size=-1), InvalidArgument),
        ("/f", StatChanges(mode=-1), InvalidArgument),
        ("/f", StatChanges(mode=0o600, uid=2**32 - 1), InvalidArgument),
        ("/f", StatChanges(mode=0o600, gid=2**40), InvalidArgument),
        ("/f", StatChanges(uid=-1), InvalidArgument),
        ("/f", StatChanges(mode=0o600, mtime_ns=2**63 * 10**9), InvalidArgument),
        ("/f", StatChanges(mode=0o600, size=2**64), QuotaExceeded),
    ],
)
async def test_refused_attributes_change_nothing(local, host_root, path, changes, error):
    """All values are checked before the first is applied."""
    before = {name: os.lstat(host_root / name) for name in ("f", "d")}
    with pytest.raises(error):
        await local.wstat(path, changes)
    assert before == {name: os.lstat(host_root / name) for name in ("f", "d")}
