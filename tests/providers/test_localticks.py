"""Etags of localfs are strong, also where the clock is coarse."""

from __future__ import annotations

import os

from fs9.providers.localticks import Ticks, is_coarse
from fs9.types import (
    WRITE,
    OpenFlags,
    StatChanges,
)
from tests.providers.local_calls import (
    BOTH,
    CREATE,
    content,
    made,
    put,
)


async def test_every_version_has_its_own_etag(local):
    """Quick rewrites of one size, in place and by replacement, never share an etag."""
    seen = [(await local.stat("/f")).etag]
    for number in range(60):
        seen.append((await put(local, "/f", b"%07d" % number)).etag)
        file, _ = await local.open("/f", WRITE)
        await local.write(file, 0, b"%07d" % -number)
        await local.close(file)
        seen.append((await local.stat("/f")).etag)
        await local.wstat("/f", StatChanges(size=3))
        await local.wstat("/f", StatChanges(size=7))
        seen.append((await local.stat("/f")).etag)
        seen.append((await made(local, "/f", OpenFlags(write=True, truncate=True))).etag)
    assert len(set(seen)) == len(seen)


async def test_a_restored_mtime_does_not_restore_the_etag(local):
    """mtime is the client's to set; content of one size with one mtime still differs."""
    seen = []
    for number in range(30):
        await put(local, "/f", b"%07d" % number)
        await local.wstat("/f", StatChanges(mtime_ns=1_000_000_000))
        info = await local.stat("/f")
        assert info.mtime_ns // 1_000_000_000 == 1
        seen.append(info.etag)
    assert len(set(seen)) == len(seen)


async def test_a_reused_inode_does_not_reuse_the_etag(local):
    """Remove and create at once: the kernel gives the inode number again, the etag is new."""
    seen = []
    for number in range(30):
        file, _ = await local.open("/r", CREATE)
        await local.write(file, 0, b"%07d" % number)
        await local.close(file)
        seen.append((await local.stat("/r")).etag)
        await local.remove("/r")
    assert len(set(seen)) == len(seen)


async def test_reading_does_not_change_the_etag(local):
    """An unchanged file keeps its etag over reads, stats and listings."""
    etag = (await local.stat("/f")).etag
    await content(local, "/f")
    await local.readdir("/", "", 10)
    _, info = (opened := await local.open("/f", BOTH))
    await local.close(opened[0], sync=True)
    assert etag == info.etag == (await local.stat("/f")).etag


def test_a_coarse_clock_is_noticed(host_root, monkeypatch):
    """The probe sees equal times; where it cannot try, it assumes the worst."""
    fd = os.open(host_root, os.O_RDONLY)

    class Frozen:
        st_ctime_ns = 5

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", lambda fd: Frozen)
        assert is_coarse(fd)
    os.close(fd)
    assert is_coarse(fd)


def test_the_coarse_way_keeps_versions_apart_when_the_clock_stands(host_root, monkeypatch):
    """With one ctime for all changes the mtime alone makes each version's stamp new."""
    ticks = Ticks(coarse=True)
    real = os.fstat

    class Frozen:
        def __init__(self, found):
            self.st_dev, self.st_ino, self.st_ctime_ns = found.st_dev, found.st_ino, 5
            self.st_atime_ns, self.st_mtime_ns = found.st_atime_ns, found.st_mtime_ns

    fd = os.open(host_root / "f", os.O_RDWR)
    seen = set()
    for _ in range(20):
        os.pwrite(fd, b"x", 0)
        os.utime(fd, ns=(7, 7))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", lambda fd: Frozen(real(fd)))
            ticks.changed(fd)
        seen.add(os.fstat(fd).st_mtime_ns)
    os.close(fd)
    assert seen == set(range(7, 27))
