"""AsyncClient: a server's namespace from Python, on an event loop.

The surface only: what each method does on the wire is in `ops`, how it gets there in
`aio_link`, whole files in `aio_transfer`, whole trees in `aio_tree`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from fs9.client import aio_tree, aio_watch, localfiles, ops
from fs9.client.aio_file import AsyncFile, flags_of
from fs9.client.aio_link import AsyncLink
from fs9.client.aio_transfer import (
    AsyncCopySource,
    AsyncDownload,
    AsyncSource,
    Content,
    LocalTarget,
    Progress,
    download_into,
    download_to,
    upload_staged,
)
from fs9.client.colour import AsyncColour
from fs9.client.downloads import Wanted
from fs9.client.report import TreeOptions, TreeReport
from fs9.client.settings import DEFAULT_URL, Settings
from fs9.clock import Clock, SystemClock
from fs9.errors import IsDirectory, PayloadTooLarge
from fs9.path import clean
from fs9.resilience.backoff import BackoffPolicy
from fs9.types import ALWAYS, Buffer, Condition, FileInfo, FsStats, OpenFlags, StatChanges
from fs9.wire.route import PAGE_ENTRIES_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    import httpx2

    from fs9.client.ops import Handle, Uploaded
    from fs9.client.server_events import Followed
    from fs9.wire import messages

_SECOND_NS = 1_000_000_000
_DEFAULT_TREE = TreeOptions()


class AsyncClient:
    """One namespace on one server. Made cheaply, connects when first used, safe to share.

    `url` may name the tenant (`http://host:9999/acme`), as `namespace` does. `timeout_s` is the
    longest silence of the server before a request counts as lost. `retries` bounds what
    `fs9.client.policy` lets be tried again (`fs9.resilience.backoff.NEVER` for nothing). `http`
    is used instead of an own connection pool, and not closed.

    Every method raises the server's error (`fs9.errors`); ServerUnreachable and ConnectionLost
    (both BackendUnavailable) when there was no answer. Paths are namespace paths ("/a/b").
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        token: str | None = None,
        *,
        namespace: str | None = None,
        timeout_s: float = 35.0,
        retries: BackoffPolicy | None = None,
        http: httpx2.AsyncClient | None = None,
        clock: Clock | None = None,
    ) -> None:
        settings = Settings(url, token, namespace, timeout_s, retries=retries or BackoffPolicy())
        self.url = url
        self.colour = AsyncColour()
        self.link = AsyncLink(settings, http, self.colour, clock or SystemClock())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.disconnect()

    async def disconnect(self) -> None:
        """Close the connections; open handles on the server expire by themselves."""
        await self.link.aclose()
        self.colour.close()

    # -- What is there. ---------------------------------------------------------------------

    async def health(self) -> messages.HealthReply:
        """Is a server answering? Needs no token."""
        return await self.link.run(ops.health())

    async def stat(self, path: str, *, follow: bool = False) -> FileInfo:
        """The file, directory or symbolic link itself; times in whole seconds.

        With `follow`, what links at and on the way to `path` lead to; `path` in the result is
        then where that is, for calls that follow no links, which is all others.
        """
        return await self.link.run(ops.stat_followed(path) if follow else ops.stat(path))

    async def exists(self, path: str) -> bool:
        return await self.link.run(ops.find(path)) is not None

    async def is_dir(self, path: str) -> bool:
        found = await self.link.run(ops.find(path))
        return found is not None and found.is_dir

    async def is_file(self, path: str) -> bool:
        found = await self.link.run(ops.find(path))
        return found is not None and found.is_file

    async def readdir(self, path: str = "/") -> list[FileInfo]:
        """All entries, sorted by the bytes of their names; fetched in large pages."""
        return [entry async for entry in self.scandir(path, page=PAGE_ENTRIES_MAX)]

    async def listdir(self, path: str = "/") -> list[str]:
        """The names only."""
        return [entry.path.rpartition("/")[2] for entry in await self.readdir(path)]

    async def scandir(
        self, path: str = "/", *, page: int = ops.PAGE_ENTRIES
    ) -> AsyncIterator[FileInfo]:
        """The entries one after the other, `page` of them per request, in bounded memory."""
        cursor = ""
        while True:
            entries, cursor = await self.link.run(ops.readdir(path, page, cursor))
            for entry in entries:
                yield entry
            if not cursor:
                return

    async def walk(
        self, path: str = "/"
    ) -> AsyncIterator[tuple[str, list[FileInfo], list[FileInfo]]]:
        """(directory, its directories, everything else in it), parents first, as `os.walk`.

        Symbolic links are among "everything else". Directories that the caller removes from
        the first list are not walked.
        """
        pending = [clean(path)]
        while pending:
            directory = pending.pop()
            entries = await self.readdir(directory)
            directories = [entry for entry in entries if entry.is_dir]
            yield directory, directories, [entry for entry in entries if not entry.is_dir]
            pending.extend(entry.path for entry in reversed(directories))

    async def statfs(self, path: str = "/") -> FsStats:
        """Size and free space of the file system that holds `path`."""
        return await self.link.run(ops.statfs(path))

    # -- Changes by path. -------------------------------------------------------------------

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        """Change what `changes` gives, if `condition` holds (else PreconditionFailed)."""
        await self.link.run(ops.wstat(path, changes, condition))

    async def chmod(self, path: str, mode: int) -> None:
        await self.wstat(path, StatChanges(mode=mode))

    async def chown(self, path: str, uid: int | None = None, gid: int | None = None) -> None:
        await self.wstat(path, StatChanges(uid=uid, gid=gid))

    async def utime(
        self, path: str, atime_s: int | None = None, mtime_s: int | None = None
    ) -> None:
        """Set the times, in seconds since 1970; None leaves one as it is."""
        atime_ns = None if atime_s is None else atime_s * _SECOND_NS
        mtime_ns = None if mtime_s is None else mtime_s * _SECOND_NS
        await self.wstat(path, StatChanges(atime_ns=atime_ns, mtime_ns=mtime_ns))

    async def truncate(self, path: str, size: int, *, if_match: str | None = None) -> None:
        """Cut the file to `size` bytes, or extend it with zeros."""
        await self.wstat(path, StatChanges(size=size), ops.condition_of(if_match, None))

    async def rename(self, path: str, target: str, *, if_match: str | None = None) -> None:
        """Give the file the full path `target`, replacing a file there as POSIX does.

        A bare name is a path too: "b" means "/b". Both paths must be of one mount.
        """
        await self.wstat(path, StatChanges(name=target), ops.condition_of(if_match, None))

    async def symlink(self, path: str, target: str) -> None:
        """Make a symbolic link at `path` that says `target`."""
        await self.wstat(path, StatChanges(symlink_target=target))

    async def mkdir(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory; `parents` makes missing ones too and takes an existing one."""
        if parents:
            await self.link.run(ops.makedirs(path))
        else:
            await self.link.run(ops.mkdir(path, exist_ok=exist_ok))

    async def makedirs(self, path: str) -> None:
        """Make a directory and its missing parents; one that exists is fine."""
        await self.link.run(ops.makedirs(path))

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        """Remove a file, a symbolic link or an empty directory, if `condition` holds."""
        await self.link.run(ops.remove(path, condition))

    # -- Open files. ------------------------------------------------------------------------

    async def open(self, path: str, flags: OpenFlags, condition: Condition = ALWAYS) -> Handle:
        """Open a handle; close it. `open_file` gives a file object instead."""
        return await self.link.run(ops.open_handle(path, flags, condition))

    async def read(self, handle: Handle | str, offset: int, size: int = ops.READ_BYTES) -> bytes:
        """At most `size` bytes from `offset`; b"" at the end."""
        return await self.link.run(ops.read(handle, offset, size))

    async def write(self, handle: Handle | str, offset: int, data: Buffer) -> int:
        """All of `data` at `offset` in one request; the offset is ignored after append."""
        return await self.link.run(ops.write(handle, offset, data))

    async def close(self, handle: Handle | str, *, sync: bool = False) -> None:
        """Release the handle; with `sync` its bytes survive a loss of power."""
        await self.link.run(ops.close(handle, sync=sync))

    async def open_file(self, path: str, mode: str = "r") -> AsyncFile:
        """A file object, always binary; `mode` as for `open`: r, r+, w, w+, x, x+, a, a+."""
        return AsyncFile(self.link, await self.open(path, flags_of(mode)))

    # -- Whole files. -----------------------------------------------------------------------

    async def read_file(self, path: str, *, if_match: str | None = None) -> bytes:
        """All bytes of a file, in memory."""
        return await self.download(path, if_match=if_match)

    async def read_if_changed(self, path: str, etag: str) -> bytes | None:
        """All bytes of a file, or None while its version is still `etag`."""
        async with AsyncDownload(
            self.link, self.colour, Wanted(path, if_none_match=etag)
        ) as download:
            return None if download.head.not_modified else await download.read()

    async def download(
        self, path: str, offset: int = 0, length: int | None = None, *, if_match: str | None = None
    ) -> bytes:
        """`length` bytes from `offset` (negative: the last ones), to the end when None.

        Raises RangeNotSatisfiable when `offset` is past the end.
        """
        async with self.download_stream(path, offset, length, if_match=if_match) as download:
            return await download.read()

    def download_stream(
        self,
        path: str,
        offset: int = 0,
        length: int | None = None,
        *,
        if_match: str | None = None,
        progress: Progress | None = None,
    ) -> AsyncDownload:
        """The same piece by piece: `async with ... as download: async for piece in download`."""
        wanted = Wanted(path, offset, length, if_match=if_match)
        return AsyncDownload(self.link, self.colour, wanted, progress)

    async def download_to(
        self,
        path: str,
        target: Path | str | BinaryIO,
        *,
        mode: int | None = None,
        mtime_ns: int | None = None,
        follow: bool = True,
        progress: Progress | None = None,
    ) -> int:
        """Receive a file as a local one, or into a file object; returns the size in bytes.

        A local file appears complete or not at all, with `mode` and `mtime_ns` (None: as the
        file it replaces, and the server's time). What an interrupted run has received is
        used when the file is still the same. With `follow` a symbolic link at `target` leads
        to the file that is replaced, else the link itself is. A device or pipe is written to.
        """
        if not isinstance(target, Path | str):
            stream = self.download_stream(path, progress=progress)
            return await download_into(stream, self.colour, target)
        place = Path(target)
        if follow and await self.colour.run(localfiles.is_special, place):
            with await self.colour.run(place.open, "wb") as file:
                return await self.download_to(path, file, progress=progress)
        if follow:
            place = await self.colour.run(place.resolve)
        return await download_to(
            self.link, self.colour, path, LocalTarget(place, mode, mtime_ns), progress
        )

    async def upload(
        self,
        path: str,
        content: Content,
        *,
        length: int | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        create_only: bool = False,
        progress: Progress | None = None,
    ) -> Uploaded:
        """Replace a file, in one step, by bytes, an open binary file, or what yields bytes.

        Readers see the old file or the new one. `create_only` fails with PreconditionFailed
        when the file exists. `length` tells the size of an iterator where it is known. After a
        lost connection it is sent again only when `content` can be read again and there is
        no precondition; on that condition, too, a file that is too large for one request is
        sent by `upload_staged`.
        """
        source = AsyncSource(content, self.colour, progress, length=length, name=path)
        wanted = "*" if create_only else if_none_match
        condition = ops.condition_of(if_match, wanted)
        try:
            return await self.link.run(ops.upload(path, source.length, condition), source)
        except PayloadTooLarge:
            if not source.replayable or if_match is not None or wanted is not None:
                raise
        return await upload_staged(self.link, clean(path), source)

    async def upload_staged(
        self, path: str, content: Content, *, progress: Progress | None = None
    ) -> Uploaded:
        """Replace a file of any size, in many requests and yet in one step.

        It is written beside the old one, as `.fs9-part-…`, and renamed over it at the end; the
        provider must be able to do that. A handle that is lost on the way ends it.
        """
        source = AsyncSource(content, self.colour, progress, name=path)
        return await upload_staged(self.link, clean(path), source)

    async def upload_from(
        self,
        path: str,
        source: Path | str,
        *,
        create_only: bool = False,
        progress: Progress | None = None,
    ) -> Uploaded:
        """Replace a file by the local file `source`."""
        file = await self.colour.run(localfiles.open_regular, Path(source), follow=True)
        try:
            return await self.upload(path, file, create_only=create_only, progress=progress)
        finally:
            file.close()

    async def write_file(
        self,
        path: str,
        data: Buffer,
        *,
        if_match: str | None = None,
        create_only: bool = False,
        in_place: bool = False,
    ) -> int:
        """Make `data` the content of a file; returns its length.

        In one step, unless `in_place`, which opens, truncates and writes the existing file:
        for files that are messages, or have other names.
        """
        if not in_place:
            done = await self.upload(path, data, if_match=if_match, create_only=create_only)
            return done.bytes_written
        async with await self.open_file(path, "x" if create_only else "w") as file:
            return await file.write(data)

    async def append_file(self, path: str, data: Buffer, *, create: bool = True) -> int:
        """Add `data` to the end of a file, also when others do so at the same time."""
        return await self.link.run(ops.append(path, data, create=create))

    async def copy(self, path: str, target: str, *, progress: Progress | None = None) -> None:
        """Copy a file, its mode and time, or a symbolic link, replacing a file at `target`.

        The bytes travel through this client.
        """
        info = await self.stat(path)
        if info.is_dir:
            raise IsDirectory(path)
        if info.is_symlink:
            await self.link.run(ops.ensure_symlink(target, info.symlink_target or ""))
            return
        source = AsyncCopySource(self.link, self.colour, path, progress)
        await self.link.run(ops.upload(target, None), source)
        mode = info.mode & 0o777
        await self.wstat(target, StatChanges(mode=mode, mtime_ns=info.mtime_ns))

    # -- Whole trees. -----------------------------------------------------------------------

    async def put_tree(
        self, source: Path | str, target: str, options: TreeOptions = _DEFAULT_TREE
    ) -> TreeReport:
        """Make the directory `target` a copy of the local directory `source`.

        What is in `target` besides stays. Failures are in the report; running it again does
        the rest. Modes and times of files and directories are kept, symbolic links are copied
        as links.
        """
        return await aio_tree.put_tree(self, Path(source), clean(target), options)

    async def get_tree(
        self, source: str, target: Path | str, options: TreeOptions = _DEFAULT_TREE
    ) -> TreeReport:
        """Make the local directory `target` a copy of the directory `source`, as `put_tree`.

        Nothing is written outside `target`, whatever the server lists.
        """
        return await aio_tree.get_tree(self, clean(source), Path(target), options)

    async def copy_tree(
        self, source: str, target: str, options: TreeOptions = _DEFAULT_TREE
    ) -> TreeReport:
        """Copy a directory within the namespace; the bytes travel through this client."""
        return await aio_tree.copy_tree(self, clean(source), clean(target), options)

    async def remove_tree(self, path: str, options: TreeOptions = _DEFAULT_TREE) -> TreeReport:
        """Remove a directory and all in it; links are removed, not followed."""
        return await aio_tree.remove_tree(self, clean(path), options)

    # -- What happens. ----------------------------------------------------------------------

    def watch(
        self, path: str = "/", *, since: str | None = None
    ) -> AsyncIterator[messages.WatchEvent]:
        """What changes at `path` and below, without an end; each change once.

        The first event has the type "cursor": what is listed after it is complete. `since` is the
        `cursor` of an event to go on after, and there is no such first one. A connection that
        breaks is made anew and nothing is missed, or that is told as an event of the type "lost".
        Raises when the policy for requests gives up; go on with the last cursor then.
        """
        return aio_watch.watch(self.link, self.colour, clean(path), since)

    def follow(self, path: str, *, since: str | None = None) -> AsyncIterator[Followed]:
        """The messages of a topic or stream as they come, each once, until it ends.

        From the oldest one that is kept; `since`: after the message with this cursor, "end": from
        now on (until the first one came, a connection that breaks is a gap). What the server had
        to let go is counted in the next message.
        """
        return aio_watch.follow(self.link, self.colour, clean(path), since)

    # -- The namespace. ---------------------------------------------------------------------

    async def capabilities(self, path: str = "/") -> messages.CapabilitiesReply:
        """What the mount that serves `path` can do."""
        return await self.link.run(ops.capabilities(path))

    async def mounts(self) -> list[messages.MountReply]:
        return await self.link.run(ops.mounts())

    async def events(
        self,
        limit: int = 100,
        offset: int = 0,
        *,
        path: str | None = None,
        event_type: str | None = None,
    ) -> list[messages.EventReply]:
        """The audited changes, newest first; `path` is a prefix of text."""
        return await self.link.run(ops.events(limit, offset, path, event_type))

    async def create_namespace(self, name: str) -> messages.NamespaceReply:
        """Needs the role admin."""
        return await self.link.run(ops.create_namespace(name))

    async def namespaces(self) -> list[messages.NamespaceReply]:
        """All of them; needs the role admin or operator."""
        return await self.link.run(ops.namespaces())

    async def namespace(self, name: str) -> messages.NamespaceReply:
        """Needs the role admin or operator."""
        return await self.link.run(ops.namespace(name))
