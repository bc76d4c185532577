"""Names of localfs: links, renames, removes, and the conditions on them."""

from __future__ import annotations

import os

import pytest

from fs9.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidArgument,
    IsDirectory,
    NotDirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from fs9.types import (
    READ,
    REPLACE,
    WRITE,
    Condition,
    FileType,
    OpenFlags,
    StatChanges,
)
from tests.providers.local_calls import (
    ANY,
    BOTH,
    CREATE,
    STALE,
    content,
    names,
)


async def test_a_link_is_data(local, host_root):
    """stat shows the link and its text, whatever it points to; opening it is refused."""
    info = await local.stat("/link")
    assert (info.file_type, info.size, info.symlink_target) == (FileType.SYMLINK, 9, "../secret")
    for flags in (READ, WRITE, BOTH, CREATE, REPLACE, OpenFlags()):
        with pytest.raises(InvalidArgument, match="symlink"):
            await local.open("/link", flags)
    with pytest.raises(NotDirectory):
        await local.open("/link", OpenFlags(read=True, directory=True))
    for call in (
        local.stat("/link/x"),
        local.open("/link/x", CREATE),
        local.remove("/link/x"),
        local.readdir("/link", "", 1),
        local.wstat("/f", StatChanges(name="/link/x")),
    ):
        with pytest.raises(NotDirectory):
            await call
    assert (host_root.parent / "secret").read_bytes() == b"secret"


async def test_links_with_any_text_can_be_made_and_removed(local, host_root):
    """Absolute, dangling, climbing, looping, long and odd texts are kept as they are."""
    for target in ("/etc/passwd", "../../../..", "nowhere", "l", " ", "é/\n", "x" * 4000, "/"):
        await local.wstat("/l", StatChanges(symlink_target=target))
        info = await local.stat("/l")
        assert (info.symlink_target, info.size) == (target, len(target.encode()))
        await local.wstat("/l", StatChanges(name="/m"))
        assert (await local.stat("/m")).symlink_target == target
        await local.remove("/m")
    for target in ("", "\0", "a\0b", "\udc80", "x" * 4096):
        with pytest.raises(InvalidArgument):
            await local.wstat("/l", StatChanges(symlink_target=target))
    for path in ("/f", "/d", "/link", "/"):
        with pytest.raises(AlreadyExists):
            await local.wstat(path, StatChanges(symlink_target="x"))
    with pytest.raises(NotFound):
        await local.wstat("/no/l", StatChanges(symlink_target="x"))


async def test_conditions_guard_wstat_and_remove(local, host_root):
    """A change of a version that is no longer current is 412 and does nothing."""
    etag = (await local.stat("/f")).etag
    for changes in (StatChanges(mode=0), StatChanges(name="/g"), StatChanges(size=0)):
        with pytest.raises(PreconditionFailed):
            await local.wstat("/f", changes, STALE)
    with pytest.raises(PreconditionFailed):
        await local.wstat("/l", StatChanges(symlink_target="x"), ANY)
    with pytest.raises(PreconditionFailed):
        await local.remove("/f", STALE)
    for flags in (READ, CREATE, OpenFlags(write=True, truncate=True)):
        with pytest.raises(PreconditionFailed):
            await local.open("/f", flags, STALE)
    assert etag == (await local.stat("/f")).etag
    await local.wstat("/f", StatChanges(name="/g"), Condition(if_match=(etag,)))
    await local.remove("/g", ANY)
    assert await names(local) == ["/d", "/link"]


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
async def test_renames_that_cannot_be_done(local, host_root, source, target, error):
    """Each refusal has its kind and leaves both ends as they were."""
    (host_root / "e").mkdir()
    with pytest.raises(error):
        await local.wstat(source, StatChanges(name=target))
    assert sorted(os.listdir(host_root)) == ["d", "e", "f", "link"]
    assert os.listdir(host_root / "d") == ["x"]


async def test_renames_replace_as_posix_says(local, host_root):
    """File over file or link, directory over empty directory, with all that is in it."""
    (host_root / "g").write_bytes(b"old")
    await local.wstat("/f", StatChanges(name="/g"))
    assert await content(local, "/g") == b"content"
    await local.wstat("/g", StatChanges(name="/link"))
    assert await content(local, "/link") == b"content"
    assert (host_root.parent / "secret").read_bytes() == b"secret"
    (host_root / "e").mkdir()
    await local.wstat("/d", StatChanges(name="/e"))
    assert await names(local, "/e") == ["/e/x"]
    for path in ("/e", "/link"):
        await local.wstat(path, StatChanges(name=path))
    assert await names(local) == ["/e", "/link"]
    with pytest.raises(NotFound):
        await local.wstat("/no", StatChanges(name="/no"))


async def test_removes(local, host_root):
    """A file, a link (not its target), an empty directory; nothing else, never the root."""
    for path, error in (
        ("/no", NotFound),
        ("/f/x", NotDirectory),
        ("/d", DirectoryNotEmpty),
        ("/", PermissionDenied),
    ):
        with pytest.raises(error):
            await local.remove(path)
    for path in ("/link", "/f", "/d/x", "/d"):
        await local.remove(path)
    with pytest.raises(PermissionDenied, match="root"):
        await local.remove("/")
    assert os.listdir(host_root) == []
    assert (host_root.parent / "secret").read_bytes() == b"secret"
