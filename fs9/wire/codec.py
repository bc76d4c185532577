"""Values of `fs9.types` ↔ the JSON of the contract. Compact, keys in the contract's order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import UNSET

from fs9.errors import (
    InvalidArgument,
    MalformedRequest,
    QuotaExceeded,
    UnprocessableBody,
    UnsupportedMediaType,
)
from fs9.types import Buffer, Capability, FileInfo, FsStats, OpenFlags, StatChanges
from fs9.wire.messages import OFFSET_MAX, Changes, Flags, Info, OpenReply
from fs9.wire.route import JSON

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

T = TypeVar("T")

_SECOND = 1_000_000_000
_TIME_S_MAX = OFFSET_MAX // _SECOND
_MODE_BITS = 0o7777

#: The ten names of the contract, in its order, and what each stands for.
CAPABILITY_NAMES: tuple[tuple[str, Capability], ...] = (
    ("read", Capability.READ),
    ("write", Capability.WRITE),
    ("create", Capability.CREATE),
    ("delete", Capability.DELETE),
    ("rename", Capability.RENAME),
    ("truncate", Capability.TRUNCATE),
    ("chmod", Capability.CHMOD),
    ("chown", Capability.CHOWN),
    ("symlink", Capability.SYMLINK),
    ("directory", Capability.DIRECTORY),
)

encode = msgspec.json.Encoder().encode
_decode_info = msgspec.json.Decoder(Info).decode
_decode_infos = msgspec.json.Decoder(list[Info]).decode
_decode_open = msgspec.json.Decoder(OpenReply).decode
_decode_statfs = msgspec.json.Decoder(FsStats).decode


# -- Requests, as the server reads them. ----------------------------------------------------


def check_json_type(media_type: str | None) -> None:
    """Raise UnsupportedMediaType for a body that does not say that it is JSON.

    Else a page in a browser could send one without being asked first.
    """
    essence = (media_type or "").partition(";")[0].strip(" \t").lower()
    if essence == JSON or (essence.startswith("application/") and essence.endswith("+json")):
        return
    raise UnsupportedMediaType(f"the body must be {JSON}")


def decode_body(decoder: msgspec.json.Decoder[T], body: Buffer) -> T:
    """A JSON request body. Raises MalformedRequest (not JSON), UnprocessableBody (its shape)."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise UnprocessableBody(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedRequest(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise MalformedRequest("the body is not JSON: nested too deeply") from None


def flags_from_wire(flags: Flags) -> OpenFlags:
    return OpenFlags(
        flags.read,
        flags.write,
        flags.create,
        flags.truncate,
        flags.append,
        flags.directory,
        flags.exclusive,
    )


def changes_from_wire(changes: Changes) -> StatChanges:
    """Raises QuotaExceeded for a size, InvalidArgument for a time that no file can have."""
    if changes.size is not None and changes.size > OFFSET_MAX:
        raise QuotaExceeded(f"a file has at most {OFFSET_MAX} bytes")
    return StatChanges(
        mode=None if changes.mode is None else changes.mode & _MODE_BITS,
        uid=changes.uid,
        gid=changes.gid,
        size=changes.size,
        atime_ns=_nanoseconds("atime", changes.atime),
        mtime_ns=_nanoseconds("mtime", changes.mtime),
        name=changes.name,
        symlink_target=changes.symlink_target,
    )


def _nanoseconds(name: str, seconds: int | None) -> int | None:
    if seconds is None:
        return None
    if seconds > _TIME_S_MAX:
        raise InvalidArgument(f"{name} must be at most {_TIME_S_MAX} seconds")
    return seconds * _SECOND


# -- Requests, as clients write them. -------------------------------------------------------


def flags_to_wire(flags: OpenFlags) -> Flags:
    return Flags(
        flags.read,
        flags.write,
        flags.create,
        flags.truncate,
        flags.append,
        flags.directory,
        flags.exclusive,
    )


def changes_to_wire(changes: StatChanges) -> Changes:
    return Changes(
        mode=changes.mode,
        uid=changes.uid,
        gid=changes.gid,
        size=changes.size,
        atime=None if changes.atime_ns is None else changes.atime_ns // _SECOND,
        mtime=None if changes.mtime_ns is None else changes.mtime_ns // _SECOND,
        name=changes.name,
        symlink_target=changes.symlink_target,
    )


# -- Replies. -------------------------------------------------------------------------------


def info_to_wire(info: FileInfo) -> Info:
    atime_s = info.atime_ns // _SECOND
    mtime_s = info.mtime_ns // _SECOND
    ctime_s = info.ctime_ns // _SECOND
    target = info.symlink_target
    return Info(
        info.path,
        info.size,
        info.file_type,
        info.mode,
        info.uid,
        info.gid,
        atime_s if atime_s > 0 else 0,
        mtime_s if mtime_s > 0 else 0,
        ctime_s if ctime_s > 0 else 0,
        info.etag,
        UNSET if target is None else target,
    )


def info_from_wire(info: Info) -> FileInfo:
    """Times come back as whole seconds."""
    return FileInfo(
        path=info.path,
        size=info.size,
        file_type=info.file_type,
        mode=info.mode,
        uid=info.uid,
        gid=info.gid,
        atime_ns=info.atime * _SECOND,
        mtime_ns=info.mtime * _SECOND,
        ctime_ns=info.ctime * _SECOND,
        etag=info.etag,
        symlink_target=None if info.symlink_target is UNSET else info.symlink_target,
    )


def encode_info(info: FileInfo) -> bytes:
    return encode(info_to_wire(info))


def decode_info(body: Buffer) -> FileInfo:
    return info_from_wire(_decode_info(body))


def encode_infos(infos: Iterable[FileInfo]) -> bytes:
    return encode([info_to_wire(info) for info in infos])


def decode_infos(body: Buffer) -> list[FileInfo]:
    return [info_from_wire(info) for info in _decode_infos(body)]


def encode_open(handle_id: str, info: FileInfo) -> bytes:
    return encode(OpenReply(handle_id, info_to_wire(info)))


def decode_open(body: Buffer) -> tuple[str, FileInfo]:
    reply = _decode_open(body)
    return reply.handle_id, info_from_wire(reply.metadata)


def encode_statfs(stats: FsStats) -> bytes:
    return encode(stats)


def decode_statfs(body: Buffer) -> FsStats:
    return _decode_statfs(body)


def capability_names(capabilities: Capability) -> list[str]:
    return [name for name, bit in CAPABILITY_NAMES if bit in capabilities]


def capabilities_from_names(names: Sequence[str]) -> Capability:
    """The union of the named capabilities; names we do not know are ignored."""
    found = Capability(0)
    for name, bit in CAPABILITY_NAMES:
        if name in names:
            found |= bit
    return found


def rfc3339(seconds: int) -> str:
    """Seconds since 1970 as `2026-01-31T12:00:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
