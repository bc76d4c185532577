"""From a mount's configuration to its stores: the table of backends, and the factory.

Where the embedded form keeps what: `pagefs/STORAGE/MOUNT/` below the data directory, the
storage's name and the mount point quoted so that they are single names; in it LMDB's `meta/`, the
journals and `objects/`. What several hosts share is in `remote`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias
from urllib.parse import quote

import lmdb
import msgspec

from fs9.errors import BackendUnavailable, Fs9Error, InvalidArgument
from fs9.providers.localerrors import Translated
from fs9.providers.pagefs import config as settings
from fs9.providers.pagefs import fileblocks, holders, lmdbstore, remote
from fs9.providers.pagefs.core import Core, Policy
from fs9.providers.pagefs.memory import Memory, MemoryBlocks, MemoryStore
from fs9.providers.pagefs.provider import PageFs
from fs9.providers.pagefs.store import BlockStore, MetaStore
from fs9.providers.registry import read_config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from fs9.providers.registry import ProviderContext

Stores: TypeAlias = tuple[MetaStore, BlockStore | None]


class Backend(NamedTuple):
    """What is done with a backend's part of the configuration; both raise InvalidArgument.

    `check` asks nobody; `open` opens the stores. `stored`, where the data is not on this host,
    looks what there is; calls of such a one need a task around them.
    """

    check: Callable[[Mapping[str, Any]], object]
    open: Callable[[Mapping[str, Any], ProviderContext], Awaitable[Stores]]
    stored: Callable[[Mapping[str, Any], ProviderContext], Awaitable[remote.Stored]] | None = None


_NAME_BYTES_MAX = 200
#: No namespace can have this name.
_TRIAL = ".trial"


def directory_of(context: ProviderContext) -> Path:
    """Where the embedded form of a mount is. Raises InvalidArgument for names too long."""
    namespace, mount = quote(context.storage, safe=""), quote(context.mount, safe="")
    for name in (namespace, mount):
        if len(name) > _NAME_BYTES_MAX or name in {"", ".", ".."}:
            raise InvalidArgument(f"pagefs: cannot keep files under the name {name[:80]!r}")
    return context.data_dir / "pagefs" / namespace / mount


def check_lmdb(config: Mapping[str, Any]) -> str:
    """The type of its blocks."""
    found = read_config("pagefs backend", settings.Lmdb, config)
    if found.blocks.get("type") == "s3":
        raise InvalidArgument(
            "pagefs: blocks of lmdb cannot be 's3': the metadata of one host would be the only key "
            "to them; use the backend 'postgres' or 'slatedb' with 's3'"
        )
    kind = settings.type_of("blocks of lmdb", found.blocks, "files", ["files", "inline"])
    read_config(f"pagefs blocks {kind}", settings.NoSettings, {"type": kind, **found.blocks})
    return kind


async def open_lmdb(config: Mapping[str, Any], context: ProviderContext) -> Stores:
    kind = check_lmdb(config)
    directory = directory_of(context)
    if context.trial:  # opening it would take it from the process that serves it
        return MemoryStore(Memory()), None
    with Translated(f"pagefs storage {context.mount}"):
        await context.pool.run(holders.enter, directory)
        try:
            store = await lmdbstore.open_store(directory, context.pool)
        except lmdb.Error as error:
            raise BackendUnavailable(f"pagefs: the metadata cannot be opened: {error}") from error
        if kind == "inline":
            return store, None
        try:
            return store, await fileblocks.open_blocks(directory / "objects", context.pool)
        except BaseException:
            await store.aclose()
            raise


def check_memory(config: Mapping[str, Any]) -> str:
    """The type of its blocks."""
    found = read_config("pagefs backend", settings.Memory, config)
    kind = settings.type_of("blocks of memory", found.blocks, "memory", ["memory", "inline"])
    read_config(f"pagefs blocks {kind}", settings.NoSettings, {"type": kind, **found.blocks})
    return kind


async def open_memory(config: Mapping[str, Any], context: ProviderContext) -> Stores:
    kind = check_memory(config)
    blocks = None if kind == "inline" else MemoryBlocks({}, context.limits.memfs_bytes_max)
    return MemoryStore(Memory()), blocks


def refuse_tikv(config: Mapping[str, Any]) -> NoReturn:
    raise InvalidArgument(
        "pagefs: the backend 'tikv' is not supported; use 'lmdb' on one host, 'postgres' or "
        "'slatedb' on several"
    )


async def open_tikv(config: Mapping[str, Any], context: ProviderContext) -> Stores:
    refuse_tikv(config)


async def stored_tikv(config: Mapping[str, Any], context: ProviderContext) -> remote.Stored:
    refuse_tikv(config)


#: A backend is added here.
BACKENDS: dict[str, Backend] = {
    "lmdb": Backend(check_lmdb, open_lmdb),
    "memory": Backend(check_memory, open_memory),
    "postgres": Backend(remote.read_postgres, remote.open_postgres, remote.stored_postgres),
    "s3": Backend(remote.read_s3, remote.open_s3, remote.stored_s3),
    "slatedb": Backend(remote.read_slatedb, remote.open_slatedb, remote.stored_slatedb),
    "tikv": Backend(refuse_tikv, open_tikv, stored_tikv),
}


def check(config: Mapping[str, Any]) -> None:
    """Raises InvalidArgument for a configuration that cannot be used anywhere; asks nobody."""
    found = settings.read(config)
    BACKENDS[_type(found)].check(found.backend)


def is_remote(config: Mapping[str, Any]) -> bool:
    """Is the data of such a mount on other hosts? Of what is no configuration: no."""
    part = config.get("backend")
    kind = part.get("type") if isinstance(part, dict) else None
    backend = BACKENDS.get(kind) if isinstance(kind, str) else None
    return backend is not None and backend.stored is not None


async def stored(config: Mapping[str, Any], context: ProviderContext) -> remote.Stored:
    """What there is of a mount whose data is on other hosts. Raises as `create`."""
    found = settings.read(config)
    look = BACKENDS[_type(found)].stored
    assert look is not None, "its data is on this host"
    return await look(found.backend, context)


def _type(found: settings.Config) -> str:
    return settings.type_of("backend", found.backend, "lmdb", sorted(BACKENDS))


async def create(config: Mapping[str, Any], context: ProviderContext) -> PageFs:
    """The provider of a mount.

    Raises InvalidArgument (configuration), BackendUnavailable and what a store raises.
    """
    found = settings.read(config)
    if not context.trial:
        return await _create(found, context)
    # A place of its own: what is served is not taken from its owner. Nothing of it stays.
    storage = f"{_TRIAL}-{secrets.token_hex(4)}"
    tried = await _create(found, dataclasses.replace(context, namespace=_TRIAL, storage=storage))
    try:
        await tried.destroy()
    finally:
        with contextlib.suppress(OSError, Fs9Error):  # what it would keep is gone
            await tried.aclose()
    return await _create(msgspec.structs.replace(found, backend={"type": "memory"}), context)


async def _create(found: settings.Config, context: ProviderContext) -> PageFs:
    kind = _type(found)
    store, blocks = await BACKENDS[kind].open(found.backend, context)
    policy = Policy(
        found.uid,
        found.gid,
        found.inline_bytes,
        found.trash_retention_secs,
        found.control_file,
    )
    core = Core(store, blocks, policy, context.limits, context.clock, context.quota)
    provider = PageFs(core)
    provider.untasked = BACKENDS[kind].stored is None
    try:
        with Translated(f"pagefs storage {context.mount}"):
            await provider.start()
    except BaseException:
        with contextlib.suppress(OSError, Fs9Error):  # the one being raised says what is wrong
            await core.aclose()
        raise
    return provider
