"""hellofs: the greeting, and honest answers to what it cannot do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.errors import (
    AlreadyExists,
    InvalidArgument,
    NotDirectory,
    NotSupported,
    PermissionDenied,
    QuotaExceeded,
)
from fs9.providers import hellofs
from fs9.providers.hellofs import HelloFs
from fs9.providers.registry import ProviderContext
from fs9.types import MKDIR, READ, REPLACE, WRITE, OpenFlags, StatChanges

if TYPE_CHECKING:
    from fs9.clock import ManualClock

CREATE = OpenFlags(read=True, write=True, create=True)


@pytest.fixture
def provider(clock: ManualClock) -> HelloFs:
    return HelloFs("Hi", clock)


async def test_the_greeting(provider: HelloFs):
    """/hello has the configured text and a newline, and may only be read."""
    info = await provider.stat("/hello")
    assert (info.size, info.mode) == (3, 0o444)
    opened, _ = await provider.open("/hello", READ)
    assert await provider.read(opened, 0, 99) == b"Hi\n"
    assert await provider.read(opened, 1, 1) == b"i"


async def test_the_greeting_cannot_be_changed(provider: HelloFs):
    for flags in (WRITE, CREATE, REPLACE):
        with pytest.raises(PermissionDenied, match="/hello"):
            await provider.open("/hello", flags)
    with pytest.raises(PermissionDenied):
        await provider.remove("/hello")
    opened, _ = await provider.open("/hello", OpenFlags(read=True, create=True))
    assert await provider.read(opened, 0, 99) == b"Hi\n"


async def test_the_default_and_other_settings(clock: ManualClock, limits, pool, tmp_path):
    """`greeting` is the only setting; a wrong name or type fails the mount and says which."""
    context = ProviderContext("acme", tmp_path, limits, clock, pool)
    made = await hellofs.create({}, context)
    assert (await made.stat("/hello")).size == len("Hello, World!\n")
    made = await hellofs.create({"greeting": "Grüß Gott"}, context)
    assert (await made.stat("/hello")).size == len("Grüß Gott\n".encode())
    with pytest.raises(InvalidArgument, match="'greting'; did you mean 'greeting'"):
        await hellofs.create({"greting": "x"}, context)
    with pytest.raises(InvalidArgument, match="greeting"):
        await hellofs.create({"greeting": 1}, context)


async def test_there_are_no_directories_to_make(provider: HelloFs):
    with pytest.raises(NotSupported, match="directories"):
        await provider.open("/d", MKDIR)
    with pytest.raises(AlreadyExists):
        await provider.open("/hello", MKDIR)
    with pytest.raises(NotDirectory):
        await provider.stat("/hello/x")
    with pytest.raises(NotSupported):
        await provider.wstat("/hello", StatChanges(mode=0))


async def test_it_is_bounded(provider: HelloFs, monkeypatch: pytest.MonkeyPatch):
    """All bytes together, and the number of files; the accounts are honest."""
    monkeypatch.setattr(hellofs, "_TOTAL_BYTES", 100)
    monkeypatch.setattr(hellofs, "_FILES_MAX", 2)
    opened, _ = await provider.open("/f", CREATE)
    with pytest.raises(QuotaExceeded):
        await provider.write(opened, 2**62, b"x")
    with pytest.raises(QuotaExceeded):
        await provider.write(opened, 0, b"x" * 98)
    assert await provider.write(opened, 0, b"x" * 97) == 97
    assert (await provider.statfs("/")).free_bytes == 0
    with pytest.raises(QuotaExceeded):
        await provider.open("/g", CREATE)


async def test_a_replacement_that_grows_is_bounded_too(
    provider: HelloFs, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hellofs, "_TOTAL_BYTES", 100)
    opened, _ = await provider.open("/f", REPLACE)
    await provider.write(opened, 0, b"x" * 50)
    with pytest.raises(QuotaExceeded):
        await provider.write(opened, 50, b"x" * 48)
