"""Which operation, and which of its arguments, needs which capability of the provider.

Asked once, by `fs9.vfs.vfs`, before the provider is called and before anything is looked up;
so no provider checks its own capabilities. The bits are plain integers here: `enum.IntFlag`
arithmetic costs a microsecond a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.errors import InvalidArgument, NotSupported
from fs9.types import Capability

if TYPE_CHECKING:
    from fs9.types import OpenFlags, StatChanges

#: Field of StatChanges -> (needed bit, name in the error), in the order of checking.
_WSTAT = (
    ("mode", int(Capability.CHMOD), "chmod"),
    ("uid", int(Capability.CHOWN), "chown"),
    ("gid", int(Capability.CHOWN), "chown"),
    ("size", int(Capability.TRUNCATE), "truncate"),
    ("atime_ns", int(Capability.UTIME), "utime"),
    ("mtime_ns", int(Capability.UTIME), "utime"),
    ("name", int(Capability.RENAME), "rename"),
    ("symlink_target", int(Capability.SYMLINK), "symlink"),
)

#: The same for OpenFlags.
_OPEN = (
    ("read", int(Capability.READ), "read"),
    ("write", int(Capability.WRITE), "write"),
    ("create", int(Capability.CREATE), "create"),
)

_DELETE = int(Capability.DELETE)


def check_wstat(capabilities: int, changes: StatChanges) -> None:
    """Raise NotSupported, naming the first change the provider cannot make."""
    for field, bit, name in _WSTAT:
        if not capabilities & bit and getattr(changes, field) is not None:
            raise NotSupported(name)


def check_open(capabilities: int, flags: OpenFlags) -> None:
    """Raise NotSupported for a flag the provider lacks, InvalidArgument for a wrong pair."""
    for flag, bit, name in _OPEN:
        if not capabilities & bit and getattr(flags, flag):
            raise NotSupported(name)
    check_flags(flags)


def check_flags(flags: OpenFlags) -> None:
    """Raise InvalidArgument for flags that mean nothing together.

    POSIX leaves O_TRUNC without write access undefined; we refuse it. What is only useless
    (`append` without `write`, `exclusive` without `create`) is ignored, as on Linux.
    """
    if flags.truncate and not flags.write:
        raise InvalidArgument("truncate needs write")
    if flags.replace and (flags.directory or not flags.write):
        raise InvalidArgument("replace needs write and a file")
    if flags.replace and flags.append:
        raise InvalidArgument("a replacement has one writer: append means nothing to it")


def check_remove(capabilities: int) -> None:
    if not capabilities & _DELETE:
        raise NotSupported("delete")
