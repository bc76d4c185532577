"""fs9.providers.registry and builtin: names, and messages for wrong configs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from fs9.errors import AlreadyExists, InvalidArgument, NotFound
from fs9.providers import builtin
from fs9.providers.registry import ProviderContext, Registry, nearest, read_config
from fs9.resources import Resources
from fs9.types import MountSpec

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.limits import Limits
    from fs9.threads import BlockingPool


class Config(msgspec.Struct, frozen=True):
    upstream: str
    max_hops: int = 10


@pytest.fixture
def context(
    tmp_path: Path, limits: Limits, clock: ManualClock, pool: BlockingPool
) -> dict[str, Any]:
    return {"resources": Resources(tmp_path, limits, clock, pool), "namespace": "acme"}


async def test_the_built_in_providers(context: dict[str, Any], tmp_path: Path):
    """Each name makes a provider of that name."""
    registry = builtin.registry()
    made = (
        ("hellofs", {}, True),
        ("kvfs", {}, False),
        ("kvfs", {"persistent": False}, True),
        ("localfs", {"root": str(tmp_path)}, False),
        ("memfs", {}, True),
    )
    assert {name for name, _, _ in made} <= set(registry.names())
    for name, config, volatile in made:
        provider = await registry.create(MountSpec("/", name, config), **context)
        assert provider.name == name
        assert provider.volatile == volatile
        await provider.aclose()


async def test_kv_is_kvfs_by_the_name_and_config_of_older_servers(context: dict[str, Any]):
    for config in ({}, {"namespace": "sessions"}):
        provider = await builtin.registry().create(MountSpec("/kv", "kv", config), **context)
        assert provider.name == "kvfs"
        await provider.aclose()


async def test_an_unknown_provider_tells_the_nearest(context: dict[str, Any]):
    with pytest.raises(NotFound, match="provider memsf; did you mean 'memfs'"):
        await builtin.registry().create(MountSpec("/", "memsf"), **context)
    with pytest.raises(NotFound, match="there is hellofs, kv, kvfs, "):
        await builtin.registry().create(MountSpec("/", "zzz"), **context)


async def test_a_factory_gets_config_and_context(
    tmp_path: Path, limits: Limits, clock: ManualClock, pool: BlockingPool
):
    seen = []

    async def factory(config: Any, context: ProviderContext) -> Any:
        seen.append((config, context))
        return SimpleNamespace(untasked=True)

    registry = Registry()
    registry.register("mine", factory)
    resources = Resources(tmp_path, limits, clock, pool)
    await registry.create(MountSpec("/at", "mine", {"a": 1}), resources, namespace="acme")
    made = ProviderContext("acme", tmp_path, limits, clock, pool, mount="/at")
    assert seen == [({"a": 1}, made)]


def test_a_name_is_registered_once():
    registry = builtin.registry()
    with pytest.raises(AlreadyExists, match="memfs"):
        registry.register("memfs", None)  # type: ignore[arg-type]


def test_config_with_defaults():
    assert read_config("p", Config, {"upstream": "u"}) == Config("u", 10)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"upstream": "u", "max_hop": 1}, "p has no setting 'max_hop'; did you mean 'max_hops'?"),
        ({"upstream": "u", "zz": 1}, "p has no setting 'zz'; there is upstream, max_hops"),
        ({"upstream": 1}, "upstream"),
        ({"upstream": "u", "max_hops": "10"}, "max_hops"),
        ({"upstream": "u", "max_hops": True}, "max_hops"),
        ({}, "upstream"),
    ],
)
def test_a_wrong_config_is_told(config: dict[str, Any], text: str):
    """The key is named: an unknown one with the likely one, a wrong type, a missing one."""
    with pytest.raises(InvalidArgument) as error:
        read_config("p", Config, config)
    assert text in str(error.value)


def test_nothing_to_choose_from():
    assert nearest("x", []) == "; it has none"
