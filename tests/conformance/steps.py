"""Small steps that the tests of the conformance suite are written in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.errors import NotFound
from fs9.types import MKDIR, READ, Capability, OpenFlags, StatChanges

if TYPE_CHECKING:
    from tests.conformance.driver import Driver

RW_CREATE = OpenFlags(read=True, write=True, create=True)
OVERWRITE = OpenFlags(read=True, write=True, create=True, truncate=True)
APPEND = OpenFlags(write=True, append=True)
SECOND_NS = 1_000_000_000


async def make_file(driver: Driver, path: str, content: bytes = b"") -> None:
    handle, _ = await driver.open(path, OVERWRITE)
    if content:
        assert await driver.write(handle, 0, content) == len(content)
    await driver.close(handle)


async def make_directory(driver: Driver, path: str) -> None:
    handle, info = await driver.open(path, MKDIR)
    assert info.is_dir
    await driver.close(handle)


async def make_link(driver: Driver, path: str, target: str) -> None:
    await driver.wstat(path, StatChanges(symlink_target=target))


async def rename(driver: Driver, path: str, target: str) -> None:
    await driver.wstat(path, StatChanges(name=target))


async def content_of(driver: Driver, path: str) -> bytes:
    handle, info = await driver.open(path, READ)
    try:
        return bytes(await driver.read(handle, 0, info.size + 1))
    finally:
        await driver.close(handle)


async def names_in(driver: Driver, path: str) -> list[str]:
    return [info.path.rpartition("/")[2] for info in await driver.readdir(path)]


async def exists(driver: Driver, path: str) -> bool:
    try:
        await driver.stat(path)
    except NotFound:
        return False
    return True


def needs(driver: Driver, feature: str) -> None:
    if feature not in driver.features:
        pytest.skip(f"this way to the provider has no {feature}")


async def needs_links(driver: Driver) -> None:
    if not await driver.capabilities() & Capability.SYMLINK:
        pytest.skip("no symbolic links")
