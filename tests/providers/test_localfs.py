"""localfs on a real directory, in four ways: both walks, a coarse clock, no O_TMPFILE."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from fs9 import errors
from fs9.clock import SystemClock
from fs9.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidArgument,
    InvalidHandle,
    IsDirectory,
    NotDirectory,
    NotFound,
    NotSupported,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
)
from fs9.limits import Limits
from fs9.providers import jail, localattributes, localfile, localfs, localstage
from fs9.providers.jail import RESERVED_PREFIX, KernelJail, WalkJail
from fs9.providers.localerrors import failure
from fs9.providers.localfile import Descriptor
from fs9.providers.localfs import LocalFs
from fs9.providers.localticks import Ticks, is_coarse
from fs9.providers.registry import ProviderContext
from fs9.threads import BlockingPool
from fs9.types import (
    ALWAYS,
    MKDIR,
    POSIX_LIKE,
    READ,
    REPLACE,
    WRITE,
    Capability,
    Condition,
    FileType,
    OpenFlags,
    StatChanges,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

ANY = Condition(if_match=("*",))
ABSENT = Condition(if_none_match=("*",))
STALE = Condition(if_match=("stale",))
CREATE = OpenFlags(write=True, create=True)
BOTH = OpenFlags(read=True, write=True)
BYTES_MAX = 1 << 40


@pytest.fixture
def pool() -> Iterator[BlockingPool]:
    pool = BlockingPool(4)
    yield pool
    pool.shutdown()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (root / "f").write_bytes(b"content")
    (root / "d" / "x").write_bytes(b"x")
    (root / "link").symlink_to("../secret")
    return root


@pytest.fixture(params=["kernel", "walk", "coarse", "named"])
async def provider(request, root: Path, pool, monkeypatch) -> AsyncIterator[LocalFs]:
    walk = WalkJail if request.param == "walk" else KernelJail
    if request.param == "named":
        monkeypatch.setattr(localstage, "_unnamed", lambda entry: None)
    held = walk(os.open(root, os.O_PATH | os.O_DIRECTORY), os.stat(root).st_dev)
    ticks = Ticks(coarse=request.param == "coarse")
    provider = LocalFs(held, ticks, Limits(file_bytes_max=BYTES_MAX), pool)
    yield provider
    await provider.aclose()


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Every test, with all its refusals, leaves no descriptor open."""
    yield
    # The pool's and the loop's are closed by later fixtures, so look at regular files only.
    names = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue
    assert not [name for name in names if "/root" in name and "pytest" in name]


async def content(provider: LocalFs, path: str) -> bytes:
    file, _ = await provider.open(path, READ)
    try:
        return bytes(await provider.read(file, 0, 10_000_000))
    finally:
        await provider.close(file)


async def put(provider: LocalFs, path: str, data: bytes, condition: Condition = ALWAYS, **close):
    file, _ = await provider.open(path, REPLACE, condition)
    if data:
        assert await provider.write(file, 0, data) == len(data)
    return await provider.close(file, **close)


async def made(provider: LocalFs, path: str, flags: OpenFlags, condition: Condition = ALWAYS):
    file, info = await provider.open(path, flags, condition)
    await provider.close(file)
    return info


async def names(provider: LocalFs, path: str = "/", after: str = "", limit: int = 1000):
    return [info.path for info in await provider.readdir(path, after, limit)]


# -- the factory ------------------------------------------------------------------------------


def context(data_dir: Path, pool: BlockingPool, namespace: str = "ns") -> ProviderContext:
    return ProviderContext(namespace, data_dir, Limits(), SystemClock(), pool)


async def test_the_default_root_is_made_below_the_data_directory(tmp_path, pool):
    """`{data_dir}` and `{namespace}` are replaced, and a missing root there is created."""
    config = {"root": "{data_dir}/namespaces/{namespace}/files"}
    provider = await localfs.create(config, context(tmp_path, pool))
    await put(provider, "/f", b"1")
    await provider.aclose()
    assert (tmp_path / "namespaces/ns/files/f").read_bytes() == b"1"
    provider = await localfs.create(config, context(tmp_path, pool))
    assert await content(provider, "/f") == b"1"
    assert (await provider.stat("/")).mode == 0o755
    assert (provider.name, provider.volatile) == ("localfs", False)
    assert provider.capabilities() == (
        POSIX_LIKE | Capability.ETAG | Capability.ATOMIC_RENAME | Capability.APPEND
    )
    await provider.aclose()


async def test_a_root_elsewhere_must_exist(root, tmp_path, pool):
    """Outside the data directory nothing is created."""
    for path, error in (
        (tmp_path / "no", NotFound),
        (tmp_path / "secret", NotDirectory),
        (tmp_path / "data" / ".." / "no", NotFound),
    ):
        with pytest.raises(error):
            await localfs.create({"root": str(path)}, context(tmp_path / "data", pool))
    assert sorted(os.listdir(tmp_path)) == ["root", "secret"]
    provider = await localfs.create({"root": str(root)}, context(tmp_path / "data", pool))
    assert await content(provider, "/f") == b"content"
    await provider.aclose()


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


# -- stat and readdir -------------------------------------------------------------------------


async def test_stat_tells_what_lstat_tells(provider, root):
    """Type, size, permission bits, owner and times come from the file itself."""
    os.chmod(root / "f", 0o640)
    os.chown(root / "f", 12, 34)
    os.utime(root / "f", ns=(-5, 1_234_567_890_123_456_789))
    found = os.lstat(root / "f")
    info = await provider.stat("/f")
    assert (info.path, info.size, info.file_type) == ("/f", 7, FileType.REGULAR)
    assert (info.mode, info.uid, info.gid) == (0o640, 12, 34)
    assert (info.atime_ns, info.mtime_ns) == (-5, 1_234_567_890_123_456_789)
    assert info.ctime_ns == found.st_ctime_ns
    assert info.etag.startswith(f"{found.st_ino:x}-{found.st_mtime_ns:x}")
    assert info.symlink_target is None
    directory = await provider.stat("/d")
    assert (directory.file_type, directory.size) == (FileType.DIRECTORY, 0)
    assert (await provider.stat("/")).is_dir


async def test_a_link_is_data(provider, root):
    """stat shows the link and its text, whatever it points to; opening it is refused."""
    info = await provider.stat("/link")
    assert (info.file_type, info.size, info.symlink_target) == (FileType.SYMLINK, 9, "../secret")
    for flags in (READ, WRITE, BOTH, CREATE, REPLACE, OpenFlags()):
        with pytest.raises(InvalidArgument, match="symlink"):
            await provider.open("/link", flags)
    with pytest.raises(NotDirectory):
        await provider.open("/link", OpenFlags(read=True, directory=True))
    for call in (
        provider.stat("/link/x"),
        provider.open("/link/x", CREATE),
        provider.remove("/link/x"),
        provider.readdir("/link", "", 1),
        provider.wstat("/f", StatChanges(name="/link/x")),
    ):
        with pytest.raises(NotDirectory):
            await call
    assert (root.parent / "secret").read_bytes() == b"secret"


async def test_links_with_any_text_can_be_made_and_removed(provider, root):
    """Absolute, dangling, climbing, looping, long and odd texts are kept as they are."""
    for target in ("/etc/passwd", "../../../..", "nowhere", "l", " ", "é/\n", "x" * 4000, "/"):
        await provider.wstat("/l", StatChanges(symlink_target=target))
        info = await provider.stat("/l")
        assert (info.symlink_target, info.size) == (target, len(target.encode()))
        await provider.wstat("/l", StatChanges(name="/m"))
        assert (await provider.stat("/m")).symlink_target == target
        await provider.remove("/m")
    for target in ("", "\0", "a\0b", "\udc80", "x" * 4096):
        with pytest.raises(InvalidArgument):
            await provider.wstat("/l", StatChanges(symlink_target=target))
    for path in ("/f", "/d", "/link", "/"):
        with pytest.raises(AlreadyExists):
            await provider.wstat(path, StatChanges(symlink_target="x"))
    with pytest.raises(NotFound):
        await provider.wstat("/no/l", StatChanges(symlink_target="x"))


async def test_a_listing_is_sorted_by_bytes_and_paged(provider, root):
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
        (root / "d" / name).touch()
    wanted = sorted([*wanted, "x"], key=str.encode)
    assert await names(provider, "/d") == [f"/d/{name}" for name in wanted]
    for limit in (1, 5, 49, 57, 58):
        listed: list[str] = []
        after = ""
        while page := await names(provider, "/d", after, limit):
            assert len(page) == min(limit, len(wanted) - len(listed))
            listed += page
            after = page[-1].rpartition("/")[2]
        assert listed == [f"/d/{name}" for name in wanted]
    assert await names(provider, "/d", "\U0010ffff") == []
    assert await names(provider, "/d", "", 0) == []


async def test_listed_infos_are_what_stat_says(provider):
    """readdir and stat agree, for every type."""
    for info in await provider.readdir("/", "", 100):
        # Reading a link's text may have moved its atime.
        found = await provider.stat(info.path)
        assert replace(info, atime_ns=0) == replace(found, atime_ns=0)
    with pytest.raises(NotDirectory):
        await provider.readdir("/f", "", 1)
    with pytest.raises(NotFound):
        await provider.readdir("/no", "", 1)


async def test_what_has_no_form_for_clients_is_left_out_and_still_there(provider, root):
    """Names that are not UTF-8 and special files are not listed, and keep their directory."""
    os.mkfifo(root / "d" / "fifo")
    (root / "d" / "x").unlink()
    assert await names(provider, "/d") == []
    with pytest.raises(DirectoryNotEmpty):
        await provider.remove("/d")
    os.unlink(root / "d" / "fifo")
    os.close(os.open(os.fsencode(root) + b"/d/\xff", os.O_CREAT))
    assert await names(provider, "/d") == []
    with pytest.raises(DirectoryNotEmpty):
        await provider.remove("/d")


async def test_a_page_is_full_although_some_names_are_left_out(provider, root):
    """A short page means the end, so names without a form do not shorten one."""
    (root / "d" / "x").unlink()
    for number in range(40):
        os.mkfifo(root / "d" / f"a{number:02}")
        (root / "d" / f"b{number:02}").touch()
    assert await names(provider, "/d", "", 3) == ["/d/b00", "/d/b01", "/d/b02"]


async def test_reserved_names_are_not_for_clients(provider, root):
    """A name with our prefix is invisible and cannot be named in any call."""
    name = "/" + RESERVED_PREFIX + "x"
    (root / name[1:]).mkdir()
    assert name not in await names(provider)
    for call in (
        provider.stat(name),
        provider.open(name, CREATE),
        provider.open(name + "/f", CREATE),
        provider.remove(name),
        provider.wstat("/f", StatChanges(name=name)),
        provider.wstat(name, StatChanges(symlink_target="x")),
        provider.readdir(name, "", 1),
    ):
        with pytest.raises(InvalidArgument):
            await call


async def test_statfs_is_the_hosts(provider, root):
    """Sizes are those of the file system; free is what an unprivileged user could still take."""
    found = os.statvfs(root)
    stats = await provider.statfs("/")
    assert stats.total_bytes == found.f_blocks * found.f_frsize
    assert 0 < stats.free_bytes <= stats.total_bytes
    assert (stats.block_size, stats.max_name_len) == (found.f_frsize, 255)
    assert 0 <= stats.free_inodes <= stats.total_inodes


# -- special files ----------------------------------------------------------------------------


async def test_special_files_are_refused_without_being_opened(provider, root, monkeypatch):
    """A FIFO, a socket or a device is never really opened: no wait, no side effect."""
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        short = os.open(root, os.O_PATH)  # sun_path has 108 bytes
        server.bind(f"/proc/self/fd/{short}/socket")
        os.close(short)
    special = ["/fifo", "/socket"]
    try:
        os.mknod(root / "device", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        special.append("/device")
    except PermissionError:
        pass
    monkeypatch.setattr(jail, "reopen", lambda *_: pytest.fail("opened"))
    monkeypatch.setattr(localfile, "reopen", lambda *_: pytest.fail("opened"))
    monkeypatch.setattr(localattributes, "reopen", lambda *_: pytest.fail("opened"))
    for path in special:
        for flags in (READ, WRITE, BOTH, CREATE, REPLACE, OpenFlags()):
            with pytest.raises(InvalidArgument, match="not a regular file"):
                await provider.open(path, flags)
        for call in (
            provider.stat(path),
            provider.remove(path),
            provider.wstat(path, StatChanges(mode=0o600)),
            provider.wstat(path, StatChanges(size=0)),
            provider.wstat(path, StatChanges(name="/moved")),
        ):
            with pytest.raises(NotFound):
                await call
        with pytest.raises(InvalidArgument):
            await provider.wstat("/f", StatChanges(name=path))
        with pytest.raises(AlreadyExists):
            await provider.open(path, MKDIR)
        assert path not in await names(provider)
        assert path[1:] in os.listdir(root)


# -- open, read, write ------------------------------------------------------------------------


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
async def test_opens_that_cannot_be_done(provider, root, path, flags, error):
    """Each refusal has its kind, and nothing is changed or left open."""
    before = sorted((name, os.lstat(root / name).st_mtime_ns) for name in os.listdir(root))
    with pytest.raises(error):
        await provider.open(path, flags)
    assert before == sorted((name, os.lstat(root / name).st_mtime_ns) for name in os.listdir(root))
    assert sorted(os.listdir(root.parent)) == ["root", "secret"]


async def test_flags_are_enforced_on_use(provider):
    """A handle does what it was opened for; with no flag it can only be held."""
    for flags in (WRITE, OpenFlags(), OpenFlags(create=True), OpenFlags(append=True)):
        file, _ = await provider.open("/f", flags)
        with pytest.raises(PermissionDenied, match="file not opened for reading"):
            await provider.read(file, 0, 1)
        await provider.close(file, sync=True)
    for flags in (READ, OpenFlags(), OpenFlags(create=True)):
        file, _ = await provider.open("/f", flags)
        with pytest.raises(PermissionDenied, match="file not opened for writing"):
            await provider.write(file, 0, b"x")
        await provider.close(file)
    assert await content(provider, "/f") == b"content"


async def test_a_directory_can_be_opened_but_not_read(provider):
    """read of an open directory is IsDirectory, write is PermissionDenied, close works."""
    for flags in (
        READ,
        OpenFlags(read=True, directory=True),
        OpenFlags(read=True, create=True, directory=True),
    ):
        path = "/new" if flags.create else "/d"
        file, info = await provider.open(path, flags)
        assert info.is_dir
        with pytest.raises(IsDirectory):
            await provider.read(file, 0, 1)
        with pytest.raises(PermissionDenied):
            await provider.write(file, 0, b"x")
        assert await provider.close(file, sync=True) is None
    file, _ = await provider.open("/", READ)
    await provider.close(file, sync=True)


async def test_modes_of_new_files_do_not_depend_on_the_umask(provider, root):
    """Files are 0644 and directories 0755, whatever umask the server was started with."""
    old = os.umask(0o077)
    try:
        assert (await made(provider, "/a", CREATE)).mode == 0o644
        assert (await made(provider, "/b", MKDIR)).mode == 0o755
        info = await put(provider, "/c", b"")
        assert info.mode == 0o644
    finally:
        os.umask(old)
    assert [stat.S_IMODE(os.stat(root / name).st_mode) for name in "abc"] == [0o644, 0o755, 0o644]


async def test_writes_and_reads_are_positional(provider, root):
    """Gaps read as zeros, reads are short only at the end, appends ignore the offset."""
    file, info = await provider.open("/n", OpenFlags(read=True, write=True, create=True))
    assert (info.size, info.path) == (0, "/n")
    assert await provider.write(file, 5, b"five") == 4
    assert await provider.write(file, 0, memoryview(b"ab")) == 2
    assert await provider.write(file, 3, b"") == 0
    assert bytes(await provider.read(file, 0, 100)) == b"ab\0\0\0five"
    assert bytes(await provider.read(file, 1, 2)) == b"b\0"
    for offset in (9, 10, 1 << 40, (1 << 63) - 1, 1 << 63, 1 << 70):
        assert bytes(await provider.read(file, offset, 10)) == b""
    assert bytes(await provider.read(file, 5, 1 << 70)) == b"five"
    assert bytes(await provider.read(file, 0, 0)) == b""
    await provider.close(file)
    file, _ = await provider.open("/n", OpenFlags(write=True, append=True))
    assert await provider.write(file, 0, b"+1") == 2
    assert await provider.write(file, 1 << 80, b"+2") == 2
    await provider.close(file, sync=True)
    assert (root / "n").read_bytes() == b"ab\0\0\0five+1+2"
    file, info = await provider.open("/n", OpenFlags(write=True, truncate=True, append=True))
    assert info.size == 0
    await provider.close(file)


async def test_negative_numbers_are_refused(provider):
    """No offset or size below 0 reaches the kernel."""
    file, _ = await provider.open("/f", BOTH)
    for call in (
        provider.read(file, -1, 1),
        provider.read(file, 0, -1),
        provider.write(file, -1, b"x"),
    ):
        with pytest.raises(InvalidArgument):
            await call
    await provider.close(file)


async def test_the_size_limit_is_asked_before_the_file_system(provider, root):
    """A write, append or truncate past the limit is QuotaExceeded and changes nothing."""
    file, _ = await provider.open("/f", WRITE)
    for offset in (BYTES_MAX, BYTES_MAX - 1, 1 << 62, 1 << 63, 1 << 64, 1 << 100):
        with pytest.raises(QuotaExceeded):
            await provider.write(file, offset, b"xx")
    await provider.close(file)
    with pytest.raises(QuotaExceeded):
        await provider.wstat("/f", StatChanges(size=BYTES_MAX + 1))
    assert os.stat(root / "f").st_size == 7
    await provider.wstat("/f", StatChanges(size=BYTES_MAX))
    file, _ = await provider.open("/f", OpenFlags(write=True, append=True))
    with pytest.raises(QuotaExceeded):
        await provider.write(file, 0, b"x")
    await provider.close(file)
    assert os.stat(root / "f").st_size == BYTES_MAX


async def test_a_read_is_whole_although_only_a_part_is_cached(provider, root):
    """What RWF_NOWAIT cannot give is read in a thread: the caller sees one full read."""
    data = os.urandom(3_000_000)
    (root / "big").write_bytes(data)
    for gap in ((0, 3_000_000), (1_000_000, 500_000), (0, 1_000_000), (2_500_000, 500_000)):
        host = os.open(root / "big", os.O_RDONLY)
        os.fsync(host)
        os.posix_fadvise(host, *gap, os.POSIX_FADV_DONTNEED)
        os.close(host)
        file, _ = await provider.open("/big", READ)
        assert bytes(await provider.read(file, 0, 4_000_000)) == data
        assert bytes(await provider.read(file, 999_000, 30_000)) == data[999_000:1_029_000]
        await provider.close(file)


async def test_reads_work_where_nowait_is_not_supported(provider, root, monkeypatch):
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
    file, _ = await provider.open("/f", BOTH)
    for _ in range(3):
        assert await provider.write(file, 0, b"CON") == 3
        assert bytes(await provider.read(file, 0, 100)) == b"CONtent"
    await provider.close(file)
    assert tried.count("read") == 1
    assert tried.count("write") <= 1


async def test_what_is_cached_needs_no_thread(root, pool, monkeypatch):
    """stat, open for reading, read and close of what is in memory never leave the loop."""
    monkeypatch.setattr(jail, "_is_local", lambda fd: True)
    provider = await localfs.create({"root": str(root)}, context(root / "no", pool))
    assert await content(provider, "/d/x") == b"x"

    async def refused(call, *args, **kwargs):
        pytest.fail(f"in a thread: {call}")

    file, _ = await provider.open("/d/x", READ)
    with file.descriptor as fd:
        try:
            os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            monkeypatch.setattr(localfile, "read_cached", lambda *_: (bytearray(b"x"), 1, True))
    monkeypatch.setattr(pool, "run", refused)
    assert await content(provider, "/d/x") == b"x"
    assert (await provider.stat("/d/x")).size == 1
    assert (await provider.stat("/d")).is_dir
    await provider.close(file)
    await provider.aclose()


async def test_a_handle_follows_its_file(provider, root):
    """After a rename, a replacement and a remove the handle still has the file it opened."""
    file, _ = await provider.open("/f", BOTH)
    await provider.wstat("/f", StatChanges(name="/g"))
    await provider.write(file, 0, b"CON")
    assert await content(provider, "/g") == b"CONtent"
    await put(provider, "/g", b"new")
    assert bytes(await provider.read(file, 0, 100)) == b"CONtent"
    assert await content(provider, "/g") == b"new"
    await provider.remove("/g")
    await provider.write(file, 7, b"!")
    assert bytes(await provider.read(file, 0, 100)) == b"CONtent!"
    await provider.close(file, sync=True)


async def test_a_closed_file_is_an_invalid_handle(provider):
    """Nothing reaches a descriptor number that may belong to another file by now."""
    file, _ = await provider.open("/f", BOTH)
    await provider.close(file)
    for call in (provider.read(file, 0, 1), provider.write(file, 0, b"x"), provider.close(file)):
        with pytest.raises(InvalidHandle):
            await call


def test_a_descriptor_stays_open_for_the_calls_that_use_it(root):
    """close during a call takes effect when the call is over, and only once."""
    descriptor = Descriptor(os.open(root / "f", os.O_RDONLY))
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


async def test_a_cancelled_open_leaves_nothing_open(provider, root, monkeypatch):
    """An open whose caller was cancelled may have created the file, but holds no descriptor."""
    loop = asyncio.get_running_loop()
    started, go_on = asyncio.Event(), threading.Event()
    real = provider._tree.open

    def slow(*args):
        loop.call_soon_threadsafe(started.set)
        assert go_on.wait(30)
        return real(*args)

    monkeypatch.setattr(provider._tree, "open", slow)
    task = asyncio.create_task(provider.open("/new", CREATE))
    await started.wait()
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await content(provider, "/new") == b""


# -- replace ----------------------------------------------------------------------------------


async def test_a_replacement_is_seen_only_when_closed(provider, root):
    """Until close readers see the old file; then the new one, with its info returned."""
    file, info = await provider.open("/f", REPLACE)
    assert info.size == 0
    await provider.write(file, 0, b"new version")
    assert await content(provider, "/f") == b"content"
    assert len(await names(provider)) == 3
    swapped = await provider.close(file, sync=True)
    assert swapped == await provider.stat("/f")
    assert await content(provider, "/f") == b"new version"
    assert sorted(os.listdir(root)) == ["d", "f", "link"]


async def test_a_new_file_appears_whole(provider, root):
    """Where nothing was, nothing is seen until close."""
    file, _ = await provider.open("/new", REPLACE)
    await provider.write(file, 0, b"data")
    with pytest.raises(NotFound):
        await provider.stat("/new")
    info = await provider.close(file)
    assert (info.size, info.mode) == (4, 0o644)
    assert os.stat(root / "new").st_nlink == 1
    assert len(os.listdir(root)) == 4


async def test_a_discarded_replacement_leaves_nothing(provider, root):
    """discard, as after an aborted upload: the old version and no garbage."""
    for path in ("/f", "/new"):
        file, _ = await provider.open(path, REPLACE)
        await provider.write(file, 0, b"partial")
        assert await provider.close(file, discard=True) is None
    assert await content(provider, "/f") == b"content"
    assert sorted(os.listdir(root)) == ["d", "f", "link"]


async def test_a_replacement_keeps_mode_and_owner(provider, root):
    """The new version is the same file to chmod and chown; set-user-id is not handed on."""
    os.chown(root / "f", 12, 34)
    os.chmod(root / "f", 0o4751)
    file, staged = await provider.open("/f", REPLACE)
    assert (staged.mode, staged.uid, staged.gid) == (0o751, 12, 34)
    os.chmod(root / "f", 0o600)
    info = await provider.close(file, sync=True)
    assert (info.mode, info.uid, info.gid) == (0o600, 12, 34)


async def test_a_staged_file_can_be_read_back(provider):
    """With the read flag the handle reads its own new version."""
    file, _ = await provider.open("/f", OpenFlags(read=True, write=True, create=True, replace=True))
    await provider.write(file, 0, b"new")
    assert bytes(await provider.read(file, 0, 10)) == b"new"
    await provider.close(file, discard=True)


async def test_conditions_are_checked_at_open_and_at_close(provider, root):
    """A version that is already wrong is refused early, one that changes meanwhile late."""
    etag = (await provider.stat("/f")).etag
    for condition in (STALE, ABSENT, Condition(if_none_match=(etag,))):
        with pytest.raises(PreconditionFailed):
            await provider.open("/f", REPLACE, condition)
    for condition in (ANY, STALE):
        with pytest.raises(PreconditionFailed):
            await provider.open("/new", REPLACE, condition)
    late, _ = await provider.open("/f", REPLACE, Condition(if_match=(etag,)))
    created, _ = await provider.open("/new", REPLACE, ABSENT)
    info = await put(provider, "/f", b"2", Condition(if_match=("other", etag)))
    await put(provider, "/new", b"2", ABSENT)
    for file in (late, created):
        with pytest.raises(PreconditionFailed):
            await provider.close(file)
    assert await content(provider, "/f") == b"2"
    assert await content(provider, "/new") == b"2"
    await put(provider, "/f", b"3", Condition(if_match=(info.etag,)))
    assert sorted(os.listdir(root)) == ["d", "f", "link", "new"]


async def test_a_replacement_meets_what_came_meanwhile(provider, root):
    """At close: a directory is IsDirectory, a link or FIFO refused, nothing is NotFound."""
    flags = OpenFlags(write=True, replace=True)

    async def staged(change) -> type[Exception] | None:
        (root / "t").write_bytes(b"t")
        file, _ = await provider.open("/t", flags)
        (root / "t").unlink()
        change()
        try:
            await provider.close(file)
        except errors.Fs9Error as error:
            return type(error)
        return None

    target = root / "t"
    assert await staged(target.mkdir) is IsDirectory
    target.rmdir()
    assert await staged(lambda: target.symlink_to("/etc/passwd")) is InvalidArgument
    target.unlink()
    assert await staged(lambda: os.mkfifo(target)) is InvalidArgument
    target.unlink()
    assert await staged(lambda: None) is NotFound
    assert await staged(lambda: target.write_bytes(b"other")) is None
    exclusive = OpenFlags(write=True, create=True, exclusive=True, replace=True)
    file, _ = await provider.open("/u", exclusive)
    (root / "u").touch()
    with pytest.raises(AlreadyExists):
        await provider.close(file)
    assert not [name for name in os.listdir(root) if name.startswith(RESERVED_PREFIX)]


async def test_a_replacement_follows_its_directory(provider, root):
    """The directory may move; when it was removed the close is NotFound."""
    file, _ = await provider.open("/d/x", REPLACE)
    await provider.write(file, 0, b"new")
    await provider.wstat("/d", StatChanges(name="/e"))
    await provider.close(file, sync=True)
    assert await content(provider, "/e/x") == b"new"
    file, _ = await provider.open("/e/y", REPLACE)
    await provider.remove("/e/x")
    await provider.remove("/e")
    with pytest.raises(NotFound):
        await provider.close(file, sync=True)


async def test_a_target_that_comes_and_goes_is_tried_again(provider, root, monkeypatch):
    """Another process creates the target between our look and our link: we replace it."""
    real = os.link

    def link(source, name, **arguments):
        if name == b"new" and not (root / "new").exists():
            (root / "new").write_bytes(b"theirs")
        return real(source, name, **arguments)

    monkeypatch.setattr(os, "link", link)
    await put(provider, "/new", b"ours")
    assert (root / "new").read_bytes() == b"ours"
    assert len(os.listdir(root)) == 4


async def test_close_is_durable_when_asked(provider, monkeypatch):
    """sync: the bytes are synced before the swap, the directory after it."""
    done: list[str] = []
    real_fsync, real_link, real_rename = os.fsync, os.link, os.rename

    def fsync(fd):
        done.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        real_fsync(fd)

    def link(*args, **kwargs):
        done.append("swap")
        real_link(*args, **kwargs)

    def rename(*args, **kwargs):
        done.append("swap")
        real_rename(*args, **kwargs)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "rename", rename)
    await put(provider, "/new", b"1", sync=True)
    await put(provider, "/new", b"2", sync=True)
    assert [step for step, after in zip(done, [*done[1:], ""], strict=True) if step != after] == [
        "file",
        "swap",
        "directory",
    ] * 2
    done.clear()
    await put(provider, "/new", b"3")
    assert "file" not in done
    done.clear()
    file, _ = await provider.open("/created", CREATE)
    await provider.close(file, sync=True)
    assert done == ["file", "directory"]
    done.clear()
    file, _ = await provider.open("/made", MKDIR)
    await provider.close(file, sync=True)
    assert done == ["directory", "directory"]


# -- etags ------------------------------------------------------------------------------------


async def test_every_version_has_its_own_etag(provider):
    """Quick rewrites of one size, in place and by replacement, never share an etag."""
    seen = [(await provider.stat("/f")).etag]
    for number in range(60):
        seen.append((await put(provider, "/f", b"%07d" % number)).etag)
        file, _ = await provider.open("/f", WRITE)
        await provider.write(file, 0, b"%07d" % -number)
        await provider.close(file)
        seen.append((await provider.stat("/f")).etag)
        await provider.wstat("/f", StatChanges(size=3))
        await provider.wstat("/f", StatChanges(size=7))
        seen.append((await provider.stat("/f")).etag)
        seen.append((await made(provider, "/f", OpenFlags(write=True, truncate=True))).etag)
    assert len(set(seen)) == len(seen)


async def test_a_restored_mtime_does_not_restore_the_etag(provider):
    """mtime is the client's to set; content of one size with one mtime still differs."""
    seen = []
    for number in range(30):
        await put(provider, "/f", b"%07d" % number)
        await provider.wstat("/f", StatChanges(mtime_ns=1_000_000_000))
        info = await provider.stat("/f")
        assert info.mtime_ns // 1_000_000_000 == 1
        seen.append(info.etag)
    assert len(set(seen)) == len(seen)


async def test_a_reused_inode_does_not_reuse_the_etag(provider):
    """Remove and create at once: the kernel gives the inode number again, the etag is new."""
    seen = []
    for number in range(30):
        file, _ = await provider.open("/r", CREATE)
        await provider.write(file, 0, b"%07d" % number)
        await provider.close(file)
        seen.append((await provider.stat("/r")).etag)
        await provider.remove("/r")
    assert len(set(seen)) == len(seen)


async def test_reading_does_not_change_the_etag(provider):
    """An unchanged file keeps its etag over reads, stats and listings."""
    etag = (await provider.stat("/f")).etag
    await content(provider, "/f")
    await provider.readdir("/", "", 10)
    _, info = (opened := await provider.open("/f", BOTH))
    await provider.close(opened[0], sync=True)
    assert etag == info.etag == (await provider.stat("/f")).etag


def test_a_coarse_clock_is_noticed(root, monkeypatch):
    """The probe sees equal times; where it cannot try, it assumes the worst."""
    fd = os.open(root, os.O_RDONLY)

    class Frozen:
        st_ctime_ns = 5

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", lambda fd: Frozen)
        assert is_coarse(fd)
    os.close(fd)
    assert is_coarse(fd)


def test_the_coarse_way_keeps_versions_apart_when_the_clock_stands(root, monkeypatch):
    """With one ctime for all changes the mtime alone makes each version's stamp new."""
    ticks = Ticks(coarse=True)
    real = os.fstat

    class Frozen:
        def __init__(self, found):
            self.st_dev, self.st_ino, self.st_ctime_ns = found.st_dev, found.st_ino, 5
            self.st_atime_ns, self.st_mtime_ns = found.st_atime_ns, found.st_mtime_ns

    fd = os.open(root / "f", os.O_RDWR)
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


# -- wstat ------------------------------------------------------------------------------------


async def test_attributes_are_applied_together(provider, root):
    """Mode, owner, size and times in one call; the size does not undo the times."""
    await provider.wstat(
        "/f", StatChanges(mode=0o600, uid=1, gid=2, size=3, atime_ns=4, mtime_ns=5_000_000_000)
    )
    info = await provider.stat("/f")
    assert (info.mode, info.uid, info.gid, info.size) == (0o600, 1, 2, 3)
    assert (info.atime_ns, info.mtime_ns // 1_000_000_000) == (4, 5)
    await provider.wstat("/f", StatChanges(uid=7))
    await provider.wstat("/f", StatChanges(atime_ns=8))
    await provider.wstat("/f", StatChanges(size=5))
    info = await provider.stat("/f")
    assert (info.uid, info.gid, info.atime_ns, info.size) == (7, 2, 8, 5)
    assert info.mtime_ns > 5_000_000_000
    assert (root / "f").read_bytes() == b"con\0\0"
    await provider.wstat("/", StatChanges(mode=0o700))
    assert (await provider.stat("/")).mode == 0o700


async def test_no_mode_gives_the_servers_rights_away(provider):
    """Set-user-id is dropped; set-group-id and sticky stay on directories; type bits are cut."""
    await provider.wstat("/f", StatChanges(mode=0o107777))
    assert (await provider.stat("/f")).mode == 0o777
    await provider.wstat("/d", StatChanges(mode=0o47775))
    assert (await provider.stat("/d")).mode == 0o3775
    await provider.wstat("/d", StatChanges(mode=0o755))
    assert (await provider.stat("/d")).mode & 0o777 == 0o755


async def test_attributes_of_a_link_are_its_own(provider, root):
    """chown and utime change the link; chmod and truncate of one are refused; never the target."""
    before = os.stat(root.parent / "secret")
    await provider.wstat("/link", StatChanges(uid=3, mtime_ns=4_000_000_000))
    info = await provider.stat("/link")
    assert (info.uid, info.mtime_ns // 1_000_000_000) == (3, 4)
    with pytest.raises(NotSupported):
        await provider.wstat("/link", StatChanges(mode=0o777))
    with pytest.raises(InvalidArgument, match="symlink"):
        await provider.wstat("/link", StatChanges(size=0))
    assert os.stat(root.parent / "secret") == before


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
async def test_refused_attributes_change_nothing(provider, root, path, changes, error):
    """All values are checked before the first is applied."""
    before = {name: os.lstat(root / name) for name in ("f", "d")}
    with pytest.raises(error):
        await provider.wstat(path, changes)
    assert before == {name: os.lstat(root / name) for name in ("f", "d")}


async def test_conditions_guard_wstat_and_remove(provider, root):
    """A change of a version that is no longer current is 412 and does nothing."""
    etag = (await provider.stat("/f")).etag
    for changes in (StatChanges(mode=0), StatChanges(name="/g"), StatChanges(size=0)):
        with pytest.raises(PreconditionFailed):
            await provider.wstat("/f", changes, STALE)
    with pytest.raises(PreconditionFailed):
        await provider.wstat("/l", StatChanges(symlink_target="x"), ANY)
    with pytest.raises(PreconditionFailed):
        await provider.remove("/f", STALE)
    for flags in (READ, CREATE, OpenFlags(write=True, truncate=True)):
        with pytest.raises(PreconditionFailed):
            await provider.open("/f", flags, STALE)
    assert etag == (await provider.stat("/f")).etag
    await provider.wstat("/f", StatChanges(name="/g"), Condition(if_match=(etag,)))
    await provider.remove("/g", ANY)
    assert await names(provider) == ["/d", "/link"]


# -- rename and remove ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        ("/no", "/x", NotFound),
        ("/f", "/no/x", NotFound),
        ("/f", "/f/x", NotDirectory),
        ("/f", "/d", IsDirectory),
        ("/d", "/f", NotDirectory),
        ("/d", "/link", NotDirectory),
        ("/e", "/d", DirectoryNotEmpty),
        ("/d", "/d/x/y", InvalidArgument),
        ("/d", "/d/new", InvalidArgument),
        ("/d/x", "/d", DirectoryNotEmpty),
        ("/", "/x", PermissionDenied),
        ("/f", "/", PermissionDenied),
        ("/f", "/../x", InvalidArgument),
        ("/f", "x", InvalidArgument),
    ],
)
async def test_renames_that_cannot_be_done(provider, root, source, target, error):
    """Each refusal has its kind and leaves both ends as they were."""
    (root / "e").mkdir()
    with pytest.raises(error):
        await provider.wstat(source, StatChanges(name=target))
    assert sorted(os.listdir(root)) == ["d", "e", "f", "link"]
    assert os.listdir(root / "d") == ["x"]


async def test_renames_replace_as_posix_says(provider, root):
    """File over file or link, directory over empty directory, with all that is in it."""
    (root / "g").write_bytes(b"old")
    await provider.wstat("/f", StatChanges(name="/g"))
    assert await content(provider, "/g") == b"content"
    await provider.wstat("/g", StatChanges(name="/link"))
    assert await content(provider, "/link") == b"content"
    assert (root.parent / "secret").read_bytes() == b"secret"
    (root / "e").mkdir()
    await provider.wstat("/d", StatChanges(name="/e"))
    assert await names(provider, "/e") == ["/e/x"]
    for path in ("/e", "/link"):
        await provider.wstat(path, StatChanges(name=path))
    assert await names(provider) == ["/e", "/link"]
    with pytest.raises(NotFound):
        await provider.wstat("/no", StatChanges(name="/no"))


async def test_removes(provider, root):
    """A file, a link (not its target), an empty directory; nothing else, never the root."""
    for path, error in (
        ("/no", NotFound),
        ("/f/x", NotDirectory),
        ("/d", DirectoryNotEmpty),
        ("/", PermissionDenied),
    ):
        with pytest.raises(error):
            await provider.remove(path)
    for path in ("/link", "/f", "/d/x", "/d"):
        await provider.remove(path)
    with pytest.raises(PermissionDenied, match="root"):
        await provider.remove("/")
    assert os.listdir(root) == []
    assert (root.parent / "secret").read_bytes() == b"secret"


# -- the host's errors ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, errors.QuotaExceeded),
        (errno.EDQUOT, errors.QuotaExceeded),
        (errno.EFBIG, errors.QuotaExceeded),
        (errno.EROFS, errors.PermissionDenied),
        (errno.EACCES, errors.PermissionDenied),
        (errno.EPERM, errors.PermissionDenied),
        (errno.EMFILE, errors.Transient),
        (errno.ENFILE, errors.Transient),
        (errno.EBUSY, errors.Conflict),
        (errno.ESTALE, errors.NotFound),
        (errno.EIO, errors.Internal),
        (errno.EUCLEAN, errors.Internal),
        (None, errors.Internal),
    ],
)
def test_each_errno_has_its_kind(number, kind):
    """One table; the text has the client's path and never the host's."""
    error = failure(OSError(number, "x", "/host/path"), "/client")
    assert type(error) is kind
    assert "/client" in str(error)
    assert "/host" not in str(error)


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
def small_below(root: Path) -> Iterator[Path]:
    with mounted(root / "d") as place:
        yield place


async def test_a_full_file_system_is_a_quota(small, pool):
    """ENOSPC while writing a replacement: QuotaExceeded, the old version stays, no garbage."""
    provider = await localfs.create({"root": str(small)}, context(small / "no", pool))
    await put(provider, "/f", b"old")
    file, _ = await provider.open("/f", REPLACE)
    offset = 0

    async def fill() -> None:
        nonlocal offset
        while True:
            offset += await provider.write(file, offset, b"x" * 300_000)

    with pytest.raises(QuotaExceeded):
        await fill()
    await provider.close(file, discard=True)
    assert offset > 500_000
    assert await content(provider, "/f") == b"old"
    assert os.listdir(small) == ["f"]
    await put(provider, "/g", b"x" * 500_000)
    await provider.aclose()


async def test_what_is_mounted_below_the_root_belongs_to_it(root, small_below, pool):
    """Files of another mount work, through threads; a rename across is refused whole."""
    provider = await localfs.create({"root": str(root)}, context(root / "no", pool))
    await put(provider, "/d/m", b"mounted", sync=True)
    assert await content(provider, "/d/m") == b"mounted"
    assert (await provider.stat("/d/m")).size == 7
    with pytest.raises(InvalidArgument):
        await provider.wstat("/f", StatChanges(name="/d/f"))
    with pytest.raises(errors.Conflict):
        await provider.remove("/d")
    await provider.aclose()
