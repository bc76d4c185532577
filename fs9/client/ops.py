"""Every operation of the file API once, without any input or output.

Each function is a generator: it yields a `Request`, is sent the `Answer` (or thrown the error
that an answer stands for), may yield more, and returns the operation's value. `aio` and
`sync` drive them over HTTP; they know nothing of the protocol, and these know nothing of
sockets. Paths are namespace paths ("/a/b"). Downloads are in `downloads`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeAlias, TypeVar

import msgspec

from fs9.client.failures import UnexpectedAnswer
from fs9.client.policy import Repeat
from fs9.errors import (
    AlreadyExists,
    Fs9Error,
    InvalidArgument,
    InvalidHandle,
    NotDirectory,
    NotFound,
)
from fs9.limits import MIB
from fs9.path import clean, join, split
from fs9.types import ALWAYS, MKDIR, Buffer, Condition, FileInfo, FsStats, OpenFlags, StatChanges
from fs9.wire import codec, messages
from fs9.wire.route import BYTES, JSON, NEXT_CURSOR, BodyKind
from fs9.wire.routes import BY_NAME

T = TypeVar("T")

#: Bytes of one `read`, unless told otherwise: what the server answers in one piece.
READ_BYTES = MIB
#: Symbolic links on the way to one file, as Linux has it (ELOOP).
LINKS_MAX = 40
#: Entries asked for at once when a listing is walked in pages.
PAGE_ENTRIES = 1000


class Request(msgspec.Struct, gc=False):
    """What to send. `path` is below the API prefix, or below the root when not `prefixed`.

    `takes_source` says that the body is the driver's source of bytes; `streams` that the body
    of a successful answer stays unread, for the driver's caller to iterate. `settled_by` is the
    error that, after an attempt whose fate is unknown, says that it had succeeded.
    """

    method: str
    path: str
    repeat: Repeat
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    body: Buffer | None = None
    takes_source: bool = False
    streams: bool = False
    prefixed: bool = True
    settled_by: type[Fs9Error] | None = None


class Answer(msgspec.Struct, gc=False):
    """A success, or a 304. `headers` has lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Handle(msgspec.Struct, frozen=True):
    """An open file on the server; `info` is its stat at open."""

    handle_id: str
    info: FileInfo
    flags: OpenFlags


class Uploaded(msgspec.Struct, frozen=True):
    """A file that was replaced; `etag` is its new version ("" from servers that do not say)."""

    path: str
    bytes_written: int
    etag: str


Operation: TypeAlias = Generator[Request, Answer, T]


def request_of(
    name: str,
    *,
    repeat: Repeat | None = None,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    json: msgspec.Struct | None = None,
) -> Request:
    """A request to the route `name`; `repeat` None takes what the route table says."""
    route = BY_NAME[name]
    if repeat is None:
        repeat = Repeat.REPEATABLE if route.idempotent else Repeat.ONCE
    all_headers = dict(headers or {})
    if route.body is not BodyKind.NONE:
        all_headers["content-type"] = JSON if route.body is BodyKind.JSON else BYTES
    return Request(
        route.method,
        route.path,
        repeat,
        query=query or {},
        headers=all_headers,
        body=None if json is None else codec.encode(json),
        prefixed=route.prefixed,
    )


def decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    """The value of an answer's JSON."""
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnexpectedAnswer(f"{error}; is this an fs9 server?") from None


def _decoder(shape: Any) -> Callable[[bytes], Any]:  # noqa: ANN401 - msgspec takes any type form
    return msgspec.json.Decoder(shape).decode


_decode_health: Callable[[bytes], messages.HealthReply] = _decoder(messages.HealthReply)
_decode_write: Callable[[bytes], messages.WriteReply] = _decoder(messages.WriteReply)
_decode_upload: Callable[[bytes], messages.UploadReply] = _decoder(messages.UploadReply)
_decode_capabilities: Callable[[bytes], messages.CapabilitiesReply] = _decoder(
    messages.CapabilitiesReply
)
_decode_mounts: Callable[[bytes], list[messages.MountReply]] = _decoder(list[messages.MountReply])
_decode_events: Callable[[bytes], list[messages.EventReply]] = _decoder(list[messages.EventReply])
_decode_namespace: Callable[[bytes], messages.NamespaceReply] = _decoder(messages.NamespaceReply)
_decode_namespaces: Callable[[bytes], list[messages.NamespaceReply]] = _decoder(
    list[messages.NamespaceReply]
)


def condition_of(if_match: str | None, if_none_match: str | None) -> Condition:
    """The precondition on one etag each, as the surface takes it ("*" for any)."""
    return Condition(
        None if if_match is None else (if_match,),
        None if if_none_match is None else (if_none_match,),
    )


def condition_headers(condition: Condition) -> dict[str, str]:
    """The precondition as headers (RFC 9110, section 13.1)."""
    headers = {}
    if condition.if_match is not None:
        headers["if-match"] = _tags(condition.if_match)
    if condition.if_none_match is not None:
        headers["if-none-match"] = _tags(condition.if_none_match)
    return headers


def _tags(etags: tuple[str, ...]) -> str:
    return ", ".join(etag if etag == "*" else f'"{etag}"' for etag in etags)


# -- Files by path. -------------------------------------------------------------------------


def health() -> Operation[messages.HealthReply]:
    answer = yield request_of("health")
    return decoded(_decode_health, answer.body)


def stat(path: str) -> Operation[FileInfo]:
    answer = yield request_of("stat", query={"path": path})
    return decoded(codec.decode_info, answer.body)


def stat_followed(path: str) -> Operation[FileInfo]:
    """The file that `path` leads to through symbolic links, which the server does not follow.

    One request as long as there is no link. The path in the result has none. An absolute
    target starts at the root of the namespace. Raises NotFound, InvalidArgument for a loop.
    """
    try:
        info = yield from stat(path)
        if not info.is_symlink:
            return info
    except (NotFound, NotDirectory):
        if path.count("/") < 2:  # no parent that could be a link
            raise
    return (yield from _follow(clean(path)))


def _follow(path: str) -> Operation[FileInfo]:
    """The same name by name, as path_resolution(7) has it."""
    info = yield from stat("/")
    pending = path.split("/")[:0:-1]
    links = 0
    while pending:
        name = pending.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            info = yield from stat(split(info.path)[0])
            continue
        found = yield from stat(join(info.path, name))
        if found.symlink_target is None:
            info = found
            continue
        links += 1
        if links > LINKS_MAX:
            raise InvalidArgument(f"too many symbolic links: {path}")
        if found.symlink_target.startswith("/"):
            info = yield from stat("/")
        pending.extend(reversed(found.symlink_target.split("/")))
    return info


def find(path: str) -> Operation[FileInfo | None]:
    """The file's stat, or None when there is none, also because a parent is no directory."""
    try:
        return (yield from stat(path))
    except (NotFound, NotDirectory):
        return None


def wstat(
    path: str,
    changes: StatChanges,
    condition: Condition = ALWAYS,
    *,
    repeat: Repeat | None = None,
) -> Operation[None]:
    body = messages.WstatRequest(path, codec.changes_to_wire(changes))
    yield request_of("wstat", repeat=repeat, json=body, headers=condition_headers(condition))


def statfs(path: str) -> Operation[FsStats]:
    answer = yield request_of("statfs", query={"path": path})
    return decoded(codec.decode_statfs, answer.body)


def remove(path: str, condition: Condition = ALWAYS) -> Operation[None]:
    yield request_of("remove", query={"path": path}, headers=condition_headers(condition))


def readdir(
    path: str, limit: int | None = None, cursor: str = ""
) -> Operation[tuple[list[FileInfo], str]]:
    """(entries, cursor of the next page); the cursor is "" after the last page."""
    query = {"path": path}
    if limit is not None:
        query["limit"] = str(limit)
    if cursor:
        query["cursor"] = cursor
    answer = yield request_of("readdir", query=query)
    return decoded(codec.decode_infos, answer.body), answer.headers.get(NEXT_CURSOR, "")


# -- Open files. ----------------------------------------------------------------------------


def open_handle(
    path: str, flags: OpenFlags, condition: Condition = ALWAYS, *, repeat: Repeat | None = None
) -> Operation[Handle]:
    body = messages.OpenRequest(path, codec.flags_to_wire(flags))
    if repeat is None:
        repeat = Repeat.ONCE if flags.create or flags.truncate else Repeat.REPEATABLE
    headers = condition_headers(condition)
    answer = yield request_of("open", repeat=repeat, json=body, headers=headers)
    handle_id, info = decoded(codec.decode_open, answer.body)
    return Handle(handle_id, info, flags)


def read(handle: Handle | str, offset: int, size: int) -> Operation[bytes]:
    """At most `size` bytes; fewer at the end of the file, none after it."""
    answer = yield request_of("read", json=messages.ReadRequest(_id(handle), offset, size))
    return answer.body


def write(handle: Handle | str, offset: int, data: Buffer) -> Operation[int]:
    """All of `data` at `offset`, or an error; on an append handle `offset` is ignored.

    One call is one request, so that message-like files get one message.
    """
    appends = not isinstance(handle, Handle) or handle.flags.append
    request = request_of(
        "write",
        repeat=Repeat.ONCE if appends else Repeat.REPEATABLE,
        query={"handle_id": _id(handle), "offset": str(offset)},
    )
    request.body = data
    answer = yield request
    return decoded(_decode_write, answer.body).bytes_written


def close(handle: Handle | str, *, sync: bool = False) -> Operation[None]:
    """Release the handle; with `sync` the bytes survive a loss of power.

    When an attempt was lost and the next one finds no such handle, the first has closed it:
    ids are never used again. Only `sync` cannot be taken for granted then.
    """
    body = messages.CloseRequest(_id(handle), sync)
    request = request_of("close", repeat=Repeat.REPEATABLE, json=body)
    request.settled_by = None if sync else InvalidHandle
    yield request


def mkdir(path: str, *, exist_ok: bool = False) -> Operation[bool]:
    """Make one directory; returns False when `exist_ok` and it was there already.

    The wire makes a directory by opening it, so the handle is closed at once.
    """
    repeat = Repeat.REPEATABLE if exist_ok else Repeat.ONCE
    try:
        handle = yield from open_handle(path, MKDIR, repeat=repeat)
    except AlreadyExists:
        if not exist_ok or not (yield from stat(path)).is_dir:
            raise
        return False
    yield from close(handle)
    return True


def makedirs(path: str) -> Operation[None]:
    """Make a directory and its missing parents; no error when it exists."""
    try:
        yield from mkdir(path, exist_ok=True)
    except NotFound:
        parent = path.rstrip("/").rpartition("/")[0]
        if not parent:
            raise
        yield from makedirs(parent)
        yield from mkdir(path, exist_ok=True)


def ensure_directory(path: str, there: FileInfo | None = None) -> Operation[bool]:
    """A directory whose owner can write into it, for what is to come; was it made just now?

    `there` is what a listing has just told about `path`, if any has.
    """
    if there is None or not there.is_dir:
        if (yield from mkdir(path, exist_ok=True)):
            return True
        there = yield from stat(path)
    if there.mode & 0o700 != 0o700:
        changes = StatChanges(mode=there.mode & 0o7777 | 0o700)
        yield from wstat(path, changes, repeat=Repeat.REPEATABLE)
    return False


def ensure_symlink(path: str, target: str) -> Operation[None]:
    """A symbolic link to `target` at `path`, in place of a file or of another link."""
    changes = StatChanges(symlink_target=target)
    try:
        yield from wstat(path, changes, repeat=Repeat.REPEATABLE)
    except AlreadyExists:
        there = yield from stat(path)
        if there.symlink_target == target:
            return
        if there.is_dir:
            raise
        yield from remove(path)
        yield from wstat(path, changes, repeat=Repeat.REPEATABLE)


def append(path: str, data: Buffer, *, create: bool) -> Operation[int]:
    """Add `data` to the end of a file, wherever that is when it arrives."""
    flags = OpenFlags(write=True, append=True, create=create)
    handle = yield from open_handle(path, flags)
    try:
        written = yield from write(handle, 0, data)
    except Fs9Error:
        yield from abandon(handle)
        raise
    yield from close(handle)
    return written


def abandon(handle: Handle, unwanted: str | None = None) -> Operation[None]:
    """Close, and remove `unwanted`, without hiding the error that is on its way.

    The server closes an idle handle by itself, should this fail, too.
    """
    with contextlib.suppress(Fs9Error):
        yield from close(handle)
    if unwanted is not None:
        try:
            yield from remove(unwanted)
        except Fs9Error:
            return


def _id(handle: Handle | str) -> str:
    return handle.handle_id if isinstance(handle, Handle) else handle


# -- Whole files. ---------------------------------------------------------------------------


def upload(path: str, length: int | None, condition: Condition = ALWAYS) -> Operation[Uploaded]:
    """Replace a whole file in one step, with what the driver's source yields.

    `length` None sends the body chunked. Readers see the old file or the new one.
    """
    headers = condition_headers(condition)
    repeat = Repeat.ONCE if headers else None
    if length is not None:
        headers["content-length"] = str(length)
    request = request_of("upload", repeat=repeat, query={"path": path}, headers=headers)
    request.takes_source = True
    answer = yield request
    reply = decoded(_decode_upload, answer.body)
    if length is not None and reply.bytes_written != length:
        raise UnexpectedAnswer(f"{reply.bytes_written} of {length} bytes were stored")
    return Uploaded(reply.path, reply.bytes_written, answer.headers.get("etag", "").strip('"'))


# -- The namespace. -------------------------------------------------------------------------


def capabilities(path: str) -> Operation[messages.CapabilitiesReply]:
    answer = yield request_of("capabilities", query={"path": path})
    return decoded(_decode_capabilities, answer.body)


def mounts() -> Operation[list[messages.MountReply]]:
    answer = yield request_of("mounts")
    return decoded(_decode_mounts, answer.body)


def events(
    limit: int, offset: int, path: str | None, event_type: str | None
) -> Operation[list[messages.EventReply]]:
    query = {"limit": str(limit), "offset": str(offset)}
    if path is not None:
        query["path"] = path
    if event_type is not None:
        query["type"] = event_type
    answer = yield request_of("events", query=query)
    return decoded(_decode_events, answer.body)


def endless(route: str, path: str, cursor: str) -> Operation[None]:
    """Begin an answer of server-sent events, after the cursor; its body stays unread."""
    headers = {"accept": "text/event-stream"}
    if cursor:
        headers["last-event-id"] = cursor
    request = request_of(route, query={"path": path}, headers=headers)
    request.streams = True
    yield request


def create_namespace(name: str) -> Operation[messages.NamespaceReply]:
    answer = yield request_of("namespace_create", json=messages.NamespaceRequest(name))
    return decoded(_decode_namespace, answer.body)


def namespaces() -> Operation[list[messages.NamespaceReply]]:
    answer = yield request_of("namespace_list")
    return decoded(_decode_namespaces, answer.body)


def namespace(name: str) -> Operation[messages.NamespaceReply]:
    request = request_of("namespace_get")
    request.path = request.path.format(ns=name)
    answer = yield request
    return decoded(_decode_namespace, answer.body)
