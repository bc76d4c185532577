"""The rules of `kvfs`: what each change does, within its transaction.

They are POSIX's, as memfs has them: symbolic links are data, reading never changes a time. A
method here runs inside one commit (`fs9.providers.kvwriter`); one that raises has done nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidArgument,
    IsDirectory,
    NotDirectory,
    NotFound,
    NotSupported,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
)
from fs9.path import is_within
from fs9.providers import kvtree
from fs9.providers.kvtree import ROOT, Inode
from fs9.providers.values import check_target
from fs9.types import FileInfo, FileType, StatChanges

if TYPE_CHECKING:
    from fs9.providers.kvstore import Transaction
    from fs9.providers.kvwriter import Change
    from fs9.types import Buffer, Condition, OpenFlags

#: Below it a key's time to live is read and set (`kvttl`).
CONTROL = "/.ttl"
_FILE_MODE = 0o644
DIRECTORY_MODE = 0o755
# As localfs keeps them: nothing here runs as another user.
_FILE_BITS = 0o777
_DIRECTORY_BITS = 0o3777


class Rules:
    def __init__(self, file_bytes_max: int, ttl_ns: int) -> None:
        """`ttl_ns`: how long a new key lives; 0: it stays."""
        self._file_bytes_max = file_bytes_max
        self._ttl_ns = ttl_ns

    # -- opening --------------------------------------------------------------------------------

    def opened_node(
        self, change: Change, path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[Inode, bool]:
        """The inode at the path, truncated or created as the flags say; was it created?"""
        making = flags.create and flags.directory
        if not flags.create:
            node: Inode | None = kvtree.find(change.tx, path, change.now_ns)
        else:
            parent, name = self._place(change, path)
            node = change.child(parent, name) if name else parent
            if node is not None and (making or flags.exclusive):
                raise AlreadyExists(path)
        if node is None:
            check_condition(condition, None, path)
            return self._make(change, parent, name, directory=making), True
        check_openable(node, path, flags)
        check_condition(condition, node, path)
        if flags.truncate and node.file_type is FileType.REGULAR:
            self._resize(change, node, 0)
        return node, False

    def _place(self, change: Change, path: str) -> tuple[Inode, str]:
        parent, name = kvtree.find_parent(change.tx, path, change.now_ns)
        if parent.number == ROOT and "/" + name == CONTROL:
            raise PermissionDenied(f"{CONTROL} is taken: times to live are set there")
        return parent, name

    def _new(self, change: Change, *, directory: bool = False, target: str | None = None) -> Inode:
        """A new inode without a name, counted in the quota; not stored yet."""
        size = 0 if target is None else len(target.encode())
        change.charge(size, 1)
        now_ns = change.now_ns
        kind, mode = FileType.REGULAR, _FILE_MODE
        if directory:
            kind, mode = FileType.DIRECTORY, DIRECTORY_MODE
        elif target is not None:
            kind, mode = FileType.SYMLINK, 0o777
        node = Inode(
            change.next_inode(),
            kind,
            mode,
            0,
            "",
            change.next_version(),
            now_ns,
            now_ns,
            now_ns,
            size,
            target=target,
        )
        if kind is FileType.REGULAR:
            node.ttl_ns = self._ttl_ns
        return node

    def _make(self, change: Change, parent: Inode, name: str, *, directory: bool = False) -> Inode:
        node = self._new(change, directory=directory)
        self._enter(change, node, parent, name)
        return node

    def stage(
        self, change: Change, path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[Inode, tuple[int, str]]:
        """A new version without a name, and the place where it will go."""
        if path == "/":
            raise IsDirectory(path)
        if not flags.create:
            kvtree.find(change.tx, path, change.now_ns)
        parent, name = self._place(change, path)
        old = kvtree.child(change.tx, parent.number, name)
        if old is not None and old.expired(change.now_ns):
            old = None
        if old is not None and flags.create and flags.exclusive:
            raise AlreadyExists(path)
        if old is not None:
            check_openable(old, path, flags)
        check_condition(condition, old, path)
        node = self._new(change)
        if old is not None:
            _copy_owner(old, node)
        kvtree.put_orphan(change.tx, node)
        return node, (parent.number, name)

    # -- changing ---

    def write(self, change: Change, number: int, offset: int | None, data: Buffer) -> None:
        """Write at `offset`; None appends."""
        node = present(change.tx, number)
        if offset is None:
            offset = node.size
        end = max(node.size, offset + len(data))
        self._charge_size(change, node, end)
        kvtree.write(change.tx, node.number, offset, data)
        node.size = end
        self._content_changed(change, node)

    def swap_in(
        self,
        change: Change,
        number: int,
        place: tuple[int, str],
        path: str,
        flags: OpenFlags,
        condition: Condition,
    ) -> FileInfo:
        """Put a staged version in its place, instead of what is there."""
        parent_number, name = place
        parent = kvtree.inode(change.tx, parent_number)
        if parent is None or parent.parent == 0:
            raise NotFound(path)
        old = change.child(parent, name)
        if old is None and not flags.create:
            raise NotFound(path)
        if old is not None and flags.create and flags.exclusive:
            raise AlreadyExists(path)
        if old is not None:
            check_openable(old, path, flags)
        check_condition(condition, old, path)
        node = present(change.tx, number)
        if old is not None:
            _copy_owner(old, node)
            change.unlink(old)
        node.ctime_ns = change.now_ns
        self._enter(change, node, parent, name)
        return opened_info(node, path)

    def symlink(self, change: Change, path: str, target: str, condition: Condition) -> None:
        check_target(target)
        parent, name = self._place(change, path)
        if not name or change.child(parent, name) is not None:
            raise AlreadyExists(path)
        check_condition(condition, None, path)
        self._enter(change, self._new(change, target=target), parent, name)

    def rename(self, change: Change, path: str, target: str, condition: Condition) -> None:
        if path == "/" or target == "/":
            raise PermissionDenied(f"cannot {'rename' if path == '/' else 'replace'} root")
        parent, name = kvtree.find_parent(change.tx, path, change.now_ns)
        node = change.child(parent, name)
        if node is None:
            raise NotFound(path)
        if node.is_dir and path != target and is_within(target, path):
            raise InvalidArgument("cannot move a directory into itself")
        target_parent, target_name = self._place(change, target)
        check_condition(condition, node, path)
        old = change.child(target_parent, target_name)
        if old is not None and old.number == node.number:
            return
        if old is not None and old.is_dir and is_within(path, target):
            raise DirectoryNotEmpty(target)
        self._check_replaced(change, node, old, target)
        if old is not None:
            change.unlink(old)
        node.ctime_ns = change.now_ns
        kvtree.move(change.tx, node, target_parent.number, target_name)
        self._children_changed(change, parent.number)
        self._children_changed(change, target_parent.number)

    def _check_replaced(self, change: Change, node: Inode, old: Inode | None, target: str) -> None:
        """May a rename put `node` in the place of `old`?"""
        if old is None:
            return
        if node.is_dir:
            if not old.is_dir:
                raise NotDirectory(target)
            self._check_empty(change, old, target)
        elif old.is_dir:
            raise IsDirectory(target)

    def _check_empty(self, change: Change, directory: Inode, path: str) -> None:
        """Raise DirectoryNotEmpty; keys in it that have expired go."""
        gone = []
        for node in kvtree.children(change.tx, directory.number):
            if not node.expired(change.now_ns):
                raise DirectoryNotEmpty(path)
            gone.append(node)
        for node in gone:
            change.unlink_expired(node)

    def change(self, change: Change, path: str, changes: StatChanges, condition: Condition) -> None:
        """Change mode, owner, size and times: all of them or, after an error, none."""
        node = kvtree.find(change.tx, path, change.now_ns)
        check_condition(condition, node, path)
        if changes == StatChanges():
            return
        if changes.mode is not None and node.file_type is FileType.SYMLINK:
            raise NotSupported("chmod of a symbolic link")  # nor has Linux it
        if changes.size is not None:
            if node.is_dir:
                raise IsDirectory(path)
            if node.file_type is FileType.SYMLINK:
                raise InvalidArgument("cannot truncate a symlink")
            self._resize(change, node, changes.size)
        if changes.mode is not None:
            node.mode = changes.mode & (_DIRECTORY_BITS if node.is_dir else _FILE_BITS)
        for field in ("uid", "gid", "atime_ns", "mtime_ns"):
            value = getattr(changes, field)
            if value is not None:
                setattr(node, field, value)
        node.ctime_ns = change.now_ns
        kvtree.put_inode(change.tx, node)

    def remove(self, change: Change, path: str, condition: Condition) -> None:
        parent, name = kvtree.find_parent(change.tx, path, change.now_ns)
        if not name:
            raise PermissionDenied("cannot remove root")
        node = change.child(parent, name)
        if node is None:
            raise NotFound(path)
        check_condition(condition, node, path)
        if node.is_dir:
            self._check_empty(change, node, path)
        node.ctime_ns = change.now_ns
        change.unlink(node)
        self._children_changed(change, parent.number)

    # -- entries and sizes ------------------------------------------------------------------------

    def _enter(self, change: Change, node: Inode, parent: Inode, name: str) -> None:
        if node.ttl_ns:
            change.set_expiry(node, change.now_ns + node.ttl_ns)
        kvtree.link(change.tx, node, parent.number, name)
        self._children_changed(change, parent.number)

    def _children_changed(self, change: Change, number: int) -> None:
        directory = kvtree.inode(change.tx, number)
        assert directory is not None
        directory.mtime_ns = directory.ctime_ns = change.now_ns
        directory.version = change.next_version()
        kvtree.put_inode(change.tx, directory)

    def _content_changed(self, change: Change, node: Inode) -> None:
        """Give it a new version; its time to live, if it has one, begins again."""
        node.mtime_ns = node.ctime_ns = change.now_ns
        node.version = change.next_version()
        # One that has expired is written through a handle alone, and does not come back.
        if node.ttl_ns and node.parent and not node.expired(change.now_ns):
            change.set_expiry(node, change.now_ns + node.ttl_ns)
        kvtree.put_inode(change.tx, node)

    def _resize(self, change: Change, node: Inode, size: int) -> None:
        self._charge_size(change, node, size)
        kvtree.resize(change.tx, node, size)
        self._content_changed(change, node)

    def _charge_size(self, change: Change, node: Inode, size: int) -> None:
        """Account for the file's new size, holes included: they may be filled unasked."""
        if size > self._file_bytes_max:
            raise QuotaExceeded(f"a file may have {self._file_bytes_max} bytes")
        change.charge(size - node.size)


def present(tx: Transaction, number: int) -> Inode:
    """The inode, which exists because it is open."""
    node = kvtree.inode(tx, number)
    assert node is not None
    return node


def opened_info(node: Inode, path: str) -> FileInfo:
    """The info as `open` and `close` give it, which tells the file from every other one."""
    return node.info(path, file_id=f"{node.number:x}")


def check_openable(node: Inode, path: str, flags: OpenFlags) -> None:
    """May it be opened like this? Raises what Linux raises with O_NOFOLLOW."""
    if node.is_dir:
        if flags.write or (flags.create and not flags.directory):
            raise IsDirectory(path)
    elif flags.directory:
        raise NotDirectory(path)
    elif node.file_type is FileType.SYMLINK:
        raise InvalidArgument(f"cannot {'write' if flags.write else 'read'} a symlink")


def check_condition(condition: Condition, node: Inode | None, path: str) -> None:
    if not condition.holds(None if node is None else node.etag):
        raise PreconditionFailed(path)


def _copy_owner(old: Inode, new: Inode) -> None:
    """Copy the attributes that a new version of a key keeps."""
    if old.file_type is FileType.REGULAR:
        new.mode, new.uid, new.gid, new.ttl_ns = old.mode, old.uid, old.gid, old.ttl_ns
