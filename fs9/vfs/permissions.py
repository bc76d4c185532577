"""What a narrowed token may do at which path: the claims `mounts` and `permissions`.

    mounts       ["/projects/a", ...]       only at these paths and below
    permissions  ["read", "create:/in", ...] only these rights; with a path, only there and below

An empty or missing claim restricts nothing; with both, only what both allow is allowed, and never
more than the roles allow. An unknown right, or one whose path does not begin with a slash or has a
name "." or "..", grants nothing. Paths are compared by whole names: "/a" does not cover "/ab".

A path is *inside* when at least one right holds there, *on the way* when it is above such a path,
and otherwise *hidden*: it appears not to exist, so that its existence is not revealed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from fs9.errors import InvalidArgument, NotFound, PermissionDenied
from fs9.path import clean

if TYPE_CHECKING:
    from fs9.principal import Principal
    from fs9.types import OpenFlags

LIST = "list"
READ = "read"
CREATE = "create"
OVERWRITE = "overwrite"
APPEND = "append"
DELETE = "delete"
RENAME = "rename"
ADMIN = "admin"
RIGHTS = (LIST, READ, CREATE, OVERWRITE, APPEND, DELETE, RENAME, ADMIN)

_DOTS = {".", ".."}
#: Narrowed tokens whose parsed claims are cached.
_KEPT = 1024


class Hidden(NotFound):
    """A path that the token may not know of; on the wire it does not exist."""

    kind = NotFound.kind


class Permissions:
    """The rights of one narrowed token. Paths are clean ones."""

    __slots__ = ("_granted", "_region")

    def __init__(self, mounts: tuple[str, ...], permissions: tuple[str, ...]) -> None:
        """The claims; not both empty."""
        within = _prefixes(mounts) if mounts else ("/",)
        #: Right -> the paths where it holds, each with a slash at its end.
        self._granted = {
            right: _both(_granted(right, permissions) if permissions else ("/",), within)
            for right in RIGHTS
        }
        #: Where any right holds at all.
        self._region = tuple({path: None for paths in self._granted.values() for path in paths})

    def allows(self, right: str, path: str) -> bool:
        """Does the right hold at the path, and so at everything below it?"""
        return _slashed(path).startswith(self._granted[right])

    def may_open(self, path: str, flags: OpenFlags) -> bool:
        """Do the rights allow to open what exists already?"""
        if not (flags.write or flags.truncate):
            return True
        if flags.append and not flags.truncate and self.allows(APPEND, path):
            return True
        return self.allows(OVERWRITE, path)

    def visible(self, path: str) -> bool:
        """May the principal know of the path? It is inside, or on the way."""
        above = _slashed(path)
        return above.startswith(self._region) or any(
            prefix.startswith(above) for prefix in self._region
        )

    def within(self, path: str, *rights: str) -> tuple[str, ...]:
        """The outermost paths, at the path and below it, where one of the rights holds."""
        granted = tuple(prefix for right in rights for prefix in self._granted[right])
        above = _slashed(path)
        if above.startswith(granted):
            return (path,)
        found = sorted({prefix for prefix in granted if prefix.startswith(above)})
        outermost: list[str] = []
        for prefix in found:
            if not prefix.startswith(tuple(outermost)):
                outermost.append(prefix)
        return tuple(prefix.rstrip("/") for prefix in outermost)

    def way(self, path: str) -> list[str]:
        """The names in the directory that lead to where rights hold, sorted."""
        above = _slashed(path)
        names = {
            prefix[len(above) :].partition("/")[0]
            for prefix in self._region
            if prefix.startswith(above) and prefix != above
        }
        return sorted(names)

    def require(self, path: str, *rights: str) -> None:
        """Raise unless one of the rights holds: NotFound when hidden, else PermissionDenied."""
        if any(self.allows(right, path) for right in rights):
            return
        self.require_visible(path)
        raise PermissionDenied(f"this token may not {' or '.join(rights)} at {path}")

    def require_all_below(self, path: str) -> None:
        """Raise unless everything may be changed at the path and below."""
        for right in (CREATE, OVERWRITE, DELETE, RENAME):
            self.require(path, right)

    def require_visible(self, path: str) -> None:
        """Raise NotFound when the path is hidden."""
        if not self.visible(path):
            raise Hidden(path)


def permissions_of(principal: Principal) -> Permissions | None:
    """None when the principal's token is not narrowed."""
    if not principal.mounts and not principal.permissions:
        return None
    return _kept(principal.mounts, principal.permissions)


@lru_cache(_KEPT)
def _kept(mounts: tuple[str, ...], permissions: tuple[str, ...]) -> Permissions:
    return Permissions(mounts, permissions)


def _granted(right: str, permissions: tuple[str, ...]) -> tuple[str, ...]:
    """Where the claim `permissions` gives the right."""
    paths = []
    for item in permissions:
        word, colon, path = item.partition(":")
        if word == right:
            paths.append(path if colon else "/")
    return _prefixes(tuple(paths))


def _prefixes(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Clean and with a slash at the end; without those that are no paths.

    Nor those with dots: an issuer that makes "/home/" + user must not give all to a user "..".
    """
    found = []
    for path in paths:
        if path.startswith("/") and _DOTS.isdisjoint(path.split("/")):
            try:
                found.append(_slashed(clean(path)))
            except InvalidArgument:
                continue
    return tuple(found)


def _both(some: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """What is below one of `some` and below one of `others`."""
    found = [path for path in some if path.startswith(others)]
    found += [path for path in others if path.startswith(some)]
    return tuple(dict.fromkeys(found))


def _slashed(path: str) -> str:
    return path if path == "/" else path + "/"
