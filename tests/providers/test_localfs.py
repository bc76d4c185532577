"""localfs as a whole: its factory, what it shows, what runs where, the host's limits."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from fs9 import errors
from fs9.errors import (
    AlreadyExists,
    InvalidArgument,
    NotDirectory,
    NotFound,
    QuotaExceeded,
)
from fs9.providers import jail, localattributes, localfile, localfs
from fs9.providers.jail import RESERVED_PREFIX
from fs9.types import (
    MKDIR,
    POSIX_LIKE,
    READ,
    REPLACE,
    WRITE,
    Capability,
    FileType,
    OpenFlags,
    StatChanges,
)
from tests.providers.local_calls import (
    BOTH,
    CREATE,
    content,
    context,
    names,
    put,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


async def test_the_default_root_is_made_below_the_data_directory(tmp_path, pool):
    """`{data_dir}` and `{namespace}` are replaced, and a missing root there is created."""
    config = {"root": "{data_dir}/namespaces/{namespace}/files"}
    local = await localfs.create(config, context(tmp_path, pool))
    await put(local, "/f", b"1")
    await local.aclose()
    assert (tmp_path / "namespaces/ns/files/f").read_bytes() == b"1"
    local = await localfs.create(config, context(tmp_path, pool))
    assert await content(local, "/f") == b"1"
    assert (await local.stat("/")).mode == 0o755
    assert (local.name, local.volatile) == ("localfs", False)
    assert local.capabilities() == (
        POSIX_LIKE | Capability.ETAG | Capability.ATOMIC_RENAME | Capability.APPEND
    )
    await local.aclose()


async def test_a_root_elsewhere_must_exist(host_root, tmp_path, pool):
    """Outside the data directory nothing is created."""
    for path, error in (
        (tmp_path / "no", NotFound),
        (tmp_path / "secret", NotDirectory),
        (tmp_path / "data" / ".." / "no", NotFound),
    ):
        with pytest.raises(error):
            await localfs.create({"root": str(path)}, context(tmp_path / "data", pool))
    assert sorted(os.listdir(tmp_path)) == ["root", "secret"]
    local = await localfs.create({"root": str(host_root)}, context(tmp_path / "data", pool))
    assert await content(local, "/f") == b"content"
    await local.aclose()


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({}, "root"),
        ({"rot": "/tmp"}, "'root'"),
        ({"root": "/tmp", "uid": 0}, "uid"),
        ({"root": 1}, "root"),
        ({"root": None}, "root"),
        ({"root": ""}, "absolute"),
        ({"root": "relative"}, "absolute"),
        ({"root": "/tmp\0"}, "absolute"),
    ],
)
async def test_a_wrong_config_names_the_key(tmp_path, pool, config, word):
    """A missing, unknown or mistyped key is an InvalidArgument that says which."""
    with pytest.raises(InvalidArgument, match=word):
        await localfs.create(config, context(tmp_path, pool))


@pytest.mark.parametrize("namespace", ["", ".", "..", "a/b", "../../etc"])
async def test_a_namespace_cannot_climb_out_of_its_directory(tmp_path, pool, namespace):
    """A hostile namespace name never becomes part of a host path."""
    with pytest.raises(InvalidArgument):
        await localfs.create(
            {"root": "{data_dir}/{namespace}/files"}, context(tmp_path, pool, namespace)
        )
    assert os.listdir(tmp_path) == []


async def test_stat_tells_what_lstat_tells(local, host_root):
    """Type, size, permission bits, owner and times come from the file itself."""
    os.chmod(host_root / "f", 0o640)
    os.chown(host_root / "f", 12, 34)
    os.utime(host_root / "f", ns=(-5, 1_234_567_890_123_456_789))
    found = os.lstat(host_root / "f")
    info = await local.stat("/f")
    assert (info.path, info.size, info.file_type) == ("/f", 7, FileType.REGULAR)
    assert (info.mode, info.uid, info.gid) == (0o640, 12, 34)
    assert (info.atime_ns, info.mtime_ns) == (-5, 1_234_567_890_123_456_789)
    assert info.ctime_ns == found.st_ctime_ns
    assert info.etag.startswith(f"{found.st_ino:x}-{found.st_mtime_ns:x}")
    assert info.symlink_target is None
    directory = await local.stat("/d")
    assert (directory.file_type, directory.size) == (FileType.DIRECTORY, 0)
    assert (await local.stat("/")).is_dir


async def test_an_open_file_has_an_identity(local):
    """Under every name, made or found, by every way to open it; another file has another one."""
    ids = []
    for path, flags in (("/f", READ), ("/f", WRITE), ("/d", READ), ("/new", CREATE), ("/e", MKDIR)):
        file, info = await local.open(path, flags)
        await local.close(file)
        ids.append(info.file_id)
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4
    await local.wstat("/f", StatChanges(name="/g"))
    file, info = await local.open("/g", READ)
    assert info.file_id == ids[0]
    await local.close(file)
    staged, info = await local.open("/g", REPLACE)
    assert info.file_id not in ids
    assert (await local.close(staged)).file_id == info.file_id


async def test_statfs_is_the_hosts(local, host_root):
    """Sizes are those of the file system; free is what an unprivileged user could still take."""
    found = os.statvfs(host_root)
    stats = await local.statfs("/")
    assert stats.total_bytes == found.f_blocks * found.f_frsize
    assert 0 < stats.free_bytes <= stats.total_bytes
    assert (stats.block_size, stats.max_name_len) == (found.f_frsize, 255)
    assert 0 <= stats.free_inodes <= stats.total_inodes


async def test_reserved_names_are_not_for_clients(local, host_root):
    """A name with our prefix is invisible and cannot be named in any call."""
    name = "/" + RESERVED_PREFIX + "x"
    (host_root / name[1:]).mkdir()
    assert name not in await names(local)
    for call in (
        local.stat(name),
        local.open(name, CREATE),
        local.open(name + "/f", CREATE),
        local.remove(name),
        local.wstat("/f", StatChanges(name=name)),
        local.wstat(name, StatChanges(symlink_target="x")),
        local.readdir(name, "", 1),
    ):
        with pytest.raises(InvalidArgument):
            await call


async def test_special_files_are_refused_without_being_opened(local, host_root, monkeypatch):
    """A FIFO, a socket or a device is never really opened: no wait, no side effect."""
    os.mkfifo(host_root / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        short = os.open(host_root, os.O_PATH)  # sun_path has 108 bytes
        server.bind(f"/proc/self/fd/{short}/socket")
        os.close(short)
    special = ["/fifo", "/socket"]
    try:
        os.mknod(host_root / "device", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        special.append("/device")
    except PermissionError:
        pass
    monkeypatch.setattr(jail, "reopen", lambda *_: pytest.fail("opened"))
    monkeypatch.setattr(localfile, "reopen", lambda *_: pytest.fail("opened"))
    monkeypatch.setattr(localattributes, "reopen", lambda *_: pytest.fail("opened"))
    for path in special:
        for flags in (READ, WRITE, BOTH, CREATE, REPLACE, OpenFlags()):
            with pytest.raises(InvalidArgument, match="no regular file"):
                await local.open(path, flags)
        for call in (
            local.stat(path),
            local.remove(path),
            local.wstat(path, StatChanges(mode=0o600)),
            local.wstat(path, StatChanges(size=0)),
            local.wstat(path, StatChanges(name="/moved")),
        ):
            with pytest.raises(NotFound):
                await call
        with pytest.raises(InvalidArgument):
            await local.wstat("/f", StatChanges(name=path))
        with pytest.raises(AlreadyExists):
            await local.open(path, MKDIR)
        assert path not in await names(local)
        assert path[1:] in os.listdir(host_root)


async def test_what_is_cached_needs_no_thread(host_root, pool, monkeypatch):
    """stat, open for reading, read and close of what is in memory never leave the loop."""
    monkeypatch.setattr(jail, "_is_local", lambda fd: True)
    local = await localfs.create({"root": str(host_root)}, context(host_root / "no", pool))
    assert await content(local, "/d/x") == b"x"

    async def refused(call, *args, **kwargs):
        pytest.fail(f"in a thread: {call}")

    file, _ = await local.open("/d/x", READ)
    with file.descriptor as fd:
        try:
            os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            monkeypatch.setattr(localfile, "read_cached", lambda *_: (bytearray(b"x"), 1, True))
    monkeypatch.setattr(pool, "run", refused)
    assert await content(local, "/d/x") == b"x"
    assert (await local.stat("/d/x")).size == 1
    assert (await local.stat("/d")).is_dir
    await local.close(file)
    await local.aclose()


@contextlib.contextmanager
def mounted(place: Path) -> Iterator[Path]:
    """A file system of 1 MiB at `place`."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True
    )
    if done.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"cannot mount a tmpfs: {done.stderr.decode()}")
        pytest.skip("cannot mount a tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path) as place:
        yield place


@pytest.fixture
def small_below(host_root: Path) -> Iterator[Path]:
    with mounted(host_root / "d") as place:
        yield place


async def test_a_full_file_system_is_a_quota(small, pool):
    """ENOSPC while writing a replacement: QuotaExceeded, the old version stays, no garbage."""
    local = await localfs.create({"root": str(small)}, context(small / "no", pool))
    await put(local, "/f", b"old")
    file, _ = await local.open("/f", REPLACE)
    offset = 0

    async def fill() -> None:
        nonlocal offset
        while True:
            offset += await local.write(file, offset, b"x" * 300_000)

    with pytest.raises(QuotaExceeded):
        await fill()
    await local.close(file, discard=True)
    assert offset > 500_000
    assert await content(local, "/f") == b"old"
    assert os.listdir(small) == ["f"]
    await put(local, "/g", b"x" * 500_000)
    await local.aclose()


async def test_what_is_mounted_below_the_root_belongs_to_it(host_root, small_below, pool):
    """Files of another mount work, through threads; a rename across is refused whole."""
    local = await localfs.create({"root": str(host_root)}, context(host_root / "no", pool))
    await put(local, "/d/m", b"mounted", sync=True)
    assert await content(local, "/d/m") == b"mounted"
    assert (await local.stat("/d/m")).size == 7
    with pytest.raises(InvalidArgument):
        await local.wstat("/f", StatChanges(name="/d/f"))
    with pytest.raises(errors.Conflict):
        await local.remove("/d")
    await local.aclose()
