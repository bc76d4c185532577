"""The JSON bodies of the contract, as strictly typed structs.

Requests are decoded strictly: a missing field or a wrong type is UnprocessableBody, unknown
fields are ignored. Replies are declared in the order in which the contract lists their keys;
that is the order on the wire. Times are whole seconds since 1970.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from fs9.quota import NO_BOUNDS, NamespaceQuota
from fs9.types import FileType

#: The largest offset and file size: what a POSIX off_t holds.
OFFSET_MAX = 2**63 - 1

U32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
U64 = Annotated[int, Meta(ge=0)]

# -- Requests. ------------------------------------------------------------------------------


class Flags(msgspec.Struct, gc=False):
    """How to open; all default to false. `create` with `directory` makes a directory.

    `exclusive` (with `create`) refuses a path that exists; older servers ignore it.
    """

    read: bool = False
    write: bool = False
    create: bool = False
    truncate: bool = False
    append: bool = False
    directory: bool = False
    exclusive: bool = False


class OpenRequest(msgspec.Struct, gc=False):
    path: str
    flags: Flags


class ReadRequest(msgspec.Struct, gc=False):
    """At most `size` bytes from `offset`."""

    handle_id: str
    offset: U64
    size: U64


class CloseRequest(msgspec.Struct, gc=False):
    """With `sync` the bytes survive a loss of power before the answer comes."""

    handle_id: str
    sync: bool = False


class Changes(msgspec.Struct, gc=False, omit_defaults=True):
    """What wstat changes; an absent or null field stays as it is.

    `name` renames to that full path. `symlink_target` makes a symbolic link at the path.
    When several are given, `symlink_target` alone counts, else `name` alone.
    """

    mode: U32 | None = None
    uid: U32 | None = None
    gid: U32 | None = None
    size: U64 | None = None
    atime: U64 | None = None
    mtime: U64 | None = None
    name: str | None = None
    symlink_target: str | None = None


class WstatRequest(msgspec.Struct, gc=False):
    path: str
    changes: Changes


class NamespaceRequest(msgspec.Struct, gc=False):
    name: str


class MountRequest(msgspec.Struct):
    """`force`: the root is replaced, also when there are files in it."""

    path: str
    provider: str
    config: dict[str, Any] | None = None
    force: bool = False


_Bound = Annotated[int, Meta(ge=0, le=OFFSET_MAX)] | None | UnsetType
#: To let nobody in there is the status `suspended`.
_RateBound = Annotated[int, Meta(ge=1, le=OFFSET_MAX)] | None | UnsetType


class QuotaRequest(msgspec.Struct, gc=False):
    """Null leaves a bound to the settings of the server; what is left out stays."""

    bytes_max: _Bound = UNSET
    files_max: _Bound = UNSET
    handles_max: _Bound = UNSET
    requests_per_second_max: _RateBound = UNSET


class NamespaceChangeRequest(msgspec.Struct):
    """What is left out stays. `mounts` are all that there are from now on."""

    status: Literal["active", "suspended"] | UnsetType = UNSET
    quota: QuotaRequest | UnsetType = UNSET
    mounts: list[MountRequest] | UnsetType = UNSET


class RevokeRequest(msgspec.Struct, gc=False):
    """What to end: a `token`, the tokens of a `user`, one by its `jti`, or all of a `namespace`.

    With `user` or `jti` the namespace narrows what is meant to tokens of it.
    """

    token: str | None = None
    user: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    jti: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    namespace: str | None = None


class PluginLoadRequest(msgspec.Struct, gc=False):
    """A library, by the path on the server, under the name that mounts give."""

    name: str
    path: str


class PluginRequest(msgspec.Struct, gc=False):
    name: str


# -- Replies. -------------------------------------------------------------------------------


class Info(msgspec.Struct, gc=False):
    """One file. `symlink_target` is there only for symbolic links, `etag` may be empty."""

    path: str
    size: int
    file_type: FileType
    mode: int
    uid: int
    gid: int
    atime: int
    mtime: int
    ctime: int
    etag: str = ""
    symlink_target: str | UnsetType = UNSET


class OpenReply(msgspec.Struct, gc=False):
    handle_id: str
    metadata: Info


class WriteReply(msgspec.Struct, gc=False):
    bytes_written: int


class UploadReply(msgspec.Struct, gc=False):
    path: str
    bytes_written: int


class CapabilitiesReply(msgspec.Struct, gc=False):
    capabilities: list[str]
    provider_type: str


class MountReply(msgspec.Struct, gc=False):
    path: str
    provider_name: str


class EventReply(msgspec.Struct, gc=False):
    """`count` equal events within a second are one entry; `timestamp` is in seconds."""

    timestamp: int
    event_type: str
    path: str
    user: str
    count: int


class EventDetails(EventReply, gc=False):
    """An event with all that is known of it. `outcome` is "ok" or the kind of the error.

    `sequence` is its place in the namespace's chain, 0 until it is stored.
    """

    outcome: str
    details: dict[str, Any]
    sequence: int


class EventLink(msgspec.Struct, gc=False):
    """An event as it is stored: a link of the hash chain (docs/operations.md)."""

    sequence: int
    timestamp_ns: int
    event_type: str
    path: str
    user: str
    count: int
    outcome: str
    details: dict[str, Any]
    digest: str
    previous: str


class NamespaceReply(msgspec.Struct, gc=False, omit_defaults=True):
    """`created_at` is RFC 3339 in UTC, to the second; `quota` only has the bounds that are set."""

    name: str
    created_at: str
    created_by: str
    status: str
    quota: NamespaceQuota = NO_BOUNDS


class NamespaceDeletedReply(msgspec.Struct, gc=False):
    """`purged`: its data is gone; else it is kept for the retention."""

    name: str
    status: Literal["deleted"]
    purged: bool


class RefreshReply(msgspec.Struct, gc=False):
    """`expires_in` is in seconds."""

    token: str
    expires_in: int


class PluginReply(msgspec.Struct, gc=False):
    name: str
    status: Literal["loaded"]


class MessageReply(msgspec.Struct, gc=False, omit_defaults=True):
    """One message, as `text` or, when it is none, as `base64`. `written_at`: seconds since 1970."""

    cursor: str
    written_at: float
    text: str | None = None
    base64: str | None = None


class FollowReply(msgspec.Struct, gc=False):
    """`cursor` is the next question's `since`. `lost`: messages that are gone before the first
    one here, -1 when nobody knows how many. `ended`: nothing ever follows.
    """

    cursor: str
    messages: list[MessageReply]
    lost: int = 0
    ended: bool = False


class WatchEvent(msgspec.Struct, gc=False, omit_defaults=True):
    """Something to look at again: at `path` and, after a rename, at `target`.

    `type`: create, write, written, upload, rename, remove, chmod; lost: anything may have happened
    at the path and below; cursor: nothing did, it only says where to go on. `cursor` goes on after
    the event, which was at `at` (seconds since 1970). `moved`: what was created came from where
    this watcher does not look, with all that is in it.
    """

    type: str
    path: str
    cursor: str
    at: float = 0.0
    target: str = ""
    directory: bool = False
    moved: bool = False


class WatchReply(msgspec.Struct, gc=False):
    """`cursor` is the next question's `since`."""

    cursor: str
    events: list[WatchEvent]


class HealthReply(msgspec.Struct, gc=False):
    """`instance_id` is random for each worker process."""

    status: Literal["ok"]
    instance_id: Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]


class LiveReply(msgspec.Struct, gc=False):
    status: Literal["ok"]


class CheckReply(msgspec.Struct, gc=False, omit_defaults=True):
    """One check: `worker`, `meta` (the metadata), `root` (the mount at `/` of `default`)."""

    name: str
    ok: bool
    detail: str = ""


class ReadyReply(msgspec.Struct, gc=False, omit_defaults=True):
    """`checks` when they were asked for."""

    status: Literal["ok"]
    checks: list[CheckReply] | None = None


class VersionReply(msgspec.Struct, gc=False):
    """`version` is that of fs9, `python` the interpreter's."""

    name: Literal["fs9"]
    version: str
    python: str
    instance_id: Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]


class Problem(msgspec.Struct, gc=False, omit_defaults=True):
    """Why a request was refused. `code` is the status; programs decide by `kind`."""

    error: str
    code: int
    kind: str = ""
    path: str = ""


def json_schema(kind: Any) -> dict[str, Any]:  # noqa: ANN401 - msgspec takes any type form
    """The JSON schema of one of these, referring to `#/components/schemas/`."""
    (schema,), _ = msgspec.json.schema_components(
        [kind], ref_template="#/components/schemas/{name}"
    )
    return schema
