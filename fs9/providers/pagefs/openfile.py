"""An open file or directory of a view, bound to its inode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.provider import OpenFile
from fs9.providers.pagefs.records import REGULAR

if TYPE_CHECKING:
    from fs9.providers.pagefs.core import OpenInode
    from fs9.providers.pagefs.view import View
    from fs9.types import Condition, OpenFlags


class PageFile(OpenFile):
    """An open file or directory of a view, bound to its inode."""

    __slots__ = ("closed", "created", "flags", "kind", "number", "opened", "path", "view")

    def __init__(self, view: View, number: int, kind: int, flags: OpenFlags, path: str) -> None:
        self.view = view
        self.number = number
        self.kind = kind
        self.flags = flags
        self.path = path
        self.closed = False
        self.created = False
        self.opened: OpenInode | None = None


class StagedFile(PageFile):
    """A new version that no directory has yet; `close` puts it in its `place`."""

    __slots__ = ("condition", "place")

    def __init__(
        self,
        view: View,
        number: int,
        flags: OpenFlags,
        path: str,
        condition: Condition,
        place: tuple[int, str],
    ) -> None:
        super().__init__(view, number, REGULAR, flags, path)
        self.condition = condition
        self.place = place


def file_id(file: PageFile) -> str:
    name = file.view.name
    return f"{name}/{file.number:x}" if name else f"{file.number:x}"
