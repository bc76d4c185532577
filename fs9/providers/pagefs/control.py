"""The control file of snapshots, `/.snapshots/.ctl`: each write to it is one command.

    restore NAME      the live tree becomes the snapshot     fork NAME NEW   /.forks/NEW from it
    snapshot NAME     keep the live tree                     delete NAME     give the snapshot up

It is in no listing, and not there where the mount's configuration says so (`control_file`). A
write to it may change anything in the mount, so it takes the rights to change everything there.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from fs9.errors import AlreadyExists, InvalidArgument, PermissionDenied, PreconditionFailed
from fs9.providers.pagefs import records
from fs9.providers.pagefs.openfile import PageFile
from fs9.providers.pagefs.records import REGULAR
from fs9.types import FileInfo, FileType, StatChanges

if TYPE_CHECKING:
    from fs9.providers.pagefs.branches import Branches
    from fs9.providers.pagefs.core import Core
    from fs9.types import Buffer, Condition, OpenFlags

CONTROL_NAME = ".ctl"
CONTROL = f"/.snapshots/{CONTROL_NAME}"
#: Two names, each byte of which may be quoted, and a verb.
COMMAND_BYTES_MAX = 4096

_COMMANDS = "restore NAME, fork NAME NEW, snapshot NAME or delete NAME"
_NAMES = {"restore": 1, "fork": 2, "snapshot": 1, "delete": 1}


class ControlFile(PageFile):
    """The open control file. `status` is as it was at open, so that it is read in one piece."""

    __slots__ = ("_branches", "_core", "status")

    changes_mount = True

    def __init__(self, branches: Branches, core: Core, flags: OpenFlags) -> None:
        super().__init__(core.head, records.ROOT, REGULAR, flags, CONTROL)
        self._branches = branches
        self._core = core
        self.status = _status(core)

    @classmethod
    def open(
        cls, branches: Branches, core: Core, flags: OpenFlags, condition: Condition
    ) -> tuple[ControlFile, FileInfo]:
        """Raises AlreadyExists, InvalidArgument (to replace it), PreconditionFailed.

        Truncating it means nothing: it is how a shell's `>` opens a file.
        """
        if flags.create and (flags.exclusive or flags.directory):
            raise AlreadyExists(CONTROL)
        if flags.replace:
            raise InvalidArgument(f"{CONTROL} cannot be replaced: open it and write a command")
        info = cls.info_now(core)
        _check(condition, info)
        return cls(branches, core, flags), info

    @staticmethod
    def info_now(core: Core) -> FileInfo:
        policy, status = core.policy, _status(core)
        return FileInfo(
            CONTROL,
            len(status),
            FileType.REGULAR,
            0o600,
            policy.uid,
            policy.gid,
            0,
            0,
            0,
            f"control-{len(core.snapshots)}-{len(core.forks)}-{core.superblock.generation}",
        )

    async def command(self, data: Buffer) -> int:
        """Do what the data say, all of it even when the caller is cancelled; their length.

        Raises InvalidArgument (not a command), PermissionDenied (not opened for writing), and
        what the command raises: NotFound, AlreadyExists, QuotaExceeded.
        """
        if not self.flags.write:
            raise PermissionDenied("file not opened for writing")
        verb, *names = parse(data)
        branches = self._branches
        if verb == "restore":
            work = branches.restore(names[0])
        elif verb == "fork":
            work = branches.fork(names[1], names[0])
        elif verb == "snapshot":
            work = branches.snapshot(names[0])
        else:
            work = branches.delete_snapshot(names[0])
        await self._core.finish(work)
        return len(data)


def parse(data: Buffer) -> list[str]:
    """The words of one command, quoted as in a shell; InvalidArgument says what there is."""
    if len(data) > COMMAND_BYTES_MAX:
        raise InvalidArgument(f"a command has at most {COMMAND_BYTES_MAX} bytes: {_COMMANDS}")
    try:
        words = shlex.split(bytes(data).decode())
    except ValueError as error:  # a quotation that does not end, or bytes that are no text
        raise InvalidArgument(f"not a command ({error}): {_COMMANDS}") from None
    if not words or _NAMES.get(words[0]) != len(words) - 1:
        raise InvalidArgument(f"not a command; there are {_COMMANDS}")
    return words


def check_change(core: Core, changes: StatChanges, condition: Condition) -> None:
    """wstat: only its size can be set, to 0, which means nothing; else PermissionDenied."""
    _check(condition, ControlFile.info_now(core))
    if changes not in (StatChanges(), StatChanges(size=0)):
        raise PermissionDenied(f"{CONTROL} is reserved")


def _check(condition: Condition, info: FileInfo) -> None:
    if not condition.holds(info.etag):
        raise PreconditionFailed(CONTROL)


def _status(core: Core) -> bytes:
    lines = [f"snapshot {shlex.quote(name)}" for name in sorted(core.snapshots)]
    lines += [f"fork {shlex.quote(name)}" for name in sorted(core.forks)]
    return "".join(f"{line}\n" for line in lines).encode()
