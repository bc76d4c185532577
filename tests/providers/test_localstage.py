"""Write aside and swap: what readers, conditions and other processes see of a replacement."""

from __future__ import annotations

import os
import stat

import msgspec
import pytest

from fs9 import errors
from fs9.errors import (
    AlreadyExists,
    InvalidArgument,
    IsDirectory,
    NotFound,
    PreconditionFailed,
)
from fs9.providers.jail import RESERVED_PREFIX
from fs9.types import (
    MKDIR,
    REPLACE,
    Condition,
    OpenFlags,
    StatChanges,
)
from tests.providers.local_calls import (
    ABSENT,
    ANY,
    CREATE,
    STALE,
    content,
    names,
    put,
)


async def test_a_replacement_is_seen_only_when_closed(local, host_root):
    """Until close readers see the old file; then the new one, with its info returned."""
    file, info = await local.open("/f", REPLACE)
    assert info.size == 0
    await local.write(file, 0, b"new version")
    assert await content(local, "/f") == b"content"
    assert len(await names(local)) == 3
    swapped = await local.close(file, sync=True)
    assert msgspec.structs.replace(swapped, file_id="") == await local.stat("/f")
    assert await content(local, "/f") == b"new version"
    assert sorted(os.listdir(host_root)) == ["d", "f", "link"]


async def test_a_new_file_appears_whole(local, host_root):
    """Where nothing was, nothing is seen until close."""
    file, _ = await local.open("/new", REPLACE)
    await local.write(file, 0, b"data")
    with pytest.raises(NotFound):
        await local.stat("/new")
    info = await local.close(file)
    assert (info.size, info.mode) == (4, 0o644)
    assert os.stat(host_root / "new").st_nlink == 1
    assert len(os.listdir(host_root)) == 4


async def test_a_discarded_replacement_leaves_nothing(local, host_root):
    """discard, as after an aborted upload: the old version and no garbage."""
    for path in ("/f", "/new"):
        file, _ = await local.open(path, REPLACE)
        await local.write(file, 0, b"partial")
        assert await local.close(file, discard=True) is None
    assert await content(local, "/f") == b"content"
    assert sorted(os.listdir(host_root)) == ["d", "f", "link"]


async def test_a_replacement_keeps_mode_and_owner(local, host_root):
    """The new version is the same file to chmod and chown; set-user-id is not handed on."""
    os.chown(host_root / "f", 12, 34)
    os.chmod(host_root / "f", 0o4751)
    file, staged = await local.open("/f", REPLACE)
    assert (staged.mode, staged.uid, staged.gid) == (0o751, 12, 34)
    os.chmod(host_root / "f", 0o600)
    info = await local.close(file, sync=True)
    assert (info.mode, info.uid, info.gid) == (0o600, 12, 34)


async def test_a_staged_file_can_be_read_back(local):
    """With the read flag the handle reads its own new version."""
    file, _ = await local.open("/f", OpenFlags(read=True, write=True, create=True, replace=True))
    await local.write(file, 0, b"new")
    assert bytes(await local.read(file, 0, 10)) == b"new"
    await local.close(file, discard=True)


async def test_conditions_are_checked_at_open_and_at_close(local, host_root):
    """A version that is already wrong is refused early, one that changes meanwhile late."""
    etag = (await local.stat("/f")).etag
    for condition in (STALE, ABSENT, Condition(if_none_match=(etag,))):
        with pytest.raises(PreconditionFailed):
            await local.open("/f", REPLACE, condition)
    for condition in (ANY, STALE):
        with pytest.raises(PreconditionFailed):
            await local.open("/new", REPLACE, condition)
    late, _ = await local.open("/f", REPLACE, Condition(if_match=(etag,)))
    created, _ = await local.open("/new", REPLACE, ABSENT)
    info = await put(local, "/f", b"2", Condition(if_match=("other", etag)))
    await put(local, "/new", b"2", ABSENT)
    for file in (late, created):
        with pytest.raises(PreconditionFailed):
            await local.close(file)
    assert await content(local, "/f") == b"2"
    assert await content(local, "/new") == b"2"
    await put(local, "/f", b"3", Condition(if_match=(info.etag,)))
    assert sorted(os.listdir(host_root)) == ["d", "f", "link", "new"]


async def test_a_replacement_meets_what_came_meanwhile(local, host_root):
    """At close: a directory is IsDirectory, a link or FIFO refused, nothing is NotFound."""
    flags = OpenFlags(write=True, replace=True)

    async def staged(change) -> type[Exception] | None:
        (host_root / "t").write_bytes(b"t")
        file, _ = await local.open("/t", flags)
        (host_root / "t").unlink()
        change()
        try:
            await local.close(file)
        except errors.Fs9Error as error:
            return type(error)
        return None

    target = host_root / "t"
    assert await staged(target.mkdir) is IsDirectory
    target.rmdir()
    assert await staged(lambda: target.symlink_to("/etc/passwd")) is InvalidArgument
    target.unlink()
    assert await staged(lambda: os.mkfifo(target)) is InvalidArgument
    target.unlink()
    assert await staged(lambda: None) is NotFound
    assert await staged(lambda: target.write_bytes(b"other")) is None
    exclusive = OpenFlags(write=True, create=True, exclusive=True, replace=True)
    file, _ = await local.open("/u", exclusive)
    (host_root / "u").touch()
    with pytest.raises(AlreadyExists):
        await local.close(file)
    assert not [name for name in os.listdir(host_root) if name.startswith(RESERVED_PREFIX)]


async def test_a_replacement_follows_its_directory(local, host_root):
    """The directory may move; when it was removed the close is NotFound."""
    file, _ = await local.open("/d/x", REPLACE)
    await local.write(file, 0, b"new")
    await local.wstat("/d", StatChanges(name="/e"))
    await local.close(file, sync=True)
    assert await content(local, "/e/x") == b"new"
    file, _ = await local.open("/e/y", REPLACE)
    await local.remove("/e/x")
    await local.remove("/e")
    with pytest.raises(NotFound):
        await local.close(file, sync=True)


async def test_a_target_that_comes_and_goes_is_tried_again(local, host_root, monkeypatch):
    """Another process creates the target between our look and our link: we replace it."""
    real = os.link

    def link(source, name, **arguments):
        if name == b"new" and not (host_root / "new").exists():
            (host_root / "new").write_bytes(b"theirs")
        return real(source, name, **arguments)

    monkeypatch.setattr(os, "link", link)
    await put(local, "/new", b"ours")
    assert (host_root / "new").read_bytes() == b"ours"
    assert len(os.listdir(host_root)) == 4


async def test_close_is_durable_when_asked(local, monkeypatch):
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
    await put(local, "/new", b"1", sync=True)
    await put(local, "/new", b"2", sync=True)
    assert [step for step, after in zip(done, [*done[1:], ""], strict=True) if step != after] == [
        "file",
        "swap",
        "directory",
    ] * 2
    done.clear()
    await put(local, "/new", b"3")
    assert "file" not in done
    done.clear()
    file, _ = await local.open("/created", CREATE)
    await local.close(file, sync=True)
    assert done == ["file", "directory"]
    done.clear()
    file, _ = await local.open("/made", MKDIR)
    await local.close(file, sync=True)
    assert done == ["directory", "directory"]
