"""The handle journal: which handles a namespace has open, for whoever owns it next.

One file of JSON lines for each namespace that has handles: appended with one write(2) at each open
and close, never synced, so it survives the process but not a loss of power. A new owner reads it;
the handles in it are *dormant* until they are used (`fs9.vfs.revival`).

    opened    a handle, its path, flags, the file's id, and who opened it with which credential
    closed    handles
    begun     a rename or, without a target, a removal; then one of
      moved, gone    it was done: the file has another path, or none
      kept           it was refused
    gone      also a file that a new version replaced, except for handles of the version `kept`

A change of which only the beginning is known was cut off by a crash: it is `unsettled`, and the new
owner checks whether the path still exists. Everything belongs to the event loop; only reading and
rewriting happen in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from fs9.errors import Fs9Error
from fs9.path import is_within
from fs9.principal import CREDENTIAL_BYTES, Principal
from fs9.types import OpenFlags
from fs9.vfs.dormant import Handles, Known

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Self

    from fs9.threads import BlockingPool

log = logging.getLogger(__name__)

#: Records of handles closed meanwhile that a file may have, before it is written anew.
_SLACK_RECORDS = 1024
#: Suffixes that no namespace name has.
_NEW = ".new"
_UNREADABLE = ".unreadable"

#: The flags a handle is registered with again, by bit. A replacement is never journaled.
_FLAGS = ("read", "write", "create", "truncate", "append", "directory", "exclusive")


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="o", gc=False):
    handle_id: str
    path: str
    bits: int
    file_id: str
    user: str
    #: What a revocation can mean; the credential is half of its digest.
    credential: bytes = b""
    issued_at_s: int = 0
    jti: str = ""
    key_id: str = ""
    origin: bytes = b""
    origin_jti: str = ""


class Closed(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    handle_ids: list[str]


class Begun(msgspec.Struct, frozen=True, array_like=True, tag="b", gc=False):
    path: str
    target: str


class Moved(msgspec.Struct, frozen=True, array_like=True, tag="m", gc=False):
    path: str
    target: str


class Gone(msgspec.Struct, frozen=True, array_like=True, tag="g", gc=False):
    path: str
    kept: str = ""


class Kept(msgspec.Struct, frozen=True, array_like=True, tag="k", gc=False):
    path: str
    target: str


Record: TypeAlias = Opened | Closed | Begun | Moved | Gone | Kept

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
_decode_lines = msgspec.json.Decoder(Record).decode_lines


class HandleJournal:
    """The journals of one fleet, in one directory."""

    def __init__(self, directory: Path, pool: BlockingPool) -> None:
        """Makes the directory."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._pool = pool

    async def load(self, storage: str) -> NamespaceJournal:
        """That of the namespace with this storage; the caller holds its lock until it is closed.

        One that cannot be read is set aside, and its handles are lost.
        """
        path = self._directory / storage
        return NamespaceJournal(path, *await self._pool.run(_load, path), self._pool)


def clear_journals(directory: Path) -> None:
    """For a fleet that starts anew: no handle of an earlier one is valid."""
    if directory.is_dir():
        for path in directory.iterdir():
            path.unlink(missing_ok=True)


class NamespaceJournal:
    """One namespace's journal, and the handles in it that are dormant.

    `dormant` is kept true by the same calls that write records.
    """

    __slots__ = (
        "_broken",
        "_changes",
        "_fd",
        "_open",
        "_path",
        "_pool",
        "_records",
        "_rewriting",
        "_watches",
        "dormant",
        "unsettled",
    )

    def __init__(
        self,
        path: Path,
        dormant: Handles,
        unsettled: list[tuple[str, str]],
        pool: BlockingPool,
    ) -> None:
        self._path = path
        self._pool = pool
        self._fd = -1
        self._broken = False
        #: Handles in the file, dormant ones too, and lines in it.
        self._open = self._records = len(dormant)
        self._rewriting: asyncio.Task[None] | None = None
        self.dormant = dormant
        self.unsettled = unsettled
        #: Renames and removals in progress.
        self._changes: list[tuple[str, str]] = []
        self._watches: set[Watch] = set()

    def opened(
        self, handle_id: str, path: str, flags: OpenFlags, file_id: str, opener: Principal
    ) -> None:
        self._open += 1
        self._append(_opened(handle_id, Known(path, bits_of(flags), file_id, opener)))

    def closed(self, handle_ids: list[str]) -> None:
        """Record that these journaled handles are closed or expired."""
        for handle_id in handle_ids if self.dormant else ():
            self.dormant.discard(handle_id)
        self._open -= len(handle_ids)
        self._append(Closed(handle_ids))

    def changing_path(self, path: str, target: str = "") -> Change:
        """Around a rename to `target`, or a removal."""
        return Change(self, path, target)

    def replaced(self, path: str, file_id: str) -> None:
        """The path has a new version, with this id; what was there has no path any more."""
        if self._open:
            self.dormant.lose(path, file_id)
            self._append(Gone(path, file_id))

    def begin(self, path: str, target: str) -> None:
        self._changes.append((path, target))
        if self._open:
            self._append(Begun(path, target))

    def end(self, path: str, target: str, done: bool | None) -> None:
        """`done`: None when nobody knows, which is settled by the next owner."""
        self._changes.remove((path, target))
        for watch in self._watches:
            watch.moved |= _concerns(watch.path, path, target)
        if not self._open or done is None:
            return
        if not done:
            self._append(Kept(path, target))
        elif target:
            self.dormant.move(path, target)
            self._append(Moved(path, target))
        else:
            self.dormant.lose(path)
            self._append(Gone(path))

    def settle(self, path: str, target: str, *, done: bool) -> None:
        """Record the result of an unsettled change."""
        self._changes.append((path, target))
        self.end(path, target, done)

    def changing(self, path: str) -> bool:
        """Is the path being renamed, replaced or removed, by itself or with a directory?"""
        return any(_concerns(path, source, target) for source, target in self._changes)

    def watch(self, path: str) -> Watch:
        """`with` it, whether a rename or removal of the path was in progress or ended."""
        return Watch(self, path)

    def tidy(self) -> None:
        """Remove the file when no handle is in it."""
        if not self._open and self._fd >= 0 and self._rewriting is None:
            os.close(self._fd)
            self._fd, self._records = -1, 0
            self._path.unlink(missing_ok=True)

    async def aclose(self) -> None:
        """Leave the file to the next owner; records that follow are not written."""
        self._broken = True
        if self._rewriting is not None:
            await asyncio.wait([self._rewriting])
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if not self._open:
            with suppress(OSError):  # the next owner finds nothing open in it
                self._path.unlink(missing_ok=True)

    def _append(self, record: Record) -> None:
        """One write; a handle more or less costs a few microseconds."""
        if self._broken:
            return
        line = _encode(record) + b"\n"
        try:
            if self._fd < 0:
                self._fd = _open_file(self._path)
            if os.write(self._fd, line) != len(line):
                raise OSError("short write")
        except OSError as error:
            self._give_up(error)
            return
        self._records += 1
        if self._records > 2 * self._open + _SLACK_RECORDS and self._rewriting is None:
            self._shrink()

    def _give_up(self, error: OSError) -> None:
        """Stop journaling, as the file would miss a close: handles end with this owner."""
        log.error("the handle journal %s cannot be written: %s", self._path, error)
        self._broken = True
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _shrink(self) -> None:
        if not self._open:
            os.ftruncate(self._fd, 0)
            self._records = 0
        else:
            self._rewriting = asyncio.get_running_loop().create_task(self._rewrite())

    async def _rewrite(self) -> None:
        """Write the file anew without what is over, while records go on being appended."""
        size, before = os.fstat(self._fd).st_size, self._records
        new = self._path.with_name(self._path.name + _NEW)
        try:
            count = await self._pool.run(_rewrite, self._path, new, size)
            # From here on nothing else runs: what was appended meanwhile comes after.
            rest = os.pread(self._fd, os.fstat(self._fd).st_size - size, size)
            fd = _open_file(new)
            if self._broken or os.write(fd, rest) != len(rest):
                os.close(fd)
                new.unlink()
                return
            os.replace(new, self._path)
            os.close(self._fd)
            self._fd, self._records = fd, count + self._records - before
        except (OSError, msgspec.MsgspecError) as error:
            self._give_up(OSError(f"not rewritten: {error}"))
        finally:
            self._rewriting = None


class Change:
    """Context manager: journals a change of a path before and after it."""

    __slots__ = ("_journal", "_path", "_target")

    def __init__(self, journal: NamespaceJournal, path: str, target: str) -> None:
        self._journal = journal
        self._path = path
        self._target = target

    def __enter__(self) -> None:
        self._journal.begin(self._path, self._target)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        done: bool | None = error is None
        if error is not None and (not isinstance(error, Fs9Error) or error.retryable):
            done = None
        self._journal.end(self._path, self._target, done)


class Watch:
    """Notices changes of one path, those that were undone again too."""

    __slots__ = ("_journal", "moved", "path")

    def __init__(self, journal: NamespaceJournal, path: str) -> None:
        self._journal = journal
        self.path = path
        self.moved = False

    def __enter__(self) -> Self:
        self._journal._watches.add(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self._journal._watches.discard(self)
        self.moved |= self._journal.changing(self.path)


def _concerns(path: str, source: str, target: str) -> bool:
    """Does a rename from source to target, or a removal, move what is at the path?"""
    return is_within(path, source) or (target != "" and is_within(path, target))


def bits_of(flags: OpenFlags) -> int:
    return (
        flags.read
        | flags.write << 1
        | flags.create << 2
        | flags.truncate << 3
        | flags.append << 4
        | flags.directory << 5
        | flags.exclusive << 6
    )


def flags_of(bits: int) -> OpenFlags:
    return OpenFlags(**{name: bool(bits >> bit & 1) for bit, name in enumerate(_FLAGS)})


# -- in a thread ----------------------------------------------------------------------------


def _open_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _load(path: Path) -> tuple[Handles, list[tuple[str, str]]]:
    """What the file adds up to; it is written anew, or removed when there is nothing."""
    try:
        data = path.read_bytes()
        handles, unsettled, count = _replay(data, path.name)
        if not handles:
            path.unlink()
        elif count != len(handles) or not data.endswith(b"\n"):
            new = path.with_name(path.name + _NEW)
            _write(new, handles, unsettled)
            os.replace(new, path)
    except FileNotFoundError:
        return Handles(), []
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.error("the handle journal %s cannot be read, its handles are lost: %s", path, error)
        with suppress(OSError):
            os.replace(path, path.with_name(path.name + _UNREADABLE))
        return Handles(), []
    return handles, unsettled


def _rewrite(path: Path, new: Path, size: int) -> int:
    """Write what the first `size` bytes add up to; how many lines."""
    with path.open("rb") as file:
        handles, unsettled, _ = _replay(file.read(size), path.name)
    return _write(new, handles, unsettled)


def _write(new: Path, handles: Handles, unsettled: Iterable[tuple[str, str]]) -> int:
    records: list[Record] = []
    for handle_id in handles:
        known = handles.get(handle_id)
        assert known is not None
        records.append(_opened(handle_id, known))
    records.extend(Begun(*change) for change in unsettled)
    new.unlink(missing_ok=True)  # left by a crash
    fd = _open_file(new)
    with os.fdopen(fd, "wb") as file:
        file.write(_encode_lines(records))
    return len(records)


def _replay(data: bytes, namespace: str) -> tuple[Handles, list[tuple[str, str]], int]:
    """The handles, the unsettled changes, and the number of records.

    A last line that was cut off by a crash is left out.
    """
    records = _decode_lines(data[: data.rfind(b"\n") + 1])
    handles = Handles()
    #: Each kept once: many handles have one opener.
    openers: dict[Principal, Principal] = {}
    unsettled: dict[tuple[str, str], int] = {}
    for record in records:
        match record:
            case Opened():
                by = _opener(record, namespace)
                by = openers.setdefault(by, by)
                handles.add(record.handle_id, record.path, record.bits, record.file_id, by)
            case Closed():
                for handle_id in record.handle_ids:
                    handles.discard(handle_id)
            case Begun():
                change = (record.path, record.target)
                unsettled[change] = unsettled.get(change, 0) + 1
            case Moved():
                handles.move(record.path, record.target)
                _settled(unsettled, record.path, record.target)
            case Kept():
                _settled(unsettled, record.path, record.target)
            case Gone():
                handles.lose(record.path, record.kept)
                if not record.kept:
                    _settled(unsettled, record.path, "")
    return handles, list(unsettled), len(records)


def _opened(handle_id: str, known: Known) -> Opened:
    path, bits, file_id, by = known
    credential = by.credential[:CREDENTIAL_BYTES]
    means = (by.user, credential, by.issued_at_s, by.jti, by.key_id, by.origin, by.origin_jti)
    return Opened(handle_id, path, bits, file_id, *means)


def _opener(record: Opened, namespace: str) -> Principal:
    return Principal(
        record.user,
        namespace,
        issued_at_s=record.issued_at_s,
        jti=record.jti,
        key_id=record.key_id,
        credential=record.credential,
        origin=record.origin,
        origin_jti=record.origin_jti,
    )


def _settled(unsettled: dict[tuple[str, str], int], path: str, target: str) -> None:
    count = unsettled.get((path, target), 0)
    if count > 1:
        unsettled[path, target] = count - 1
    else:
        unsettled.pop((path, target), None)
