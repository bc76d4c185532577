"""Settings are tried out before a fleet starts with them, or takes them over while it serves."""

from dataclasses import replace

import pytest

from fs9.config import ConfigError, Settings
from fs9.preflight import check_providers, preflight
from fs9.principal import Principal
from fs9.services import Services
from fs9.types import MKDIR, MountSpec

MEMORY = (MountSpec("/", "memfs"),)
TIKV = MountSpec("/", "pagefs", {"backend": {"type": "tikv"}})
ANONYMOUS = Principal("anonymous", "default", ("admin",))


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data")


async def test_the_preflight_accepts_what_works(settings):
    """It makes the data directory and the metadata, and leaves nothing open."""
    await preflight(settings)
    assert (settings.data_dir / "meta.db").exists()


@pytest.mark.parametrize(
    ("mounts", "template", "text"),
    [
        ((MountSpec("/", "memsf"),), MEMORY, r"mounts: /: no provider memsf; did you mean memfs"),
        (MEMORY, (MountSpec("/x", "nofs"),), r"namespace_template: /x: no provider nofs"),
        ((MountSpec("/", "localfs", {"rot": "/"}),), MEMORY, r"mounts: .*rot.*root"),
        ((MountSpec("/", "localfs", {"root": "/no/such/dir"}),), MEMORY, r"mounts: .*no/such/dir"),
        ((TIKV,), MEMORY, r"mounts: /: .*'tikv' is not supported"),
        (MEMORY, (TIKV,), r"namespace_template: /: .*'tikv' is not supported"),
    ],
)
async def test_the_preflight_names_what_does_not(tmp_path, mounts, template, text):
    """A provider that does not exist, or cannot be made, ends the start with its key."""
    settings = Settings(data_dir=tmp_path / "d", mounts=mounts, namespace_template=template)
    with pytest.raises(ConfigError, match=text):
        await preflight(settings)


async def test_a_mount_that_cannot_be_is_not_kept(tmp_path):
    """What is corrected in the settings starts."""
    settings = Settings(data_dir=tmp_path / "d", mounts=(TIKV,))
    with pytest.raises(ConfigError):
        await preflight(settings)
    await preflight(Settings(data_dir=tmp_path / "d"))


async def test_a_rehearsal_does_not_take_a_mount_from_its_owner(settings):
    """A reload that changes a pagefs mount is checked beside the server that has it open."""
    services = await Services.open(settings)
    session = (await services.namespaces.find("default", create=False)).attach(ANONYMOUS)
    changed = replace(settings, mounts=(MountSpec("/", "pagefs", {"uid": 7}),))
    await check_providers(changed, settings)
    wrong = replace(settings, mounts=(MountSpec("/", "pagefs", {"backend": {"type": "lmbd"}}),))
    with pytest.raises(ConfigError, match="did you mean 'lmdb'"):
        await check_providers(wrong, settings)
    handle, _ = await session.open("/d", MKDIR)
    await session.close(handle)
    assert (await session.stat("/d")).uid == 0
    await services.aclose()
