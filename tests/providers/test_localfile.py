"""Open files of localfs: flags, positional reads and writes, handles that follow the file."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading

import pytest

from fs9.errors import (
    AlreadyExists,
    InvalidArgument,
    InvalidHandle,
    IsDirectory,
    NotDirectory,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
)
from fs9.providers.localfile import Descriptor
from fs9.types import (
    MKDIR,
    READ,
    REPLACE,
    WRITE,
    OpenFlags,
    StatChanges,
)
from tests.providers.local_calls import (
    BOTH,
    BYTES_MAX,
    CREATE,
    content,
    made,
    put,
)


@pytest.mark.parametrize(
    ("path", "flags", "error"),
    [
        ("/no", READ, NotFound),
        ("/no", WRITE, NotFound),
        ("/no", OpenFlags(write=True, truncate=True), NotFound),
        ("/no", OpenFlags(), NotFound),
        ("/no/f", CREATE, NotFound),
        ("/no/f", MKDIR, NotFound),
        ("/f/x", READ, NotDirectory),
        ("/f/x", CREATE, NotDirectory),
        ("/f/x", MKDIR, NotDirectory),
        ("/f", MKDIR, AlreadyExists),
        ("/d", MKDIR, AlreadyExists),
        ("/link", MKDIR, AlreadyExists),
        ("/", MKDIR, AlreadyExists),
        ("/", CREATE, IsDirectory),
        ("/", REPLACE, IsDirectory),
        ("/", OpenFlags(write=True, create=True, exclusive=True), AlreadyExists),
        ("/f", OpenFlags(read=True, directory=True), NotDirectory),
        ("/d", WRITE, IsDirectory),
        ("/d", BOTH, IsDirectory),
        ("/d", CREATE, IsDirectory),
        ("/d", OpenFlags(read=True, create=True), IsDirectory),
        ("/d", OpenFlags(write=True, truncate=True), IsDirectory),
        ("/d", REPLACE, IsDirectory),
        ("/f", OpenFlags(read=True, truncate=True), InvalidArgument),
        ("/f", OpenFlags(truncate=True), InvalidArgument),
        ("/f", OpenFlags(write=True, create=True, exclusive=True), AlreadyExists),
        ("/d", OpenFlags(write=True, create=True, exclusive=True), AlreadyExists),
        ("/link", OpenFlags(write=True, create=True, exclusive=True), AlreadyExists),
        ("/f", OpenFlags(write=True, create=True, exclusive=True, replace=True), AlreadyExists),
        ("/no", OpenFlags(write=True, replace=True), NotFound),
        ("/no/f", REPLACE, NotFound),
        ("/f/x", REPLACE, NotDirectory),
        ("/f", OpenFlags(read=True, replace=True), InvalidArgument),
        ("/f", OpenFlags(write=True, directory=True, replace=True), InvalidArgument),
        ("/" + "x" * 256, CREATE, InvalidArgument),
        ("/../escape", CREATE, InvalidArgument),
        ("/d/../../escape", CREATE, InvalidArgument),
    ],
)
async def test_opens_that_cannot_be_done(local, host_root, path, flags, error):
    """Each refusal has its kind, and nothing is changed or left open."""
    before = sorted(
        (name, os.lstat(host_root / name).st_mtime_ns) for name in os.listdir(host_root)
    )
    with pytest.raises(error):
        await local.open(path, flags)
    assert before == sorted(
        (name, os.lstat(host_root / name).st_mtime_ns) for name in os.listdir(host_root)
    )
    assert sorted(os.listdir(host_root.parent)) == ["root", "secret"]


async def test_flags_are_enforced_on_use(local):
    """A handle does what it was opened for; with no flag it can only be held."""
    for flags in (WRITE, OpenFlags(), OpenFlags(create=True), OpenFlags(append=True)):
        file, _ = await local.open("/f", flags)
        with pytest.raises(PermissionDenied, match="file not opened for reading"):
            await local.read(file, 0, 1)
        await local.close(file, sync=True)
    for flags in (READ, OpenFlags(), OpenFlags(create=True)):
        file, _ = await local.open("/f", flags)
        with pytest.raises(PermissionDenied, match="file not opened for writing"):
            await local.write(file, 0, b"x")
        await local.close(file)
    assert await content(local, "/f") == b"content"


async def test_a_directory_can_be_opened_but_not_read(local):
    """read of an open directory is IsDirectory, write is PermissionDenied, close works."""
    for flags in (
        READ,
        OpenFlags(read=True, directory=True),
        OpenFlags(read=True, create=True, directory=True),
    ):
        path = "/new" if flags.create else "/d"
        file, info = await local.open(path, flags)
        assert info.is_dir
        with pytest.raises(IsDirectory):
            await local.read(file, 0, 1)
        with pytest.raises(PermissionDenied):
            await local.write(file, 0, b"x")
        assert await local.close(file, sync=True) is None
    file, _ = await local.open("/", READ)
    await local.close(file, sync=True)


async def test_modes_of_new_files_do_not_depend_on_the_umask(local, host_root):
    """Files are 0644 and directories 0755, whatever umask the server was started with."""
    old = os.umask(0o077)
    try:
        assert (await made(local, "/a", CREATE)).mode == 0o644
        assert (await made(local, "/b", MKDIR)).mode == 0o755
        info = await put(local, "/c", b"")
        assert info.mode == 0o644
    finally:
        os.umask(old)
    assert [stat.S_IMODE(os.stat(host_root / name).st_mode) for name in "abc"] == [
        0o644,
        0o755,
        0o644,
    ]


async def test_writes_and_reads_are_positional(local, host_root):
    """Gaps read as zeros, reads are short only at the end, appends ignore the offset."""
    file, info = await local.open("/n", OpenFlags(read=True, write=True, create=True))
    assert (info.size, info.path) == (0, "/n")
    assert await local.write(file, 5, b"five") == 4
    assert await local.write(file, 0, memoryview(b"ab")) == 2
    assert await local.write(file, 3, b"") == 0
    assert bytes(await local.read(file, 0, 100)) == b"ab\0\0\0five"
    assert bytes(await local.read(file, 1, 2)) == b"b\0"
    for offset in (9, 10, 1 << 40, (1 << 63) - 1, 1 << 63, 1 << 70):
        assert bytes(await local.read(file, offset, 10)) == b""
    assert bytes(await local.read(file, 5, 1 << 70)) == b"five"
    assert bytes(await local.read(file, 0, 0)) == b""
    await local.close(file)
    file, _ = await local.open("/n", OpenFlags(write=True, append=True))
    assert await local.write(file, 0, b"+1") == 2
    assert await local.write(file, 1 << 80, b"+2") == 2
    await local.close(file, sync=True)
    assert (host_root / "n").read_bytes() == b"ab\0\0\0five+1+2"
    file, info = await local.open("/n", OpenFlags(write=True, truncate=True, append=True))
    assert info.size == 0
    await local.close(file)


async def test_negative_numbers_are_refused(local):
    """No offset or size below 0 reaches the kernel."""
    file, _ = await local.open("/f", BOTH)
    for call in (
        local.read(file, -1, 1),
        local.read(file, 0, -1),
        local.write(file, -1, b"x"),
    ):
        with pytest.raises(InvalidArgument):
            await call
    await local.close(file)


async def test_the_size_limit_is_asked_before_the_file_system(local, host_root):
    """A write, append or truncate past the limit is QuotaExceeded and changes nothing."""
    file, _ = await local.open("/f", WRITE)
    for offset in (BYTES_MAX, BYTES_MAX - 1, 1 << 62, 1 << 63, 1 << 64, 1 << 100):
        with pytest.raises(QuotaExceeded):
            await local.write(file, offset, b"xx")
    await local.close(file)
    with pytest.raises(QuotaExceeded):
        await local.wstat("/f", StatChanges(size=BYTES_MAX + 1))
    assert os.stat(host_root / "f").st_size == 7
    await local.wstat("/f", StatChanges(size=BYTES_MAX))
    file, _ = await local.open("/f", OpenFlags(write=True, append=True))
    with pytest.raises(QuotaExceeded):
        await local.write(file, 0, b"x")
    await local.close(file)
    assert os.stat(host_root / "f").st_size == BYTES_MAX


async def test_a_read_is_whole_although_only_a_part_is_cached(local, host_root):
    """What RWF_NOWAIT cannot give is read in a thread: the caller sees one full read."""
    data = os.urandom(3_000_000)
    (host_root / "big").write_bytes(data)
    for gap in ((0, 3_000_000), (1_000_000, 500_000), (0, 1_000_000), (2_500_000, 500_000)):
        host = os.open(host_root / "big", os.O_RDONLY)
        os.fsync(host)
        os.posix_fadvise(host, *gap, os.POSIX_FADV_DONTNEED)
        os.close(host)
        file, _ = await local.open("/big", READ)
        assert bytes(await local.read(file, 0, 4_000_000)) == data
        assert bytes(await local.read(file, 999_000, 30_000)) == data[999_000:1_029_000]
        await local.close(file)


async def test_reads_work_where_nowait_is_not_supported(local, host_root, monkeypatch):
    """EOPNOTSUPP to RWF_NOWAIT (tmpfs, many network file systems) sends all IO to the pool."""
    real_read, real_write = os.preadv, os.pwritev
    tried = []

    def preadv(fd, buffers, offset, flags=0):
        if flags:
            tried.append("read")
            raise OSError(errno.EOPNOTSUPP, "")
        return real_read(fd, buffers, offset)

    def pwritev(fd, buffers, offset, flags=0):
        if flags:
            tried.append("write")
            raise OSError(errno.EOPNOTSUPP, "")
        return real_write(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(os, "pwritev", pwritev)
    file, _ = await local.open("/f", BOTH)
    for _ in range(3):
        assert await local.write(file, 0, b"CON") == 3
        assert bytes(await local.read(file, 0, 100)) == b"CONtent"
    await local.close(file)
    assert tried.count("read") == 1
    assert tried.count("write") <= 1


async def test_a_handle_follows_its_file(local, host_root):
    """After a rename, a replacement and a remove the handle still has the file it opened."""
    file, _ = await local.open("/f", BOTH)
    await local.wstat("/f", StatChanges(name="/g"))
    await local.write(file, 0, b"CON")
    assert await content(local, "/g") == b"CONtent"
    await put(local, "/g", b"new")
    assert bytes(await local.read(file, 0, 100)) == b"CONtent"
    assert await content(local, "/g") == b"new"
    await local.remove("/g")
    await local.write(file, 7, b"!")
    assert bytes(await local.read(file, 0, 100)) == b"CONtent!"
    await local.close(file, sync=True)


async def test_a_closed_file_is_an_invalid_handle(local):
    """Nothing reaches a descriptor number that may belong to another file by now."""
    file, _ = await local.open("/f", BOTH)
    await local.close(file)
    for call in (local.read(file, 0, 1), local.write(file, 0, b"x"), local.close(file)):
        with pytest.raises(InvalidHandle):
            await call


def test_a_descriptor_stays_open_for_the_calls_that_use_it(host_root):
    """close during a call takes effect when the call is over, and only once."""
    descriptor = Descriptor(os.open(host_root / "f", os.O_RDONLY))
    with descriptor as fd:
        with descriptor:
            descriptor.close()
            descriptor.close()
            assert os.pread(fd, 7, 0) == b"content"
        assert os.pread(fd, 7, 0) == b"content"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(InvalidHandle), descriptor:
        pass


async def test_a_cancelled_open_leaves_nothing_open(local, host_root, monkeypatch):
    """An open whose caller was cancelled may have created the file, but holds no descriptor."""
    loop = asyncio.get_running_loop()
    started, go_on = asyncio.Event(), threading.Event()
    real = local._tree.open

    def slow(*args):
        loop.call_soon_threadsafe(started.set)
        assert go_on.wait(30)
        return real(*args)

    monkeypatch.setattr(local._tree, "open", slow)
    for flags in (CREATE, REPLACE):
        started.clear()
        go_on.clear()
        task = asyncio.create_task(local.open("/new", flags))
        await started.wait()
        task.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await content(local, "/new") == b""
    assert sorted(os.listdir(host_root)) == ["d", "f", "link", "new"]
