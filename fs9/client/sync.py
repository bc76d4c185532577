# Written by tools/async_to_sync.py from aio.py. DO NOT CHANGE: edit that file instead.
"""Client: a server's namespace from Python, on an event loop.

The surface only: what each method does on the wire is in `ops`, how it gets there in
`sync_link`, whole files in `sync_transfer`, whole trees in `sync_tree`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from fs9.client import localfiles, ops, sync_tree, sync_watch
from fs9.client.colour import SyncColour
from fs9.client.downloads import Wanted
from fs9.client.report import TreeOptions, TreeReport
from fs9.client.settings import DEFAULT_URL, Settings
from fs9.client.sync_file import File, flags_of
from fs9.client.sync_link import Link
from fs9.client.sync_transfer import (
    Content,
    CopySource,
    Download,
    LocalTarget,
    Progress,
    Source,
    download_into,
    download_to,
    upload_staged,
)
from fs9.clock import Clock, SystemClock
from fs9.errors import IsDirectory, PayloadTooLarge
from fs9.path import clean
from fs9.resilience.backoff import BackoffPolicy
from fs9.types import ALWAYS, Buffer, Condition, FileInfo, FsStats, OpenFlags, StatChanges
from fs9.wire.route import PAGE_ENTRIES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import httpx2

    from fs9.client.ops import Handle, Uploaded
    from fs9.client.server_events import Followed
    from fs9.wire import messages

_SECOND_NS = 1_000_000_000
_DEFAULT_TREE = TreeOptions()


class Client:
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
        http: httpx2.Client | None = None,
        clock: Clock | None = None,
    ) -> None:
        settings = Settings(url, token, namespace, timeout_s, retries=retries or BackoffPolicy())
        self.url = url
        self.colour = SyncColour()
        self.link = Link(settings, http, self.colour, clock or SystemClock())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        """Close the connections; open handles on the server expire by themselves."""
        self.link.close()
        self.colour.close()

    # -- What is there. ---------------------------------------------------------------------

    def health(self) -> messages.HealthReply:
        """Is a server answering? Needs no token."""
        return self.link.run(ops.health())

    def stat(self, path: str, *, follow: bool = False) -> FileInfo:
        """The file, directory or symbolic link itself; times in whole seconds.

        With `follow`, what links at and on the way to `path` lead to; `path` in the result is
        then where that is, for calls that follow no links, which is all others.
        """
        return self.link.run(ops.stat_followed(path) if follow else ops.stat(path))

    def exists(self, path: str) -> bool:
        return self.link.run(ops.find(path)) is not None

    def is_dir(self, path: str) -> bool:
        found = self.link.run(ops.find(path))
        return found is not None and found.is_dir

    def is_file(self, path: str) -> bool:
        found = self.link.run(ops.find(path))
        return found is not None and found.is_file

    def readdir(self, path: str = "/") -> list[FileInfo]:
        """All entries, sorted by the bytes of their names; fetched in large pages."""
        return list(self.scandir(path, page=PAGE_ENTRIES_MAX))

    def listdir(self, path: str = "/") -> list[str]:
        """The names only."""
        return [entry.path.rpartition("/")[2] for entry in self.readdir(path)]

    def scandir(self, path: str = "/", *, page: int = ops.PAGE_ENTRIES) -> Iterator[FileInfo]:
        """The entries one after the other, `page` of them per request, in bounded memory."""
        cursor = ""
        while True:
            entries, cursor = self.link.run(ops.readdir(path, page, cursor))
            yield from entries
            if not cursor:
                return

    def walk(self, path: str = "/") -> Iterator[tuple[str, list[FileInfo], list[FileInfo]]]:
        """(directory, its directories, everything else in it), parents first, as `os.walk`.

        Symbolic links are among "everything else". Directories that the caller removes from
        the first list are not walked.
        """
        pending = [clean(path)]
        while pending:
            directory = pending.pop()
            entries = self.readdir(directory)
            directories = [entry for entry in entries if entry.is_dir]
            yield directory, directories, [entry for entry in entries if not entry.is_dir]
            pending.extend(entry.path for entry in reversed(directories))

    def statfs(self, path: str = "/") -> FsStats:
        """Size and free space of the file system that holds `path`."""
        return self.link.run(ops.statfs(path))

    # -- Changes by path. -------------------------------------------------------------------

    def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        """Change what `changes` gives, if `condition` holds (else PreconditionFailed)."""
        self.link.run(ops.wstat(path, changes, condition))

    def chmod(self, path: str, mode: int) -> None:
        self.wstat(path, StatChanges(mode=mode))

    def chown(self, path: str, uid: int | None = None, gid: int | None = None) -> None:
        self.wstat(path, StatChanges(uid=uid, gid=gid))

    def utime(self, path: str, atime_s: int | None = None, mtime_s: int | None = None) -> None:
        """Set the times, in seconds since 1970; None leaves one as it is."""
        atime_ns = None if atime_s is None else atime_s * _SECOND_NS
        mtime_ns = None if mtime_s is None else mtime_s * _SECOND_NS
        self.wstat(path, StatChanges(atime_ns=atime_ns, mtime_ns=mtime_ns))

    def truncate(self, path: str, size: int, *, if_match: str | None = None) -> None:
        """Cut the file to `size` bytes, or extend it with zeros."""
        self.wstat(path, StatChanges(size=size), ops.condition_of(if_match, None))

    def rename(self, path: str, target: str, *, if_match: str | None = None) -> None:
        """Give the file the full path `target`, replacing a file there as POSIX does.

        A bare name is a path too: "b" means "/b". Both paths must be of one mount.
        """
        self.wstat(path, StatChanges(name=target), ops.condition_of(if_match, None))

    def symlink(self, path: str, target: str) -> None:
        """Make a symbolic link at `path` that says `target`."""
        self.wstat(path, StatChanges(symlink_target=target))

    def mkdir(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory; `parents` makes missing ones too and takes an existing one."""
        if parents:
            self.link.run(ops.makedirs(path))
        else:
            self.link.run(ops.mkdir(path, exist_ok=exist_ok))

    def makedirs(self, path: str) -> None:
        """Make a directory and its missing parents; one that exists is fine."""
        self.link.run(ops.makedirs(path))

    def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        """Remove a file, a symbolic link or an empty directory, if `condition` holds."""
        self.link.run(ops.remove(path, condition))

    # -- Open files. ------------------------------------------------------------------------

    def open(self, path: str, flags: OpenFlags, condition: Condition = ALWAYS) -> Handle:
        """Open a handle; close it. `open_file` gives a file object instead."""
        return self.link.run(ops.open_handle(path, flags, condition))

    def read(self, handle: Handle | str, offset: int, size: int = ops.READ_BYTES) -> bytes:
        """At most `size` bytes from `offset`; b"" at the end."""
        return self.link.run(ops.read(handle, offset, size))

    def write(self, handle: Handle | str, offset: int, data: Buffer) -> int:
        """All of `data` at `offset` in one request; the offset is ignored after append."""
        return self.link.run(ops.write(handle, offset, data))

    def close(self, handle: Handle | str, *, sync: bool = False) -> None:
        """Release the handle; with `sync` its bytes survive a loss of power."""
        self.link.run(ops.close(handle, sync=sync))

    def open_file(self, path: str, mode: str = "r") -> File:
        """A file object, always binary; `mode` as for `open`: r, r+, w, w+, x, x+, a, a+."""
        return File(self.link, self.open(path, flags_of(mode)))

    # -- Whole files. -----------------------------------------------------------------------

    def read_file(self, path: str, *, if_match: str | None = None) -> bytes:
        """All bytes of a file, in memory."""
        return self.download(path, if_match=if_match)

    def read_if_changed(self, path: str, etag: str) -> bytes | None:
        """All bytes of a file, or None while its version is still `etag`."""
        with Download(self.link, self.colour, Wanted(path, if_none_match=etag)) as download:
            return None if download.head.not_modified else download.read()

    def download(
        self, path: str, offset: int = 0, length: int | None = None, *, if_match: str | None = None
    ) -> bytes:
        """`length` bytes from `offset` (negative: the last ones), to the end when None.

        Raises RangeNotSatisfiable when `offset` is past the end.
        """
        with self.download_stream(path, offset, length, if_match=if_match) as download:
            return download.read()

    def download_stream(
        self,
        path: str,
        offset: int = 0,
        length: int | None = None,
        *,
        if_match: str | None = None,
        progress: Progress | None = None,
    ) -> Download:
        """The same piece by piece: `with ... as download: for piece in download`."""
        wanted = Wanted(path, offset, length, if_match=if_match)
        return Download(self.link, self.colour, wanted, progress)

    def download_to(
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
            return download_into(stream, self.colour, target)
        place = Path(target)
        if follow and self.colour.run(localfiles.is_special, place):
            with self.colour.run(place.open, "wb") as file:
                return self.download_to(path, file, progress=progress)
        if follow:
            place = self.colour.run(place.resolve)
        return download_to(
            self.link, self.colour, path, LocalTarget(place, mode, mtime_ns), progress
        )

    def upload(
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
        source = Source(content, self.colour, progress, length=length, name=path)
        wanted = "*" if create_only else if_none_match
        condition = ops.condition_of(if_match, wanted)
        try:
            return self.link.run(ops.upload(path, source.length, condition), source)
        except PayloadTooLarge:
            if not source.replayable or if_match is not None or wanted is not None:
                raise
        return upload_staged(self.link, clean(path), source)

    def upload_staged(
        self, path: str, content: Content, *, progress: Progress | None = None
    ) -> Uploaded:
        """Replace a file of any size, in many requests and yet in one step.

        It is written beside the old one, as `.fs9-part-…`, and renamed over it at the end; the
        provider must be able to do that. A handle that is lost on the way ends it.
        """
        source = Source(content, self.colour, progress, name=path)
        return upload_staged(self.link, clean(path), source)

    def upload_from(
        self,
        path: str,
        source: Path | str,
        *,
        create_only: bool = False,
        progress: Progress | None = None,
    ) -> Uploaded:
        """Replace a file by the local file `source`."""
        file = self.colour.run(localfiles.open_regular, Path(source), follow=True)
        try:
            return self.upload(path, file, create_only=create_only, progress=progress)
        finally:
            file.close()

    def write_file(
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
            done = self.upload(path, data, if_match=if_match, create_only=create_only)
            return done.bytes_written
        with self.open_file(path, "x" if create_only else "w") as file:
            return file.write(data)

    def append_file(self, path: str, data: Buffer, *, create: bool = True) -> int:
        """Add `data` to the end of a file, also when others do so at the same time."""
        return self.link.run(ops.append(path, data, create=create))

    def copy(self, path: str, target: str, *, progress: Progress | None = None) -> None:
        """Copy a file, its mode and time, or a symbolic link, replacing a file at `target`.

        The bytes travel through this client.
        """
        info = self.stat(path)
        if info.is_dir:
            raise IsDirectory(path)
        if info.is_symlink:
            self.link.run(ops.ensure_symlink(target, info.symlink_target or ""))
            return
        source = CopySource(self.link, self.colour, path, progress)
        self.link.run(ops.upload(target, None), source)
        mode = info.mode & 0o777
        self.wstat(target, StatChanges(mode=mode, mtime_ns=info.mtime_ns))

    # -- Whole trees. -----------------------------------------------------------------------

    def put_tree(
        self, source: Path | str, target: str, options: TreeOptions = _DEFAULT_TREE
    ) -> TreeReport:
        """Make the directory `target` a copy of the local directory `source`.

        What is in `target` besides stays. Failures are in the report; running it again does
        the rest. Modes and times of files and directories are kept, symbolic links are copied
        as links.
        """
        return sync_tree.put_tree(self, Path(source), clean(target), options)

    def get_tree(
        self, source: str, target: Path | str, options: TreeOptions = _DEFAULT_TREE
    ) -> TreeReport:
        """Make the local directory `target` a copy of the directory `source`, as `put_tree`.

        Nothing is written outside `target`, whatever the server lists.
        """
        return sync_tree.get_tree(self, clean(source), Path(target), options)

    def copy_tree(
        self, source: str, target: str, options: TreeOptions = _DEFAULT_TREE
    ) -> TreeReport:
        """Copy a directory within the namespace; the bytes travel through this client."""
        return sync_tree.copy_tree(self, clean(source), clean(target), options)

    def remove_tree(self, path: str, options: TreeOptions = _DEFAULT_TREE) -> TreeReport:
        """Remove a directory and all in it; links are removed, not followed."""
        return sync_tree.remove_tree(self, clean(path), options)

    # -- What happens. ----------------------------------------------------------------------

    def watch(self, path: str = "/", *, since: str | None = None) -> Iterator[messages.WatchEvent]:
        """What changes at `path` and below, without an end; each change once.

        The first event has the type "cursor": what is listed after it is complete. `since` is the
        `cursor` of an event to go on after, and there is no such first one. A connection that
        breaks is made anew and nothing is missed, or that is told as an event of the type "lost".
        Raises when the policy for requests gives up; go on with the last cursor then.
        """
        return sync_watch.watch(self.link, self.colour, clean(path), since)

    def follow(self, path: str, *, since: str | None = None) -> Iterator[Followed]:
        """The messages of a topic or stream as they come, each once, until it ends.

        From the oldest one that is kept; `since`: after the message with this cursor, "end": from
        now on (until the first one came, a connection that breaks is a gap). What the server had
        to let go is counted in the next message.
        """
        return sync_watch.follow(self.link, self.colour, clean(path), since)

    # -- The namespace. ---------------------------------------------------------------------

    def capabilities(self, path: str = "/") -> messages.CapabilitiesReply:
        """What the mount that serves `path` can do."""
        return self.link.run(ops.capabilities(path))

    def mounts(self) -> list[messages.MountReply]:
        return self.link.run(ops.mounts())

    def events(
        self,
        limit: int = 100,
        offset: int = 0,
        *,
        path: str | None = None,
        event_type: str | None = None,
    ) -> list[messages.EventReply]:
        """The audited changes, newest first; `path` is a prefix of text."""
        return self.link.run(ops.events(limit, offset, path, event_type))

    def create_namespace(self, name: str) -> messages.NamespaceReply:
        """Needs the role admin."""
        return self.link.run(ops.create_namespace(name))

    def namespaces(self) -> list[messages.NamespaceReply]:
        """All of them; needs the role admin or operator."""
        return self.link.run(ops.namespaces())

    def namespace(self, name: str) -> messages.NamespaceReply:
        """Needs the role admin or operator."""
        return self.link.run(ops.namespace(name))
