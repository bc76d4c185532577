"""Calls in C: what goes in is sound, what comes out is checked, and all memory is given back."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from fs9.errors import Internal, InvalidArgument
from fs9.providers.native.calls import Instance, PluginError
from fs9.providers.native.library import Library
from fs9.types import READ, FileInfo, FileType, OpenFlags, StatChanges
from tests.fix_plugins import compiled

if TYPE_CHECKING:
    from collections.abc import Iterator

_RW = OpenFlags(read=True, write=True, create=True)


@dataclass
class Counts:
    """What the plugin has counted."""

    buffers: int
    freed: int
    handles: int
    closed: int
    created: int
    destroyed: int
    messages: int


def counts(instance: Instance) -> Counts:
    handle, _ = instance.open("/counts", READ)
    try:
        return Counts(*map(int, instance.read(handle, 0, 200, "/counts").split()))
    finally:
        instance.close(handle, False, "/counts")


@pytest.fixture
def odd() -> Iterator[Instance]:
    instance = Instance(Library(compiled("odd")), b"{}")
    before = counts(instance)
    yield instance
    after = counts(instance)
    assert after.buffers - before.buffers == after.freed - before.freed
    assert after.handles - before.handles == after.closed - before.closed
    instance.destroy()


@pytest.mark.parametrize("path", ["/a\0b", "\0", "/\udc80"])
def test_what_c_would_cut_or_cannot_read_is_refused(odd: Instance, path: str) -> None:
    """A NUL and half a surrogate pair, in every text."""
    calls = (
        lambda: odd.stat(path),
        lambda: odd.wstat(path, StatChanges()),
        lambda: odd.wstat("/", StatChanges(name=path)),
        lambda: odd.wstat("/", StatChanges(symlink_target=path)),
        lambda: odd.statfs(path),
        lambda: odd.open(path, READ),
        lambda: odd.readdir(path, lambda *_: True),
        lambda: odd.remove(path),
    )
    for call in calls:
        with pytest.raises(InvalidArgument):
            call()


def test_a_config_it_refuses() -> None:
    with pytest.raises(InvalidArgument, match="odd does not accept"):
        Instance(Library(compiled("odd")), b'{"mode": "refuse"}')
    with pytest.raises(InvalidArgument, match="NUL"):
        Instance(Library(compiled("odd")), b"\0")


def test_texts_of_errors(odd: Instance) -> None:
    """Without one, with one, and with one that is not UTF-8."""
    for path, code, message in (
        ("/code-9", -9, ""),
        ("/text-1", -1, "because"),
        ("/positive", 77, ""),
        ("/latin1", -2, "caf\ufffd"),
    ):
        with pytest.raises(PluginError) as caught:
            odd.stat(path)
        assert (caught.value.code, caught.value.message) == (code, message)


@pytest.mark.parametrize("path", ["/verbose", "/liar"])
def test_texts_of_errors_have_an_end(odd: Instance, path: str) -> None:
    if path == "/liar":
        with pytest.raises(Internal, match="gave a text of 18446744073709551615 bytes"):
            odd.stat(path)
        return
    with pytest.raises(PluginError) as caught:
        odd.stat(path)
    assert caught.value.message == "x" * 4096


def test_an_entry_with_an_absurd_length_is_not_looked_at(odd: Instance) -> None:
    with pytest.raises(Internal, match="an entry of 18446744073709551615 bytes"):
        odd.readdir("/far", lambda name, info: True)


def test_odd_infos_are_brought_into_bounds(odd: Instance) -> None:
    """Negative times stay, absurd ones are cut; unknown kinds are regular files."""
    info = odd.stat("/old")
    assert (info.mtime_ns, info.mode) == (-5_000_000_000, 0o7777)
    assert info.file_type is FileType.REGULAR
    assert 2**62 < info.atime_ns < 2**63


def test_every_buffer_is_freed_once(odd: Instance) -> None:
    """Full ones, empty ones with memory, borrowed ones, too long ones. The fixture counts."""
    handle, _ = odd.open("/f", _RW)
    odd.write(handle, 0, b"content", "/f")
    assert odd.read(handle, 0, 100, "/f") == b"content"
    assert odd.read(handle, 99, 100, "/f") == b""
    odd.close(handle, False, "/f")
    long, _ = odd.open("/long", READ)
    with pytest.raises(Internal, match="13 bytes of at most 5"):
        odd.read(long, 0, 5, "/long")
    with pytest.raises(Internal, match="wrote 4 bytes of 3"):
        odd.write(long, 0, b"abc", "/long")
    odd.close(long, False, "/long")
    const, _ = odd.open("/const", READ)
    assert odd.read(const, 0, 5, "/const") == b""
    odd.close(const, False, "/const")


def test_the_first_handle_may_be_any_number(odd: Instance) -> None:
    """0 and the largest one are handles like others; what is unknown is the plugin's -8."""
    assert odd.open("/counts", READ)[0] == 0
    assert odd.open("/long", READ)[0] == 2**64 - 1
    odd.close(0, False, "/counts")
    odd.close(2**64 - 1, False, "/long")
    with pytest.raises(PluginError) as caught:
        odd.read(12345, 0, 1, "/f")
    assert caught.value.code == -8


def test_a_listing_can_be_stopped_and_may_raise(odd: Instance) -> None:
    """Whatever the callback does, it does not go through C."""
    seen: list[bytes] = []

    def each(name: bytes, _: FileInfo) -> bool:
        seen.append(name)
        return len(seen) < 4

    odd.readdir("/odd", each)
    assert seen == [b".", b"..", b".", b"bad\xff"]

    def fails(name: bytes, _: FileInfo) -> bool:
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        odd.readdir("/odd", fails)


def test_an_instance_is_destroyed_after_its_last_call() -> None:
    """`destroy` waits for a call that is inside, and later ones are refused."""
    instance = Instance(Library(compiled("odd")), b"{}")
    inside = threading.Thread(target=instance.stat, args=("/",))
    with instance:  # as a call does
        ending = threading.Thread(target=instance.destroy)
        ending.start()
        inside.start()
        inside.join()
        assert ending.is_alive()
    ending.join(10)
    assert not ending.is_alive()
    with pytest.raises(Internal, match="destroyed"):
        instance.stat("/")
