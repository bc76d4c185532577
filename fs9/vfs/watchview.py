"""Which events of a namespace one watcher sees, and as what: those below its roots.

A root is the watched path or, for a narrowed token, each path below it where it may look. What is
moved in from outside is a creation, with all that is in it (`moved`); what is moved out is a
removal. When a directory above a root is renamed, so is the root. One event is reported as one:
where it would take several, it is reported as `lost` at the watched path.
"""

from __future__ import annotations

import msgspec

from fs9.path import is_within

CREATE = "create"
WRITE = "write"
WRITTEN = "written"
UPLOAD = "upload"
RENAME = "rename"
REMOVE = "remove"
CHMOD = "chmod"
LOST = "lost"


class Happened(msgspec.Struct, frozen=True, gc=False):
    """One event. `target`: of a rename. `moved`: it came with all that is in it."""

    sequence: int
    at_ns: int
    type: str
    path: str
    target: str = ""
    directory: bool = False
    moved: bool = False


class View:
    """`path` is the watched one, `roots` are at or below it."""

    __slots__ = ("path", "roots")

    def __init__(self, path: str, roots: tuple[str, ...]) -> None:
        self.path = path
        self.roots = roots

    def tell(self, event: Happened) -> Happened | None:
        """The event as this watcher sees it; None: not at all."""
        if self.roots == ("/",):
            return event
        seen = self._inside(event.path)
        if event.type == LOST:
            return (
                event if seen else self._one(event, [(LOST, root) for root in self._in(event.path)])
            )
        if event.type != RENAME:
            return event if seen else None
        if seen and self._inside(event.target):
            return event
        parts = [(REMOVE, path) for path in self._parts(event.path)]
        parts += [(CREATE, path) for path in self._parts(event.target)]
        return self._one(event, parts)

    def _one(self, event: Happened, parts: list[tuple[str, str]]) -> Happened | None:
        if not parts:
            return None
        type_, path = parts[0] if len(parts) == 1 else (LOST, self.path)
        return Happened(event.sequence, event.at_ns, type_, path, moved=type_ == CREATE)

    def _parts(self, path: str) -> list[str]:
        return [path] if self._inside(path) else self._in(path)

    def _inside(self, path: str) -> bool:
        return any(is_within(path, root) for root in self.roots)

    def _in(self, path: str) -> list[str]:
        """The roots below the path."""
        return [root for root in self.roots if is_within(root, path)]
