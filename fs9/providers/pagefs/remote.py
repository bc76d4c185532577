"""The backends that several hosts can share: PostgreSQL and SlateDB, with their blocks.

The libraries of object storage are optional; a mount that needs one that is missing is told
so. Where things are: in PostgreSQL under `NAMESPACE/MOUNT`, in a bucket below
`PREFIX/NAMESPACE/MOUNT/`, with `meta/` (SlateDB) and `objects/` (blocks).
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import msgspec

from fs9.errors import InvalidArgument
from fs9.providers.pagefs import config as settings
from fs9.providers.pagefs import lease, pgstore
from fs9.providers.pagefs.pgconnections import check_dsn
from fs9.providers.registry import read_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fs9.providers.pagefs.store import BlockStore, MetaStore
    from fs9.providers.registry import ProviderContext

_FILES = "files of one host cannot be had by another; use 's3' or 'inline'"


class Stored(NamedTuple):
    """What there is of a mount, before anything is opened, which would make it."""

    metadata: bool
    objects: bool


class Postgres(msgspec.Struct, frozen=True):
    """Metadata in PostgreSQL. `blocks`: `inline` (default, in PostgreSQL as well) or `s3`.

    `lease_secs`: how long another host waits for this one to be heard of again.
    """

    dsn: str
    type: str = "postgres"
    blocks: dict[str, Any] = {}
    lease_secs: float = 15.0
    timeout_secs: float = 10.0
    connections_max: int = 8


class Slatedb(msgspec.Struct, frozen=True):
    """Metadata in an S3 bucket. `blocks`: `s3` (default, the same bucket) or `inline`.

    `lease_secs`: how long another host waits for this one to be heard of again.
    """

    bucket: str
    type: str = "slatedb"
    prefix: str = ""
    blocks: dict[str, Any] = {}
    lease_secs: float = 15.0
    timeout_secs: float = 20.0


class S3Form(msgspec.Struct, frozen=True):
    """The short form for all in one bucket; the environment has address and credentials."""

    bucket: str
    type: str = "s3"
    prefix: str = ""


class S3Objects(msgspec.Struct, frozen=True):
    """Blocks in an S3 bucket; what is empty comes from the environment (`AWS_…`)."""

    bucket: str
    type: str = "s3"
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    virtual_hosted: bool = False
    deadline_secs: float = 30.0
    request_secs: float = 10.0


def read_postgres(config: Mapping[str, Any]) -> tuple[Postgres, str]:
    """The configuration and the type of its blocks. Raises InvalidArgument; asks nobody."""
    found = read_config("pagefs backend postgres", Postgres, config)
    kind = _blocks_type("postgres", found.blocks, "inline")
    _positive("postgres", found, "lease_secs", "timeout_secs", "connections_max")
    if kind == "s3":
        read_objects(found.blocks)
    check_dsn(found.dsn)
    return found, kind


async def open_postgres(
    config: Mapping[str, Any], context: ProviderContext
) -> tuple[MetaStore, BlockStore | None]:
    """Waits for the lease as long as for another worker of this host (`owner_wait_s`)."""
    found, kind = read_postgres(config)
    async with AsyncExitStack() as opened:
        blocks = None
        if kind == "s3":
            blocks = await open_objects(found.blocks, context)
            opened.push_async_callback(blocks.aclose)
        store = await pgstore.open_store(
            found.dsn,
            _place(context),
            await context.pool.run(lease.host_id, context.data_dir),
            context.clock,
            lease_s=found.lease_secs,
            wait_s=context.limits.owner_wait_s,
            connections_max=found.connections_max,
            timeout_s=found.timeout_secs,
        )
        store.when_lost(context.lost)
        opened.pop_all()
    return store, blocks


async def stored_postgres(config: Mapping[str, Any], context: ProviderContext) -> Stored:
    """Looks, and makes nothing. Raises as `open_postgres`."""
    found, kind = read_postgres(config)
    return Stored(
        await pgstore.exists(found.dsn, _place(context), found.timeout_secs),
        kind == "s3" and await _has_any(found.blocks, context),
    )


def read_slatedb(config: Mapping[str, Any]) -> tuple[Slatedb, str]:
    """As `read_postgres`."""
    found = read_config("pagefs backend slatedb", Slatedb, config)
    kind = _blocks_type("slatedb", found.blocks, "s3")
    _positive("slatedb", found, "lease_secs", "timeout_secs")
    read_objects({"bucket": found.bucket, "prefix": found.prefix})
    if "bucket" in found.blocks:
        read_objects(found.blocks)
    elif kind == "s3" and set(found.blocks) - {"type"}:
        raise InvalidArgument("pagefs: blocks of slatedb with settings need a bucket")
    return found, kind


async def open_slatedb(
    config: Mapping[str, Any], context: ProviderContext
) -> tuple[MetaStore, BlockStore | None]:
    """Waits for the lease as long as for another worker of this host (`owner_wait_s`)."""
    found, kind = read_slatedb(config)
    try:
        from fs9.providers.pagefs import s3client, s3lease, slatestore
    except ImportError:
        raise _missing("slatedb", "slatedb") from None
    async with AsyncExitStack() as opened:
        # Opened in any case: SlateDB tries for ever where there is no such bucket.
        same = {"bucket": found.bucket, "prefix": found.prefix}
        here = await open_objects(same, context)
        opened.push_async_callback(here.aclose)
        blocks = here
        if "bucket" in found.blocks:
            blocks = await open_objects(found.blocks, context)
            opened.push_async_callback(blocks.aclose)
        # Before the lease: whoever fails here must not go on renewing it.
        objects = await open_objects(same, context, "meta")
        opened.push_async_callback(objects.aclose)
        # A renewal that takes too long is followed by another one in time.
        deadline_s = max(1.0, found.lease_secs / 4)
        bucket = s3client.Bucket(found.bucket, deadline_s=deadline_s, request_s=deadline_s)
        held = s3lease.S3Lease(
            s3client.S3Client(bucket, context.clock),
            _path(found.prefix, context, "lease"),
            await context.pool.run(lease.host_id, context.data_dir),
            context.clock,
            found.lease_secs,
        )
        await held.take(context.limits.owner_wait_s)
        store = await slatestore.open_store(
            found.bucket,
            _path(found.prefix, context, "meta"),
            held,
            objects,
            timeout_s=found.timeout_secs,
        )
        store.when_lost(context.lost)
        opened.pop_all()
    return store, blocks if kind == "s3" else None


async def stored_slatedb(config: Mapping[str, Any], context: ProviderContext) -> Stored:
    """Looks, and makes nothing. Raises as `open_slatedb`."""
    found, kind = read_slatedb(config)
    same = {"bucket": found.bucket, "prefix": found.prefix}
    blocks = found.blocks if "bucket" in found.blocks else same
    return Stored(
        await _has_any(same, context, "meta"), kind == "s3" and await _has_any(blocks, context)
    )


async def _has_any(
    config: Mapping[str, Any], context: ProviderContext, name: str = "objects"
) -> bool:
    objects = await open_objects(config, context, name)
    try:
        return bool(await objects.list("", "", 1))
    finally:
        await objects.aclose()


def read_s3(config: Mapping[str, Any]) -> tuple[Slatedb, str]:
    """As `read_postgres`."""
    found = read_config("pagefs backend s3", S3Form, config)
    return read_slatedb({"bucket": found.bucket, "prefix": found.prefix})


async def open_s3(
    config: Mapping[str, Any], context: ProviderContext
) -> tuple[MetaStore, BlockStore | None]:
    found, _ = read_s3(config)
    return await open_slatedb({"bucket": found.bucket, "prefix": found.prefix}, context)


async def stored_s3(config: Mapping[str, Any], context: ProviderContext) -> Stored:
    """As `stored_slatedb`."""
    found, _ = read_s3(config)
    return await stored_slatedb({"bucket": found.bucket, "prefix": found.prefix}, context)


def read_objects(config: Mapping[str, Any]) -> S3Objects:
    """Raises InvalidArgument; asks nobody."""
    found = read_config("pagefs blocks s3", S3Objects, config)
    _positive("blocks s3", found, "deadline_secs", "request_secs")
    if not found.bucket:
        raise InvalidArgument("pagefs: blocks of type s3 need a bucket")
    if bool(found.access_key_id) != bool(found.secret_access_key):
        raise InvalidArgument("pagefs: access_key_id and secret_access_key belong together")
    _parts(found.prefix)
    return found


async def open_objects(
    config: Mapping[str, Any], context: ProviderContext, name: str = "objects"
) -> BlockStore:
    """The blocks of a mount in a bucket, or what else is there under this name."""
    found = read_objects(config)
    try:
        from fs9.providers.pagefs import s3blocks, s3client
    except ImportError:
        raise _missing("S3", "s3") from None
    bucket = s3client.Bucket(
        found.bucket,
        _path(found.prefix, context, name),
        endpoint=found.endpoint,
        region=found.region,
        access_key_id=found.access_key_id,
        secret_access_key=found.secret_access_key,
        session_token=found.session_token,
        virtual_hosted=found.virtual_hosted,
        deadline_s=found.deadline_secs,
        request_s=found.request_secs,
    )
    return await s3blocks.open_blocks(bucket, context.clock)


def _blocks_type(backend: str, blocks: Mapping[str, Any], default: str) -> str:
    if blocks.get("type") in {"files", "memory"}:
        raise InvalidArgument(f"pagefs: blocks of {backend} cannot be {blocks['type']!r}: {_FILES}")
    kind = settings.type_of(f"blocks of {backend}", blocks, default, ["inline", "s3"])
    if kind == "inline":
        read_config("pagefs blocks inline", settings.NoSettings, {"type": kind, **blocks})
    return kind


def _positive(what: str, found: msgspec.Struct, *names: str) -> None:
    for name in names:
        if not 0 < getattr(found, name) <= 3600:
            raise InvalidArgument(f"pagefs: {name} of {what} must be above 0 and at most 3600")


def _missing(what: str, extra: str) -> InvalidArgument:
    return InvalidArgument(
        f"pagefs: {what} needs a package that is not installed: pip install 'fs9[{extra}]'"
    )


def _place(context: ProviderContext) -> str:
    """`NAMESPACE/MOUNT`, each a single name."""
    parts = (context.storage, context.mount)
    return "/".join(quote(part, safe="") for part in parts)


def _path(prefix: str, context: ProviderContext, name: str) -> str:
    """In a bucket, where `%` is often quoted once more."""
    return "/".join([*_parts(prefix), _place(context).replace("%", "="), name])


def _parts(prefix: str) -> list[str]:
    parts = [part for part in prefix.split("/") if part]
    if any(part in {".", ".."} for part in parts):
        raise InvalidArgument("pagefs: a prefix cannot have '.' or '..' in it")
    return parts
