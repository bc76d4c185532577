"""The composition root opens everything from settings, and closes all of it."""

import asyncio
import os
import stat
from dataclasses import replace

import pytest

from fs9 import services as services_module
from fs9.auth.tokens import sign
from fs9.clock import ManualClock
from fs9.config import EMBEDDED_MOUNTS, ConfigError, Settings
from fs9.directories import handles_directory, locks_directory
from fs9.errors import BackendUnavailable, Unauthenticated
from fs9.limits import Limits
from fs9.meta.announce import NamespaceChanged
from fs9.preflight import preflight
from fs9.principal import Principal
from fs9.services import Services
from fs9.types import MKDIR, REPLACE, MountSpec, OpenFlags

MEMORY = (MountSpec("/", "memfs"),)
MEMORY_BELOW = (MountSpec("/m", "memfs"),)
#: The default of an earlier version.
ON_LOCALFS = (MountSpec("/", "localfs", {"root": "{data_dir}/namespaces/{namespace}/files"}),)
ANONYMOUS = Principal("anonymous", "default", ("admin",))


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data")


async def test_the_default_namespace_serves_from_the_start(settings):
    """With nothing configured, `default` has storage of its own below the data directory."""
    services = await Services.open(settings)
    record = await services.store.namespace("default")
    assert (record.created_by, record.mounts) == ("system", settings.mounts)
    session = (await services.namespaces.find("default", create=False)).attach(ANONYMOUS)
    file = await session.open_file("/hello", REPLACE)
    await session.write_file(file, 0, b"text")
    await session.commit_file(file)
    assert (await session.stat("/hello")).size == 4
    await services.aclose()
    assert (settings.data_dir / "pagefs/default/%2F/meta").is_dir()


async def test_what_was_written_is_there_after_a_restart(settings):
    """Files and namespaces are kept."""
    for restart in (False, True):
        services = await Services.open(settings)
        namespace = await services.namespaces.find("acme", create=not restart)
        session = namespace.attach(Principal("u", "acme", ("admin",)))
        if restart:
            assert [info.path for info in await session.readdir("/")] == ["/d"]
        else:
            handle, _ = await session.open("/d", MKDIR)
            await session.close(handle)
        await services.aclose()


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_the_metadata_is_where_the_settings_say(settings, tmp_path, request, database):
    """In another file or in PostgreSQL; then there is none in the data directory."""
    if database == "sqlite":
        dsn = f"sqlite:{tmp_path / 'other.db'}"
    else:
        dsn = request.getfixturevalue("postgres_dsn")
    settings = replace(settings, meta_dsn=dsn)
    await preflight(settings)
    for restart in (False, True):
        services = await Services.open(settings)
        await services.namespaces.find("acme", create=not restart)
        await services.aclose()
    assert not (settings.data_dir / "meta.db").exists()


async def test_the_default_namespace_follows_the_settings(settings):
    """Changed `mounts` take effect at the next start; other namespaces keep theirs."""
    services = await Services.open(settings)
    other = await services.store.create_namespace("acme", "alice", settings.namespace_template)
    await services.aclose()
    changed = Settings(data_dir=settings.data_dir, mounts=MEMORY, namespace_template=MEMORY)
    services = await Services.open(changed)
    assert (await services.store.namespace("default")).mounts == MEMORY
    assert await services.store.namespace("acme") == other
    await services.namespaces.find("fresh", create=True)
    assert (await services.store.namespace("fresh")).mounts == MEMORY
    await services.aclose()


async def test_what_was_mounted_in_default_stays_when_a_worker_is_replaced(settings):
    """The list of the settings applies when the fleet starts, and when a reload changes it."""
    settings = replace(settings, mounts=MEMORY)
    added = MountSpec("/added", "memfs")

    async def mounts_after_start(settings, mount=None, **how):
        services = await Services.open(settings, **how)
        if mount is not None:
            await services.store.add_mount("default", mount, "alice")
        held = (await services.store.namespace("default")).mounts
        await services.aclose()
        return held

    await mounts_after_start(settings, slot=0, fleet=True, mount=added)
    assert await mounts_after_start(settings, slot=0, fleet=True) == (*MEMORY, added)
    assert await mounts_after_start(settings, slot=1, fleet=True) == (*MEMORY, added)
    reloaded = replace(settings, mounts=(*MEMORY, *MEMORY_BELOW))
    assert await mounts_after_start(reloaded, slot=0, fleet=True) == reloaded.mounts
    await mounts_after_start(reloaded, slot=1, fleet=True, mount=added)
    assert await mounts_after_start(reloaded, slot=1, fleet=True) == (*MEMORY, added, *MEMORY_BELOW)
    await preflight(reloaded)
    assert await mounts_after_start(reloaded, slot=0, fleet=True) == reloaded.mounts


async def test_files_of_an_earlier_version_stay_where_they_are(settings):
    """`default` and others made on localfs keep it under the new default, start after start."""
    former = replace(
        settings,
        mounts=ON_LOCALFS,
        namespace_template=ON_LOCALFS,
        origins={"mounts": "fs9.yaml:1", "namespace_template": "fs9.yaml:2"},
    )
    services = await Services.open(former)
    for name in ("default", "acme"):
        session = (await services.namespaces.find(name, create=True)).attach(
            Principal("u", name, ("admin",))
        )
        file = await session.open_file("/old", REPLACE)
        await session.write_file(file, 0, name.encode())
        await session.commit_file(file)
    await services.aclose()
    for _ in range(2):
        services = await Services.open(settings)
        for name in ("default", "acme"):
            namespace = await services.namespaces.find(name, create=False)
            session = namespace.attach(Principal("u", name, ("admin",)))
            handle, _ = await session.open("/old", OpenFlags(read=True))
            assert bytes(await session.read(handle, 0, 10)) == name.encode()
            assert session.mounts() == [("/", "localfs")]
        fresh = await services.namespaces.find("fresh", create=True)
        assert fresh.attach(Principal("u", "fresh", ("admin",))).mounts() == [("/", "pagefs")]
        await services.aclose()


@pytest.mark.parametrize(
    ("held", "said", "expected"),
    [
        ((), False, EMBEDDED_MOUNTS),
        (ON_LOCALFS, False, ON_LOCALFS),
        ((*EMBEDDED_MOUNTS, *MEMORY_BELOW), False, (*EMBEDDED_MOUNTS, *MEMORY_BELOW)),
        ((*EMBEDDED_MOUNTS, *MEMORY_BELOW), True, EMBEDDED_MOUNTS),
        (ON_LOCALFS, True, EMBEDDED_MOUNTS),
    ],
)
def test_only_what_a_user_said_replaces_the_mounts_of_default(held, said, expected):
    """Those of an earlier version, and those made over HTTP, outlast a start without a setting."""
    settings = Settings(origins={"mounts": "fs9.yaml:1"} if said else {})
    assert settings.mounts_of_default(held) == expected


async def test_what_waits_for_a_trail_is_stored_when_its_namespace_changes(settings):
    """At once: when it was deleted, the next one of its name must not read of it."""
    services = await Services.open(settings, clock=ManualClock())
    await services.store.create_namespace("acme", "root", ())
    services.trails.trail("acme").refused("read", "/secret", "eve", "PermissionDenied")
    await services.store.set_status("acme", "deleted", "root")
    services.apply(NamespaceChanged("acme"))
    for _ in range(10_000):
        if await services.store.last_event("acme") is not None:
            break
        await asyncio.sleep(0.001)
    else:
        pytest.fail("the refusal waits")
    await services.aclose()


async def test_open_handles_are_written_at_the_end(settings):
    """Closing the services closes every handle, synced."""
    services = await Services.open(settings)
    session = (await services.namespaces.find("default", create=False)).attach(ANONYMOUS)
    handle, _ = await session.open("/f", OpenFlags(write=True, create=True))
    await session.write(handle, 0, b"abc")
    await services.aclose()
    services = await Services.open(settings)
    session = (await services.namespaces.find("default", create=False)).attach(ANONYMOUS)
    handle, _ = await session.open("/f", OpenFlags(read=True))
    assert bytes(await session.read(handle, 0, 10)) == b"abc"
    await services.aclose()


async def test_closing_ends_in_the_time_allowed(tmp_path, caplog):
    """What hangs is abandoned after `shutdown_timeout_s`, and said."""
    settings = Settings(data_dir=tmp_path / "d", limits=Limits(shutdown_timeout_s=0.05))
    services = await Services.open(settings)
    released = asyncio.Event()
    services._stack.push_async_callback(released.wait)
    await services.aclose()
    assert "abandoned" in caplog.text
    released.set()
    await asyncio.wait([services._closing])


async def test_each_process_has_its_own_id(settings):
    """Eight hexadecimal digits, new each time; the slot is as given."""
    first = await Services.open(settings, slot=3)
    second = await Services.open(settings)
    assert (first.slot, second.slot) == (3, 0)
    assert first.instance_id != second.instance_id
    assert len(bytes.fromhex(first.instance_id)) == 4
    await first.aclose()
    await second.aclose()


async def test_without_a_secret_nobody_is_asked(settings):
    """No secret: no verifier."""
    services = await Services.open(settings)
    assert services.verifier is None
    await services.aclose()


async def test_the_verifier_has_the_settings_rules_and_the_clock(tmp_path):
    """Secret, issuer, audience, limits and time reach the verifier."""
    clock = ManualClock(1000)
    settings = Settings(
        data_dir=tmp_path / "d", jwt_secret="s", token_issuer="i", token_audience="a"
    )
    services = await Services.open(settings, clock=clock)
    assert services.clock is clock
    claims = {"sub": "u", "ns": "n", "iat": 0, "exp": 1001, "iss": "i", "aud": "a"}
    assert services.verifier is not None
    principal = services.verifier.verify_nowait(sign(claims, "s"))
    assert principal is not None
    assert (principal.user, principal.namespace, principal.expires_at_s) == ("u", "n", 1001)
    await services.aclose()


async def test_the_data_directory_is_private(settings):
    """Made for this user alone; one that exists is left as it is."""
    await (await Services.open(settings)).aclose()
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700
    settings.data_dir.chmod(0o750)
    await (await Services.open(settings)).aclose()
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o750


async def test_an_unusable_data_directory_is_refused(tmp_path, monkeypatch):
    """A file in its place, a file above it, or no permission: an error that names it."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match="data_dir"):
            await Services.open(Settings(data_dir=path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match="cannot write"):
        await Services.open(Settings(data_dir=tmp_path / "d"))


async def test_a_failed_opening_leaves_nothing_open(settings, monkeypatch):
    """When a later step fails, what was opened before is closed again."""
    closed = []
    shut_down = services_module.BlockingPool.shutdown
    monkeypatch.setattr(
        services_module.BlockingPool, "shutdown", lambda pool: (closed.append(1), shut_down(pool))
    )
    settings.data_dir.mkdir()
    (settings.data_dir / "meta.db").write_bytes(b"no database" * 100)
    with pytest.raises(BackendUnavailable):
        await Services.open(settings)
    assert closed == [1]
    (settings.data_dir / "meta.db").unlink()
    public_key = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    with pytest.raises(ConfigError, match=r"server\.auth\.jwt_secret"):
        await Services.open(Settings(data_dir=settings.data_dir, jwt_secret=public_key))
    assert closed == [1, 1]
    known = Settings(data_dir=settings.data_dir, jwt_secret="change-me-in-production")
    with pytest.raises(ConfigError, match="published example"):
        await Services.open(known)


async def test_a_fleet_locks_and_journals(settings):
    """Two workers of one data directory: one at a time has a namespace, its handles go along."""
    first = await Services.open(settings, fleet=True)
    second = await Services.open(settings, slot=1, fleet=True)
    session = (await first.namespaces.find("default", create=False)).attach(ANONYMOUS)
    handle, _ = await session.open("/f", OpenFlags(read=True, write=True, create=True))
    await session.write(handle, 0, b"abc")
    there = asyncio.create_task(second.namespaces.find("default", create=False))
    await asyncio.sleep(0.03)
    assert not there.done()
    assert await first.namespaces.give_up("default")
    session = (await there).attach(ANONYMOUS)
    assert bytes(await session.read(handle, 0, 9)) == b"abc"
    await session.close(handle)
    await second.aclose()
    await first.aclose()
    assert list(handles_directory(settings.data_dir).iterdir()) == []
    assert [path.name for path in locks_directory(settings.data_dir).iterdir()] == ["default"]


async def test_alone_there_are_no_locks_and_no_journal(settings):
    services = await Services.open(settings)
    session = (await services.namespaces.find("default", create=False)).attach(ANONYMOUS)
    await session.open("/f", OpenFlags(write=True, create=True))
    await services.aclose()
    assert not locks_directory(settings.data_dir).exists()
    assert not handles_directory(settings.data_dir).exists()


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, 4 * 3600),
        ({"refresh_grace_hours": 0}, 0),
        ({"refresh_grace_hours": 2}, 7200),
        ({"refresh_grace_hours": 2, "refresh_grace_period_hours": 1}, 3600),
    ],
)
async def test_the_time_to_refresh_is_the_settings(tmp_path, given, seconds):
    """Under its name or the older one; a second later it is too late."""
    clock = ManualClock(100_000)
    settings = Settings(data_dir=tmp_path / "d", jwt_secret="s", token_ttl_s=60, **given)
    services = await Services.open(settings, clock=clock)
    assert services.refresher is not None
    claims = {"sub": "u", "ns": "default", "iat": 100_000, "exp": 100_000}
    clock.advance(seconds)
    _, ttl_s = await services.refresher.refresh(sign(claims, "s"))
    assert ttl_s == 60
    clock.advance(1)
    with pytest.raises(Unauthenticated, match="ExpiredSignature"):
        await services.refresher.refresh(sign(claims, "s"))
    await services.aclose()
