"""fs9.providers.mount_policy: what tenants may mount, and that it stays what was allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fs9.clock import ManualClock
from fs9.config.settings import Settings
from fs9.errors import Forbidden, InvalidArgument, PermissionDenied
from fs9.limits import Limits
from fs9.providers import localfs
from fs9.providers.mount_policy import MountPolicy
from fs9.providers.registry import ProviderContext
from fs9.types import MountSpec

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.threads import BlockingPool


def policy(data_dir: Path, **settings: Any) -> MountPolicy:
    return MountPolicy.of(Settings(data_dir=data_dir, **settings))


def may(policy: MountPolicy, provider: str, config: dict[str, Any]) -> bool:
    try:
        policy.checked(MountSpec("/x", provider, config), "acme")
    except Forbidden:
        return False
    return True


def test_by_default_only_what_keeps_to_the_namespace(tmp_path: Path) -> None:
    default = policy(tmp_path)
    for provider in ("hellofs", "kvfs", "memfs", "pagefs", "pubsubfs", "streamfs"):
        assert may(default, provider, {})
    for provider in ("localfs", "proxyfs", "a-plugin"):
        assert not may(default, provider, {"root": str(tmp_path), "upstream": "http://x"})


@pytest.mark.parametrize(
    "backend",
    [
        {"type": "postgres", "dsn": "postgresql://127.0.0.1/x"},
        {"type": "s3", "bucket": "x"},
        {"type": "slatedb", "bucket": "x"},
        {"type": "lmdb", "blocks": {"type": "s3", "bucket": "x"}},
        {"type": ["postgres"]},
    ],
)
def test_pagefs_keeps_to_this_host(backend: dict[str, Any], tmp_path: Path) -> None:
    """The server's credentials and networks are not a tenant's to use."""
    assert not may(policy(tmp_path), "pagefs", {"backend": backend})


def test_localfs_is_below_an_allowed_root_as_it_really_is(tmp_path: Path) -> None:
    """Neither dots nor symbolic links lead out, nor does another's directory count as one's own."""
    for name in ("tenants/acme/in", "tenants/acme-2", "tenants/beta"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tenants/acme/out").symlink_to(tmp_path)
    roots = (f"{tmp_path}/tenants/{{namespace}}",)
    allowing = policy(tmp_path / "data", mount_providers=("localfs",), mount_localfs_roots=roots)
    own = tmp_path / "tenants" / "acme"
    for root in (own, own / "in", f"{tmp_path}/tenants/{{namespace}}/in"):
        assert may(allowing, "localfs", {"root": str(root)})
    for root in ("/", "/etc", own.parent, own / "out", own / "..", own.parent / "acme-2"):
        assert not may(allowing, "localfs", {"root": str(root)})
    for wrong in ({}, {"root": 5}, {"root": "relative"}):
        with pytest.raises(InvalidArgument):
            allowing.checked(MountSpec("/x", "localfs", wrong), "acme")


async def test_a_confined_root_that_becomes_a_link_is_refused(
    tmp_path: Path, pool: BlockingPool
) -> None:
    """What was allowed as a directory does not become another one later."""
    own = tmp_path / "tenants" / "acme"
    own.mkdir(parents=True)
    allowing = policy(
        tmp_path / "data",
        mount_providers=("localfs",),
        mount_localfs_roots=(str(own.parent),),
    )
    spec = allowing.checked(MountSpec("/x", "localfs", {"root": str(own)}), "acme")
    context = ProviderContext("acme", tmp_path / "data", Limits(), ManualClock(), pool)
    await (await localfs.create(spec.config, context)).aclose()
    own.rmdir()
    own.symlink_to("/etc")
    with pytest.raises(InvalidArgument, match="symbolic link"):
        await localfs.create(spec.config, context)


def test_proxyfs_goes_to_listed_servers_alone(tmp_path: Path) -> None:
    allowing = policy(
        tmp_path,
        mount_providers=("proxyfs",),
        mount_proxy_targets=("files.example.org", "Other.example.org:9999", "[2001:db8::1]:80"),
    )
    for upstream in (
        "http://files.example.org:1",
        "https://FILES.example.org/tenant",
        "http://other.example.org:9999",
        "http://[2001:db8::1]",
    ):
        assert may(allowing, "proxyfs", {"upstream": upstream})
    for upstream in (
        "http://other.example.org",
        "http://files.example.org.evil.test",
        "http://files.example.org@evil.test/",
        "http://127.0.0.1:9999",
    ):
        assert not may(allowing, "proxyfs", {"upstream": upstream})
    for wrong in ({}, {"upstream": 1}, {"upstream": "http://["}):
        with pytest.raises(InvalidArgument):
            allowing.checked(MountSpec("/x", "proxyfs", wrong), "acme")


def test_mounts_of_the_settings_alone_may_connect_anywhere(tmp_path: Path) -> None:
    """All others only to public addresses and the networks of the settings."""
    own = MountSpec("/up", "proxyfs", {"upstream": "http://127.0.0.1:1"})
    found = policy(tmp_path, mounts=(own,), mount_networks=("10.1.0.0/16",))
    assert found.addresses_of(own) is None
    other = found.addresses_of(MountSpec("/x", "proxyfs", own.config))
    assert other is not None
    other.check("10.1.2.3")
    for address in ("127.0.0.1", "10.2.0.1", "169.254.169.254", "::1"):
        with pytest.raises(PermissionDenied):
            other.check(address)
