"""fs9.vfs.vfs, through a session: what mounts add to the tree, and short writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.errors import (
    AlreadyExists,
    BackendUnavailable,
    DirectoryNotEmpty,
    Internal,
    InvalidArgument,
    IsDirectory,
    NotFound,
    NotSupported,
    PermissionDenied,
)
from fs9.principal import Principal
from fs9.providers.hellofs import HelloFs
from fs9.providers.memfs import MemFs
from fs9.types import MKDIR, READ, Buffer, Capability, FileInfo, OpenFlags, StatChanges

if TYPE_CHECKING:
    from fs9.clock import ManualClock
    from fs9.limits import Limits
    from fs9.provider import OpenFile
    from fs9.vfs.session import Session

CREATE = OpenFlags(read=True, write=True, create=True)


@pytest.fixture
def session(make_namespace, clock: ManualClock, limits: Limits) -> Session:
    """memfs at / and at /m/deep/er, hellofs at /hi."""
    mounts = {
        "/": MemFs(limits, clock),
        "/m/deep/er": MemFs(limits, clock),
        "/hi": HelloFs("Hi", clock),
    }
    return make_namespace(mounts).attach(Principal("alice", "acme"))


async def put(session: Session, path: str, content: bytes = b"") -> None:
    handle_id, _ = await session.open(path, CREATE)
    await session.write(handle_id, 0, content)
    await session.close(handle_id)


async def mkdir(session: Session, path: str) -> None:
    handle_id, _ = await session.open(path, MKDIR)
    await session.close(handle_id)


async def names(session: Session, path: str, **page) -> list[str]:
    return [info.path for info in await session.readdir(path, **page)]


async def rename(session: Session, path: str, target: str) -> None:
    await session.wstat(path, StatChanges(name=target))


async def test_mount_points_and_the_way_to_them_are_listed(session: Session):
    """They appear among the provider's own entries, in order, each once."""
    await put(session, "/a")
    await put(session, "/z")
    await mkdir(session, "/n")
    assert await names(session, "/") == ["/a", "/hi", "/m", "/n", "/z"]
    assert await names(session, "/m") == ["/m/deep"]
    assert await names(session, "/m/deep") == ["/m/deep/er"]
    assert await names(session, "/hi") == ["/hi/hello"]


async def test_listing_with_mount_points_in_pages(session: Session):
    """Pages of every size, joined, are the listing with the mount points."""
    for name in ("a", "h", "hj", "l", "n"):
        await put(session, "/" + name)
    whole = await names(session, "/")
    assert whole == ["/a", "/h", "/hi", "/hj", "/l", "/m", "/n"]
    for limit in range(1, 9):
        joined: list[str] = []
        while page := await names(
            session, "/", after=joined[-1][1:] if joined else "", limit=limit
        ):
            assert len(page) <= limit
            joined += page
        assert joined == whole


async def test_synthetic_directories_have_a_stat(session: Session):
    """A directory that only leads to a mount point is read-only and has the path asked for."""
    info = await session.stat("/m/deep/")
    assert (info.path, info.is_dir, info.mode, info.size) == ("/m/deep", True, 0o555, 0)
    assert info.mtime_ns == 1_700_000_000_000_000_000
    assert (await session.stat("/m/deep/er")).mode == 0o755
    handle_id, info = await session.open("/m", READ)
    assert info.is_dir
    with pytest.raises(IsDirectory):
        await session.read(handle_id, 0, 1)
    await session.close(handle_id)
    assert (await session.statfs("/m/deep")).total_bytes > 0


async def test_a_real_directory_wins_over_a_synthetic_one(session: Session):
    """What the provider below has is shown, with the mount points added."""
    with pytest.raises(AlreadyExists):
        await session.open("/m", MKDIR)
    provider = session.namespace.vfs.mounts.find("/").provider
    await provider.open("/m", MKDIR)
    await provider.open("/m/own", CREATE)
    assert (await session.stat("/m")).mode == 0o755
    assert await names(session, "/m") == ["/m/deep", "/m/own"]
    with pytest.raises(DirectoryNotEmpty):
        await session.remove("/m")


async def test_nothing_is_made_in_a_synthetic_directory(session: Session):
    """The error tells why, and the tree stays as it was."""
    with pytest.raises(PermissionDenied, match="only mount points in /m/deep"):
        await session.open("/m/deep/new", CREATE)
    with pytest.raises(PermissionDenied, match="only mount points"):
        await session.wstat("/m/new", StatChanges(symlink_target="x"))
    with pytest.raises(PermissionDenied, match="only mount points"):
        await session.wstat("/m", StatChanges(mode=0o700))
    await put(session, "/f")
    with pytest.raises(PermissionDenied, match="only mount points"):
        await rename(session, "/f", "/m/f")
    for flags in (CREATE, OpenFlags(write=True)):
        with pytest.raises(IsDirectory):
            await session.open("/m", flags)
    with pytest.raises(AlreadyExists):
        await session.open("/m", OpenFlags(write=True, create=True, exclusive=True))
    with pytest.raises(NotFound):
        await session.open("/m/new", READ)


async def test_a_mount_covers_what_is_below_it(session: Session):
    """A file of the provider at / under a mount point's path is not reachable, nor listed twice."""
    await session.namespace.vfs.mounts.find("/").provider.open("/hi", CREATE)
    assert await names(session, "/") == ["/hi", "/m"]
    assert (await session.stat("/hi")).is_dir


async def test_mount_points_stay(session: Session):
    """Neither they nor the directories above can be removed, renamed or replaced."""
    await put(session, "/f")
    await mkdir(session, "/d")
    for path in ("/hi", "/m/deep/er"):
        with pytest.raises(PermissionDenied, match=f"cannot remove mount point {path}"):
            await session.remove(path)
        with pytest.raises(PermissionDenied, match=f"cannot replace mount point {path}"):
            await rename(session, "/f", path)
    with pytest.raises(PermissionDenied, match="cannot rename mount point /m/deep/er"):
        await rename(session, "/m/deep/er", "/new")
    for path in ("/m", "/m/deep"):
        with pytest.raises(DirectoryNotEmpty):
            await session.remove(path)
        with pytest.raises(PermissionDenied, match="mount point below"):
            await rename(session, path, "/new")
        with pytest.raises(PermissionDenied, match="mount point below"):
            await rename(session, "/d", path)
    with pytest.raises(PermissionDenied, match="cannot remove root"):
        await session.remove("/")
    with pytest.raises(PermissionDenied, match="cannot rename root"):
        await rename(session, "/", "/x")
    with pytest.raises(AlreadyExists):
        await session.wstat("/m/deep/er", StatChanges(symlink_target="x"))


async def test_nothing_is_renamed_across_mount_points(session: Session):
    """Not even between two mounts of one kind; within one it works with its own paths."""
    await put(session, "/m/deep/er/f", b"x")
    for path, target in (("/m/deep/er/f", "/f"), ("/f", "/m/deep/er/f"), ("/f", "/hi/f")):
        with pytest.raises(InvalidArgument, match="cannot rename across mount points"):
            await rename(session, path, target)
    await rename(session, "/m/deep/er/f", "/m/deep/er/g")
    assert await names(session, "/m/deep/er") == ["/m/deep/er/g"]


async def test_capabilities_are_asked_before_anything_is_looked_up(session: Session):
    for changes, text in (
        (StatChanges(mode=0), "chmod"),
        (StatChanges(name="/x"), "rename"),
        (StatChanges(symlink_target="x"), "symlink"),
    ):
        with pytest.raises(NotSupported, match=f"^not implemented: {text}$"):
            await session.wstat("/hi/missing", changes)


async def test_errors_keep_the_providers_path(session: Session):
    with pytest.raises(NotFound, match=r"^not found: /missing$"):
        await session.stat("/m/deep/er/missing")
    with pytest.raises(NotFound, match=r"^not found: /missing$"):
        await session.stat("/missing")


async def test_results_have_the_namespace_path(session: Session):
    """stat, open and readdir give clean namespace paths, however they were asked."""
    path = "/m/deep/er/f"
    await put(session, path)
    assert (await session.stat("m//deep/./er/x/../f/")).path == path
    handle_id, info = await session.open("/m/deep/er//f", READ)
    await session.close(handle_id)
    assert info.path == path
    assert await names(session, "/m/deep/er/") == [path]


async def test_a_namespace_without_a_root_mount(make_namespace, memfs: MemFs):
    """Its root is a synthetic directory; elsewhere nothing is found."""
    session = make_namespace({"/a/b": memfs}).attach(Principal("alice", "acme"))
    assert await names(session, "/") == ["/a"]
    assert (await session.stat("/")).is_dir
    assert await session.statfs("/") is not None
    for path in ("/x", "/x/y"):
        with pytest.raises(NotFound, match=f"not found: {path}"):
            await session.stat(path)
        with pytest.raises(NotFound):
            await session.readdir(path)
        with pytest.raises(NotFound):
            await session.remove(path)
    with pytest.raises(PermissionDenied, match="only mount points in /"):
        await session.open("/x", CREATE)
    with pytest.raises(NotFound):
        session.capabilities("/x")


async def test_a_namespace_without_mounts_finds_nothing(make_namespace):
    session = make_namespace({}).attach(Principal("alice", "acme"))
    for path in ("/", "/x"):
        with pytest.raises(NotFound, match=f"not found: {path}"):
            await session.stat(path)
        with pytest.raises(NotFound):
            await session.readdir(path)
    with pytest.raises(NotFound):
        await session.open("/x", CREATE)


class Failing(MemFs):
    """A memfs whose backend is away."""

    async def stat(self, path: str) -> FileInfo:
        raise BackendUnavailable("away")


async def test_a_mount_that_is_down_does_not_hide_the_others(
    make_namespace, memfs: MemFs, clock: ManualClock, limits: Limits
):
    """Its mount point is listed all the same; only looking into it fails."""
    session = make_namespace({"/": memfs, "/down": Failing(limits, clock)}).attach(
        Principal("alice", "acme")
    )
    await put(session, "/f")
    assert await names(session, "/") == ["/down", "/f"]
    with pytest.raises(BackendUnavailable):
        await session.stat("/down")


class Short(MemFs):
    """A memfs that writes at most three bytes at a time, or nothing."""

    most = 3

    def __init__(self, limits: Limits, clock: ManualClock) -> None:
        super().__init__(limits, clock)
        self.writes: list[bytes] = []

    async def write(self, file: OpenFile, offset: int, data: Buffer) -> int:
        self.writes.append(bytes(data))
        return await super().write(file, offset, memoryview(data)[: self.most])


async def test_short_writes_are_continued(make_namespace, clock: ManualClock, limits: Limits):
    """All bytes arrive, each at its place, or the write is an error."""
    provider = Short(limits, clock)
    session = make_namespace({"/": provider}).attach(Principal("alice", "acme"))
    handle_id, _ = await session.open("/f", CREATE)
    assert await session.write(handle_id, 2, b"abcdefgh") == 8
    assert await session.read(handle_id, 0, 20) == b"\0\0abcdefgh"
    provider.most = 0
    with pytest.raises(Internal):
        await session.write(handle_id, 0, b"x")


async def test_a_message_is_written_in_one_piece(
    make_namespace, clock: ManualClock, limits: Limits
):
    """Where a write is a message the provider's count is passed on and nothing is repeated."""

    class Messages(Short):
        def capabilities(self) -> Capability:
            return super().capabilities() | Capability.STREAMING

    provider = Messages(limits, clock)
    session = make_namespace({"/": provider}).attach(Principal("alice", "acme"))
    handle_id, _ = await session.open("/f", CREATE)
    assert await session.write(handle_id, 0, b"hello\n") == 3
    assert provider.writes == [b"hello\n"]


async def test_a_mount_can_be_added_and_taken_away(session: Session, memfs: MemFs):
    """Replacing the table shows at once; open files of a detached mount go on working."""
    from fs9.vfs.mounts import Mount

    vfs = session.namespace.vfs
    vfs.mounts = vfs.mounts.with_mount(Mount.of("/later", memfs))
    await put(session, "/later/f", b"x")
    handle_id, _ = await session.open("/later/f", READ)
    vfs.mounts = vfs.mounts.without("/later")
    with pytest.raises(NotFound):
        await session.stat("/later/f")
    assert await session.read(handle_id, 0, 9) == b"x"
    await session.close(handle_id)
