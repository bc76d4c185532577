"""Namespaces: bytes of a loaded idle one, a cold load, and finding a loaded one.

Baseline: a plain dict from name to a one-field object, which is the least a worker could keep.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fs9.clock import SystemClock
from fs9.errors import AlreadyExists, NotFound
from fs9.limits import Limits
from fs9.principal import Principal
from fs9.providers import builtin
from fs9.quota import NO_BOUNDS, NamespaceQuota
from fs9.resources import Resources
from fs9.threads import BlockingPool
from fs9.types import MountSpec
from fs9.vfs.namespaces import Namespaces

if TYPE_CHECKING:
    from collections.abc import Callable

_TEMPLATES = {
    "memfs": MountSpec("/", "memfs"),
    "localfs": MountSpec("/", "localfs", {"root": "{data_dir}/{namespace}"}),
}


class _Record(msgspec.Struct, frozen=True):
    mounts: tuple[MountSpec, ...]
    status: str = "active"
    id: str = ""
    storage: str = ""
    quota: NamespaceQuota = NO_BOUNDS


class _Store:
    """Every namespace exists, and has the one mount for good."""

    def __init__(self, spec: MountSpec) -> None:
        self._record = _Record((spec,))

    async def namespace(self, name: str) -> _Record:
        return self._record

    async def create_namespace(
        self, name: str, created_by: str, mounts: tuple[MountSpec, ...]
    ) -> _Record:
        return self._record

    async def add_mount(self, name: str, spec: MountSpec, by: str) -> object:
        raise AlreadyExists(spec.path)

    async def remove_mount(self, name: str, path: str, by: str) -> None:
        raise NotFound(path)


class _Plain:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def run(quick: bool) -> None:
    """Print memory and times by kind of provider, beside the plain dict."""
    count = 300 if quick else 3000
    print(f"namespaces: {count} loaded and idle")
    baseline = _plain_bytes(count)
    print(f"{'plain dict':>12}: {baseline:7.0f} bytes each")
    for name, spec in _TEMPLATES.items():
        with tempfile.TemporaryDirectory() as directory:
            # Each localfs holds a descriptor of its root; stay far from the limit of those.
            some = min(count, 500) if name == "localfs" else count
            asyncio.run(_measure(name, spec, Path(directory), some, baseline))


def _plain_bytes(count: int) -> float:
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    namespaces = {name: _Plain(name) for name in map(_name, range(count))}
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / len(namespaces)


async def _measure(
    name: str, spec: MountSpec, directory: Path, count: int, baseline: float
) -> None:
    pool = BlockingPool(4)
    namespaces = _namespaces(spec, directory, pool)
    try:
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for number in range(count):
            await namespaces.find(_name(number), create=False)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        size = (after - before) / count
        load = await _load_us(namespaces, count)
        find = await _find_us(namespaces, count)
        attach = _attach_us(namespaces)
        print(
            f"{name:>12}: {size:7.0f} bytes each ({size / baseline:.0f} times the plain dict); "
            f"cold load {load:.0f} µs, find {find:.2f} µs, attach {attach:.2f} µs"
        )
    finally:
        await namespaces.aclose()
        pool.shutdown()


def _namespaces(spec: MountSpec, directory: Path, pool: BlockingPool) -> Namespaces:
    return Namespaces(
        store=_Store(spec),
        registry=builtin.registry(),
        template=(spec,),
        resources=Resources(directory, Limits(), SystemClock(), pool),
    )


async def _load_us(namespaces: Namespaces, count: int) -> float:
    """A first request to each of some new namespaces."""
    new = [_name(number) for number in range(count, count + 100)]
    started = time.perf_counter()
    for name in new:
        await namespaces.find(name, create=False)
    return (time.perf_counter() - started) / len(new) * 1e6


async def _find_us(namespaces: Namespaces, count: int) -> float:
    names = [_name(number) for number in range(count)]
    started = time.perf_counter()
    for name in names:
        await namespaces.find(name, create=False)
    return (time.perf_counter() - started) / count * 1e6


def _attach_us(namespaces: Namespaces) -> float:
    namespace = namespaces.loaded(_name(0))
    assert namespace is not None
    principal = Principal("alice", namespace.name)
    return _cost_us(lambda: namespace.attach(principal), 10_000)


def _cost_us(call: Callable[[], object], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - started) / count * 1e6


def _name(number: int) -> str:
    return f"tenant-{number:06}"


if __name__ == "__main__":
    run(quick=False)
