"""The messages between worker and plugin process, and their encoding on the socket.

A frame is a header (number of the call, length of the message, length of the data), the message
in MessagePack, and the bytes read or to be written, which are never encoded. The answer carries
the call's number; answers come in any order.
"""

from __future__ import annotations

import struct
from typing import Any, TypeAlias

import msgspec

from fs9.errors import KINDS, Fs9Error
from fs9.types import Condition, FileInfo, FsStats, OpenFlags, StatChanges

#: Number of the call, bytes of the message, bytes of the data.
HEADER = struct.Struct("<III")


class Stat(msgspec.Struct, frozen=True, tag="stat", array_like=True, gc=False):
    path: str


class Statfs(msgspec.Struct, frozen=True, tag="statfs", array_like=True, gc=False):
    path: str


class Wstat(msgspec.Struct, frozen=True, tag="wstat", array_like=True, gc=False):
    path: str
    changes: StatChanges
    condition: Condition


class Open(msgspec.Struct, frozen=True, tag="open", array_like=True, gc=False):
    path: str
    flags: OpenFlags
    condition: Condition


class Read(msgspec.Struct, frozen=True, tag="read", array_like=True, gc=False):
    handle: int
    offset: int
    size: int


class Write(msgspec.Struct, frozen=True, tag="write", array_like=True, gc=False):
    """The bytes are the frame's data."""

    handle: int
    offset: int


class Close(msgspec.Struct, frozen=True, tag="close", array_like=True, gc=False):
    handle: int
    sync: bool
    discard: bool


class Readdir(msgspec.Struct, frozen=True, tag="readdir", array_like=True, gc=False):
    path: str
    after: str
    limit: int


class Remove(msgspec.Struct, frozen=True, tag="remove", array_like=True, gc=False):
    path: str
    condition: Condition


class End(msgspec.Struct, frozen=True, tag="end", array_like=True, gc=False):
    """Destroy the instance; the process ends after the answer."""


Request: TypeAlias = Stat | Statfs | Wstat | Open | Read | Write | Close | Readdir | Remove | End


class Opened(msgspec.Struct, frozen=True, tag="opened", array_like=True, gc=False):
    handle: int
    info: FileInfo


class Listed(msgspec.Struct, frozen=True, tag="listed", array_like=True):
    """`unreadable`: entries left out, because their names are not UTF-8."""

    entries: list[FileInfo]
    unreadable: int


class Ready(msgspec.Struct, frozen=True, tag="ready", array_like=True, gc=False):
    """The first answer, without a call: the plugin is loaded and the instance made."""

    name: str
    version: str
    capabilities: int


class Count(msgspec.Struct, frozen=True, tag="count", array_like=True, gc=False):
    written: int


class Found(msgspec.Struct, frozen=True, tag="found", array_like=True, gc=False):
    info: FileInfo


class Space(msgspec.Struct, frozen=True, tag="space", array_like=True, gc=False):
    stats: FsStats


class Done(msgspec.Struct, frozen=True, tag="done", array_like=True, gc=False):
    """Nothing to tell, or only data."""


class Failed(msgspec.Struct, frozen=True, tag="failed", array_like=True, gc=False):
    kind: str
    detail: str

    @classmethod
    def of(cls, error: Fs9Error) -> Failed:
        return cls(error.kind, error.detail)

    def error(self) -> Fs9Error:
        return KINDS[self.kind](self.detail)


Answer: TypeAlias = Opened | Listed | Ready | Count | Found | Space | Done | Failed

encode = msgspec.msgpack.Encoder().encode
decode_request: Any = msgspec.msgpack.Decoder(Request).decode
decode_answer: Any = msgspec.msgpack.Decoder(Answer).decode

DONE = Done()
