"""Which plugins there are, in every worker alike, and none by accident."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from fs9.errors import (
    AlreadyExists,
    BackendUnavailable,
    Conflict,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from fs9.providers import builtin
from fs9.providers.native.manager import PluginManager
from fs9.resources import Resources
from fs9.types import MountSpec, PluginSpec
from tests.fix_plugins import compiled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.limits import Limits
    from fs9.providers.registry import Registry
    from fs9.threads import BlockingPool


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A directory with one plugin, and with much that is none."""
    directory = tmp_path / "plugins"
    (directory / "deeper.so").mkdir(parents=True)
    (directory / "libanything.so").write_bytes(compiled("memory").read_bytes())
    os.symlink(compiled("odd"), directory / "deeper.so" / "libodd.so")
    (directory / "text.so").write_text("no library")
    (directory / "README").write_text("no plugin")
    return directory


@pytest.fixture
def worker(
    tmp_path: Path, plugins: Path, limits: Limits, clock: ManualClock, pool: BlockingPool
) -> Callable[..., tuple[PluginManager, Registry]]:
    """Makes what a worker has; all of them have one data directory."""

    def make(
        *preload: PluginSpec, directories: tuple[Path, ...] = (plugins,)
    ) -> tuple[PluginManager, Registry]:
        registry = builtin.registry()
        manager = PluginManager(
            directories,
            preload,
            taken=registry.names(),
            resources=Resources(tmp_path / "data", limits, clock, pool),
        )
        registry.use(manager)
        return manager, registry

    return make


@pytest.fixture
def mount(tmp_path: Path, limits: Limits, clock: ManualClock, pool: BlockingPool):
    async def make(registry: Registry, name: str):
        return await registry.create(
            MountSpec("/", name, {"isolation": "inline"}),
            Resources(tmp_path / "data", limits, clock, pool),
            namespace="acme",
        )

    return make


async def test_a_directory_gives_its_plugins_by_their_own_names(worker, mount) -> None:
    """Not what is no plugin, not what lies deeper."""
    manager, registry = worker()
    await manager.check()
    assert await manager.names() == ["memory"]
    assert "memory" in await registry.all_names()
    made = await mount(registry, "memory")
    assert (made.name, (await made.stat("/")).is_dir) == ("memory", True)
    await made.aclose()
    with pytest.raises(NotFound, match="provider memry; did you mean 'memory'"):
        await mount(registry, "memry")


async def test_by_default_there_is_none(worker, mount, plugins, monkeypatch) -> None:
    """Whatever lies in the working directory."""
    monkeypatch.chdir(plugins.parent)
    manager, registry = worker(directories=())
    assert await manager.names() == []
    with pytest.raises(NotFound):
        await mount(registry, "memory")
    with pytest.raises(PermissionDenied):
        await manager.load("memory", "plugins/libanything.so")


async def test_a_file_that_comes_later_is_found(worker, plugins) -> None:
    manager, _ = worker()
    assert await manager.names() == ["memory"]
    os.symlink(compiled("odd"), plugins / "late.so")
    assert await manager.names() == ["memory", "odd"]


async def test_plugins_of_the_settings_have_the_name_of_the_settings(worker, mount) -> None:
    manager, registry = worker(PluginSpec("scratch", compiled("memory")), directories=())
    await manager.check()
    made = await mount(registry, "scratch")
    assert made.name == "scratch"
    await made.aclose()


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (PluginSpec("memfs", compiled("memory")), AlreadyExists),
        (PluginSpec("a/b", compiled("memory")), InvalidArgument),
        (PluginSpec("memory", compiled("memory").with_name("missing.so")), InvalidArgument),
        (PluginSpec("crash", compiled("odd", "CRASH_ON_LOAD")), InvalidArgument),
    ],
)
async def test_settings_that_cannot_be_used_are_told(worker, spec, kind) -> None:
    """Also a library that crashes when it is opened; the server lives on."""
    manager, _ = worker(spec, directories=())
    with pytest.raises(kind):
        await manager.check()


async def test_a_directory_that_is_not_there_is_told(worker, tmp_path) -> None:
    manager, _ = worker(directories=(tmp_path / "gone",))
    with pytest.raises(BackendUnavailable, match="gone"):
        await manager.check()


async def test_what_one_worker_loads_all_know(worker, mount) -> None:
    """Also one that starts later; and what one unloads nobody knows any more."""
    manager, _ = worker()
    other, registry = worker()
    assert await other.names() == ["memory"]
    await manager.load("scratch", "libanything.so")
    assert await other.names() == ["memory", "scratch"]
    await (await mount(registry, "scratch")).aclose()
    assert await worker()[0].names() == ["memory", "scratch"]
    await other.unload("scratch")
    assert await manager.names() == ["memory"]
    await other.unload("memory")  # of the directory: it stays unloaded
    assert await manager.names() == []
    await manager.load("memory", "libanything.so")
    assert await other.names() == ["memory"]


async def test_only_what_is_unused_is_unloaded(worker, mount) -> None:
    """Used in whatever worker."""
    manager, _ = worker()
    _, registry = worker()
    made = await mount(registry, "memory")
    with pytest.raises(Conflict, match="memory is in use"):
        await manager.unload("memory")
    await made.aclose()
    await manager.unload("memory")
    with pytest.raises(NotFound):
        await mount(registry, "memory")
    with pytest.raises(NotFound):
        await manager.unload("memory")


@pytest.mark.parametrize(
    ("name", "path", "kind"),
    [
        ("x", "missing.so", NotFound),
        ("x", "text.so", InvalidArgument),
        ("x", "README", InvalidArgument),
        ("x", "deeper.so", NotFound),
        ("x", "", InvalidArgument),
        ("x", "libanything.so\0", InvalidArgument),
        ("x", "../secret.so", PermissionDenied),
        ("x", "/etc/passwd", PermissionDenied),
        ("x", "link.so", PermissionDenied),
        ("memory", "libreal.so", AlreadyExists),
        ("localfs", "libreal.so", AlreadyExists),
        ("", "libreal.so", InvalidArgument),
        ("../x", "libreal.so", InvalidArgument),
    ],
)
async def test_what_is_not_loaded(worker, plugins, name, path, kind) -> None:
    """Nothing outside the directories, by whatever name or link; no name twice."""
    (plugins.parent / "secret.so").write_bytes(compiled("odd").read_bytes())
    os.symlink(plugins.parent / "secret.so", plugins / "link.so")
    (plugins / "libreal.so").write_bytes(compiled("odd").read_bytes())
    manager, _ = worker()
    with pytest.raises(kind):
        await manager.load(name, path)


async def test_a_list_that_cannot_be_read_is_told(worker, tmp_path) -> None:
    manager, _ = worker()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "plugins.json").write_text("[")
    with pytest.raises(BackendUnavailable, match=r"plugins\.json"):
        await manager.names()


async def test_files_are_looked_at_together(
    worker, plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So one that hangs at its start does not hold up the answer once more for each other."""
    for number in range(5):
        (plugins / f"lib{number}.so").write_text("no library")
    manager, _ = worker()
    looking = 0
    together: list[int] = []
    four, go_on = asyncio.Event(), asyncio.Event()

    async def inspect(path: Path) -> str:
        nonlocal looking
        looking += 1
        together.append(looking)
        if looking == 4:
            four.set()
        await go_on.wait()
        looking -= 1
        return path.stem

    monkeypatch.setattr(manager, "_inspect", inspect)
    naming = asyncio.create_task(manager.names())
    await four.wait()
    go_on.set()
    assert await naming == ["lib0", "lib1", "lib2", "lib3", "lib4", "libanything", "text"]
    assert max(together) == 4
    assert len(await manager.names()) == len(together)  # each once


@pytest.mark.parametrize(
    ("failure", "names"),
    [
        (BackendUnavailable("it hangs when it is loaded"), ["libanything", "text"]),
        (InvalidArgument("it is no plugin"), []),
    ],
)
async def test_a_file_that_could_not_be_looked_at_is_looked_at_again(
    worker, clock, monkeypatch: pytest.MonkeyPatch, caplog, failure, names
) -> None:
    """The host may have been too busy; what is no plugin stays left out until it changes."""
    manager, _ = worker()
    looked_at: list[str] = []

    async def inspect(path: Path) -> str:
        looked_at.append(path.name)
        if len(looked_at) <= 2:
            raise failure
        return path.stem

    monkeypatch.setattr(manager, "_inspect", inspect)
    for _ in range(3):
        assert await manager.names() == []
    assert len(looked_at) == len(caplog.records) == 2
    clock.advance(60.0)
    assert await manager.names() == names


async def test_names_that_are_taken_are_told_once(worker, plugins, monkeypatch, caplog) -> None:
    """By a provider of the server, or by another file."""
    for name in ("memfs.so", "zecond.so"):
        (plugins / name).write_bytes(compiled("memory").read_bytes())
    manager, _ = worker()

    async def inspect(path: Path) -> str:
        return {"memfs.so": "memfs", "text.so": "text"}.get(path.name, "memory")

    monkeypatch.setattr(manager, "_inspect", inspect)
    for _ in range(3):
        assert await manager.names() == ["memory", "text"]
    assert [record.message for record in caplog.records] == [
        f"plugin memfs: {plugins}/memfs.so is left out, a provider of the server has the name",
        f"plugin memory: {plugins}/zecond.so is left out, {plugins}/libanything.so has the name",
    ]
