"""Bytes between the server and memory, file objects, or files of this host.

Nothing here holds more than a few pieces of a file in memory. A body that breaks is continued
where it broke, when the file has a strong etag and still the same one; otherwise the error is
raised: short data never looks complete.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self, TypeAlias, cast

import httpx2
import msgspec

from fs9.client import downloads, ops
from fs9.client.downloads import Head, Wanted
from fs9.client.failures import ConnectionLost, TruncatedBody
from fs9.client.localfiles import PART_PREFIX, PartFile
from fs9.client.ops import Uploaded
from fs9.client.policy import Repeat
from fs9.errors import Conflict, Fs9Error, IsDirectory, RangeNotSatisfiable
from fs9.limits import MIB
from fs9.path import join, split
from fs9.types import Buffer, OpenFlags, StatChanges

if TYPE_CHECKING:
    from types import TracebackType

    from fs9.client.aio_link import AsyncLink
    from fs9.client.colour import AsyncColour
    from fs9.resilience.backoff import Backoff

#: Called with (bytes done, bytes in all or None when that is not known).
Progress: TypeAlias = Callable[[int, int | None], None]

#: What can be uploaded: bytes, an open binary file, or anything that yields bytes.
Content: TypeAlias = Buffer | BinaryIO | Iterable[bytes] | AsyncIterable[bytes]

PIECE_BYTES = MIB
#: Bytes of one write of a staged upload.
STAGE_BYTES = 8 * MIB


class AsyncDownload:
    """The bytes of a file on their way: iterate it once, best inside `async with`.

    `head` (after entering) tells size, etag and which part is coming. Iterated without
    `async with`, the connection is freed at the end of the iteration only.
    """

    def __init__(
        self,
        link: AsyncLink,
        colour: AsyncColour,
        wanted: Wanted,
        progress: Progress | None = None,
    ) -> None:
        self._link = link
        self._colour = colour
        self._wanted = wanted
        self._progress = progress
        self._response: httpx2.Response | None = None
        self._head: Head | None = None
        self._current = Head(0, 0, 0)  # the part that the open answer carries
        self._done = 0

    @property
    def head(self) -> Head:
        assert self._head is not None, "enter the download first"
        return self._head

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Free the connection; what has not been read is dropped."""
        response, self._response = self._response, None
        if response is not None:
            await response.aclose()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces()

    async def read(self) -> bytes:
        """All of it, in memory."""
        return b"".join([piece async for piece in self])

    async def _open(self) -> None:
        if self._head is None:
            head, self._response = await self._link.open(downloads.download(self._wanted))
            self._head = self._current = head

    async def _pieces(self) -> AsyncIterator[bytes]:
        await self._open()
        backoff = self._link.backoff()
        try:
            while True:
                done_before = self._done
                try:
                    async for piece in self._answer_pieces():
                        yield piece
                    return
                except ConnectionLost as error:
                    if self._done > done_before:
                        backoff = self._link.backoff()
                    await self._continue(error, backoff)
        finally:
            await self.aclose()

    async def _answer_pieces(self) -> AsyncIterator[bytes]:
        """What of the open answer was asked for; raises TruncatedBody when it ends early."""
        assert self._response is not None, "a download is iterated once"
        skip, left = self._current.skip, self._current.length
        try:
            async for piece in self._response.aiter_raw():
                self._colour.checkpoint()
                part, skip = piece[skip:], max(skip - len(piece), 0)
                if left is not None:
                    part = part[:left]
                    left -= len(part)
                if part:
                    self._advance(len(part))
                    yield part
                if left == 0 and self._current.cut:
                    return
        except httpx2.TransportError as error:
            if left == 0:
                return
            cut = TruncatedBody(f"{self._wanted.path}: {str(error) or type(error).__name__}")
            raise cut from error
        if left:
            raise TruncatedBody(f"{self._wanted.path}: {left} bytes are missing")

    def _advance(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self.head.length)

    async def _continue(self, error: Fs9Error, backoff: Backoff) -> None:
        """Open the rest of the file, or raise why that cannot be."""
        await self.aclose()
        head = self.head
        if not head.is_resumable or head.length is None or not await self._link.wait(backoff):
            raise error
        offset = head.offset + self._done
        rest = Wanted(self._wanted.path, offset, head.length - self._done, if_range=head.etag)
        self._current, self._response = await self._link.open(downloads.download(rest))
        if self._current.offset != offset or self._current.etag != head.etag:
            await self.aclose()
            raise Conflict(f"{self._wanted.path} was changed while it was read")


class AsyncSource:
    """The bytes of an upload; see `aio_link`. `name` is for the texts of errors."""

    def __init__(
        self,
        content: Content,
        colour: AsyncColour,
        progress: Progress | None = None,
        *,
        length: int | None = None,
        name: str = "the source",
    ) -> None:
        self._content = content
        self._colour = colour
        self._progress = progress
        self._name = name
        self._start = 0
        self.length = length
        self.taken = False
        self.replayable = isinstance(content, bytes | bytearray | memoryview)
        if isinstance(content, bytes | bytearray | memoryview):
            self.length = memoryview(content).nbytes
        elif hasattr(content, "read"):
            self._measure(cast("BinaryIO", content))

    def _measure(self, file: BinaryIO) -> None:
        """A file that can seek has a length, and can be sent again from where it stands."""
        if file.seekable():
            self._start = file.tell()
            self.length = file.seek(0, io.SEEK_END) - self._start
            self.replayable = True

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes from the start; Conflict when there are fewer than `length`."""
        self.taken = True
        done = 0
        async for piece in self._all_pieces():
            self._colour.checkpoint()
            wanted = piece if self.length is None else piece[: self.length - done]
            if wanted:
                yield wanted
            done += len(wanted)
            if self._progress is not None:
                self._progress(done, self.length)
            if done == self.length:
                return
        if self.length is not None and done < self.length:
            raise Conflict(f"{self._name} became shorter while it was sent")

    async def _all_pieces(self) -> AsyncIterator[bytes]:
        content = self._content
        if isinstance(content, bytes | bytearray | memoryview):
            view = memoryview(content).cast("B")
            for start in range(0, len(view), PIECE_BYTES):
                yield bytes(view[start : start + PIECE_BYTES])
        elif hasattr(content, "read"):
            file = cast("BinaryIO", content)
            if self.replayable:
                await self._colour.run(file.seek, self._start)
            while piece := await self._colour.run(file.read, PIECE_BYTES):
                yield piece
        elif isinstance(content, AsyncIterable):
            async for piece in content:
                yield piece
        else:
            for piece in content:
                yield piece


async def upload_staged(link: AsyncLink, path: str, source: AsyncSource) -> Uploaded:
    """Replace a file of any size: written piece by piece beside it, then renamed over it."""
    there = await link.run(ops.find(path))
    if there is not None and there.is_dir:
        raise IsDirectory(path)
    stage = join(split(path)[0], f"{PART_PREFIX}{secrets.token_hex(16)}")
    flags = OpenFlags(write=True, create=True, exclusive=True)
    handle = await link.run(ops.open_handle(stage, flags))
    done = 0
    try:
        async for batch in _batches(source.pieces(), STAGE_BYTES):
            done += await link.run(ops.write(handle, done, batch))
        await link.run(ops.close(handle, sync=True))
        mode = None if there is None or not there.is_file else there.mode & 0o777
        if mode is not None:
            await link.run(ops.wstat(stage, StatChanges(mode=mode), repeat=Repeat.REPEATABLE))
        await link.run(ops.wstat(stage, StatChanges(name=path)))
    except BaseException:
        await link.run(ops.abandon(handle, stage))
        raise
    return Uploaded(path, done, (await link.run(ops.stat(path))).etag)


class LocalTarget(msgspec.Struct, frozen=True):
    """Where a file is received. `mode` None: as the file it replaces, else the umask's.

    `mtime_ns` None takes the server's time of last change.
    """

    path: Path
    mode: int | None = None
    mtime_ns: int | None = None


async def download_to(
    link: AsyncLink,
    colour: AsyncColour,
    path: str,
    target: LocalTarget,
    progress: Progress | None = None,
) -> int:
    """Receive `path` as a local file, which appears complete or not at all.

    A part that an earlier run has left is continued when the file is still the same. Returns
    the size in bytes. Raises OSError for what this host refuses.
    """
    part = await colour.run(PartFile.find, target.path)
    wanted = Wanted(path)
    if part is not None:
        wanted = Wanted(path, offset=part.size, if_range=part.etag)
    try:
        return await _receive(AsyncDownload(link, colour, wanted), colour, target, part, progress)
    except RangeNotSatisfiable:
        if part is None:
            raise
    # The part has all bytes of its version already: it was not renamed. Start again.
    return await _receive(AsyncDownload(link, colour, Wanted(path)), colour, target, None, progress)


async def _receive(
    download: AsyncDownload,
    colour: AsyncColour,
    target: LocalTarget,
    part: PartFile | None,
    progress: Progress | None,
) -> int:
    keep = True
    try:
        async with download:
            head = download.head
            if part is not None and (head.offset != part.size or head.etag != part.etag):
                await colour.run(part.discard)
                part = None
            if part is None:
                part = await colour.run(PartFile.create, target.path, head.etag)
            async for batch in _batches(download):
                await colour.run(part.write, batch)
                if progress is not None:
                    progress(part.size, head.size)
        mtime_ns = target.mtime_ns
        if mtime_ns is None and head.mtime_s is not None:
            mtime_ns = head.mtime_s * 1_000_000_000
        await colour.run(part.commit, target.mode, mtime_ns)
        size, part = part.size, None
        return size
    except (RangeNotSatisfiable, Conflict, OSError):
        keep = False
        raise
    finally:
        if part is not None:
            await colour.run(part.discard, keep=keep)


async def _batches(pieces: AsyncIterable[bytes], size: int = PIECE_BYTES) -> AsyncIterator[bytes]:
    """The pieces, joined until one is worth a call to the operating system, or a request."""
    batch = bytearray()
    async for piece in pieces:
        batch += piece
        if len(batch) >= size:
            yield bytes(batch)
            batch.clear()
    if batch:
        yield bytes(batch)


async def download_into(download: AsyncDownload, colour: AsyncColour, file: BinaryIO) -> int:
    """Write a download to an open file object; returns the bytes written.

    After an error the file object has the bytes that came before it.
    """
    done = 0
    async with download:
        async for batch in _batches(download):
            await colour.run(_write_all, file, batch)
            done += len(batch)
    return done


def _write_all(file: BinaryIO, data: bytes) -> None:
    """Raw files may take less than they are given."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


class AsyncCopySource:
    """The bytes of one file of the server as the source of another; downloaded anew each time."""

    length: int | None = None
    replayable = True
    taken = False

    def __init__(
        self, link: AsyncLink, colour: AsyncColour, path: str, progress: Progress | None
    ) -> None:
        self._link = link
        self._colour = colour
        self._path = path
        self._progress = progress

    async def pieces(self) -> AsyncIterator[bytes]:
        wanted = Wanted(self._path)
        async with AsyncDownload(self._link, self._colour, wanted, self._progress) as download:
            async for piece in download:
                yield piece
