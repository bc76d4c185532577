"""One instance of a plugin, and its calls as they are in C: values in, values or an error out.

From any thread, many at once: every call has structures of its own. What the plugin returns is
copied before anything else happens, and freed once. What is wrong with the answer (more bytes
than asked for, a name that is not UTF-8) is found here; what it means for files is
`fs9.providers.native.tree`'s business.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from fs9.errors import Fs9Error, Internal, InvalidArgument
from fs9.providers.native import abi
from fs9.providers.native.abi import ffi
from fs9.types import Buffer, FileInfo, FileType, FsStats, OpenFlags, StatChanges

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.providers.native.library import Library

_SECOND_NS = 1_000_000_000
_TYPES = {abi.DIRECTORY: FileType.DIRECTORY, abi.SYMLINK: FileType.SYMLINK}
_MODE_BITS = 0o7777
#: Of the text of an error this much is kept.
_TEXT_BYTES_MAX = 4096
#: No text, no path is longer: such a length is a mistake, and what is there is not looked at.
_LENGTH_MAX = 2**32
#: Times beyond are cut: nanoseconds must fit into 64 bits everywhere.
_TIME_MAX_S = 2**63 // _SECOND_NS - 1


class Instance:
    """An instance of the plugin; `destroy` ends it, after the last call has returned."""

    def __init__(self, library: Library, config: bytes) -> None:
        """`config` is JSON text. Raises InvalidArgument when the plugin does not accept it."""
        if b"\0" in config:
            raise InvalidArgument("a plugin's config cannot hold a NUL")
        self._library = library
        self._table = library.table
        self._self = self._table.create(config, len(config))
        if not self._self:
            raise InvalidArgument(f"the plugin {library.name} does not accept its config")
        self._running = 0
        self._idle = threading.Condition()

    def destroy(self) -> None:
        """Call it once; waits for calls that are inside."""
        with self._idle:
            self._idle.wait_for(lambda: not self._running)
            handle, self._self = self._self, None
        self._table.destroy(handle)

    def __enter__(self) -> Any:  # noqa: ANN401  a C pointer
        with self._idle:
            if self._self is None:
                raise Internal("the plugin's instance is destroyed")
            self._running += 1
            return self._self

    def __exit__(self, *exc_info: object) -> None:
        with self._idle:
            self._running -= 1
            if not self._running:
                self._idle.notify_all()

    def capabilities(self) -> int:
        with self as me:
            return int(self._table.capabilities(me))

    def stat(self, path: str) -> FileInfo:
        raw, out = encoded(path), ffi.new("fs9_info *")
        with self as me:
            _check(self._table.stat(me, raw, len(raw), out), path)
        return _info(out, path)

    def wstat(self, path: str, changes: StatChanges) -> None:
        raw = encoded(path)
        wanted, kept = _changes(changes)
        with self as me:
            _check(self._table.wstat(me, raw, len(raw), wanted), path)
        del kept  # the texts had to live until now

    def statfs(self, path: str) -> FsStats:
        raw, out = encoded(path), ffi.new("fs9_space *")
        with self as me:
            _check(self._table.statfs(me, raw, len(raw), out), path)
        return FsStats(
            total_bytes=out.total_bytes,
            free_bytes=out.free_bytes,
            total_inodes=out.total_inodes,
            free_inodes=out.free_inodes,
            block_size=out.block_size,
            max_name_len=out.max_name_len,
        )

    def open(self, path: str, flags: OpenFlags) -> tuple[int, FileInfo]:
        raw = encoded(path)
        wanted = ffi.new("fs9_open_flags *")
        for name in ("read", "write", "create", "truncate", "append", "directory"):
            setattr(wanted, name, getattr(flags, name))
        handle, out = ffi.new("uint64_t *"), ffi.new("fs9_info *")
        with self as me:
            _check(self._table.open(me, raw, len(raw), wanted, handle, out), path)
        return int(handle[0]), _info(out, path)

    def read(self, handle: int, offset: int, size: int, path: str) -> bytes:
        out = ffi.new("fs9_buffer *")
        with self as me:
            _check(self._table.read(me, handle, offset, size, out), path)
            try:
                length = out.len
                if length > size:
                    raise Internal(f"{path}: the plugin gave {length} bytes of at most {size}")
                if length and not out.data:
                    raise Internal(f"{path}: the plugin gave {length} bytes and no address")
                # An empty answer may have an address that is none: it is never looked at.
                return bytes(ffi.buffer(out.data, length)) if length else b""
            finally:
                self._library.free(out)

    def write(self, handle: int, offset: int, data: Buffer, path: str) -> int:
        """The number of bytes written, as the plugin reports it."""
        written = ffi.new("size_t *")
        source = ffi.from_buffer("uint8_t[]", data)
        with self as me:
            _check(self._table.write(me, handle, offset, source, len(data), written), path)
        if written[0] > len(data):
            raise Internal(f"{path}: the plugin wrote {written[0]} bytes of {len(data)}")
        return int(written[0])

    def close(self, handle: int, sync: bool, path: str) -> None:
        with self as me:
            _check(self._table.close(me, handle, sync), path)

    def readdir(self, path: str, each: Callable[[bytes, FileInfo], bool]) -> None:
        """Call `each` with the last part of each entry's path, and its info with path "".

        Until it returns False. What it raises ends the listing and is raised here.
        """
        raw = encoded(path)
        raised: list[BaseException] = []

        def entry(info: Any, _: Any) -> int:  # noqa: ANN401  C pointers
            try:
                if info.path_len > _LENGTH_MAX:
                    raise Internal(f"{path}: the plugin gave an entry of {info.path_len} bytes")
                whole = bytes(ffi.buffer(info.path, info.path_len)) if info.path else b""
                return 0 if each(whole.rpartition(b"/")[2], _info(info, "")) else 1
            except BaseException as error:
                raised.append(error)
                return 1

        callback = ffi.callback("fs9_entry_fn", entry)
        with self as me:
            result = self._table.readdir(me, raw, len(raw), callback, ffi.NULL)
            if raised:
                raise raised[0]
            _check(result, path)

    def remove(self, path: str) -> None:
        raw = encoded(path)
        with self as me:
            _check(self._table.remove(me, raw, len(raw)), path)


def encoded(text: str) -> bytes:
    """The text for C. Raises InvalidArgument for a NUL and for what is not Unicode."""
    if "\0" in text:
        raise InvalidArgument("NUL in a path")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument("a path must be UTF-8") from None


class PluginError(Exception):
    """A refusal by the plugin: its code beside the error that it becomes."""

    def __init__(self, code: int, message: str, error: Fs9Error) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.error = error


def _check(result: Any, path: str) -> None:  # noqa: ANN401  a C structure
    code = result.code
    if code == 0:
        return
    message = ""
    if result.msg and result.msg_len:
        if result.msg_len > _LENGTH_MAX:
            raise Internal(f"{path}: the plugin gave a text of {result.msg_len} bytes")
        text = ffi.buffer(result.msg, min(result.msg_len, _TEXT_BYTES_MAX))
        message = bytes(text).decode(errors="replace")
    raise PluginError(code, message, abi.error(code, message, path))


def _info(info: Any, path: str) -> FileInfo:  # noqa: ANN401  a C structure
    return FileInfo(
        path,
        info.size,
        _TYPES.get(info.kind, FileType.REGULAR),
        info.mode & _MODE_BITS,
        info.uid,
        info.gid,
        _nanoseconds(info.atime),
        _nanoseconds(info.mtime),
        _nanoseconds(info.ctime),
    )


def _nanoseconds(seconds: int) -> int:
    return max(-_TIME_MAX_S, min(_TIME_MAX_S, seconds)) * _SECOND_NS


def _changes(changes: StatChanges) -> tuple[Any, list[Any]]:
    """The C structure, and the objects that must outlive it."""
    wanted = ffi.new("fs9_changes *")
    kept: list[Any] = []
    for name in ("mode", "uid", "gid", "size"):
        value = getattr(changes, name)
        if value is not None:
            setattr(wanted, f"has_{name}", 1)
            setattr(wanted, name, value)
    for name in ("atime", "mtime"):
        value = getattr(changes, f"{name}_ns")
        if value is not None:
            setattr(wanted, f"has_{name}", 1)
            setattr(wanted, name, value // _SECOND_NS)
    for name, text in (("name", changes.name), ("symlink", changes.symlink_target)):
        if text is not None:
            raw = encoded(text)
            kept.append(ffi.new("char[]", raw))
            setattr(wanted, f"has_{name}", 1)
            setattr(wanted, name, kept[-1])
            setattr(wanted, f"{name}_len", len(raw))
    return wanted, kept
