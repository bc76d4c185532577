"""Tells watchers of files that disappear without a request: expired keys, a crashed plugin's files.

A provider reports them (`fs9.provider.Departing`); here each removal becomes an operation of the
mount and an event for the watchers of the namespace.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, cast

from fs9.vfs.watchview import REMOVE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fs9.provider import Departing
    from fs9.vfs.mounts import Mount
    from fs9.vfs.vfs import Vfs


def tell_departures(vfs: Vfs, mount: Mount) -> None:
    """Connect the mount's provider to the watchers, if files of it can disappear by themselves."""
    if hasattr(mount.provider, "tell_departures"):
        cast("Departing", mount.provider).tell_departures(Departures(vfs, mount))


class Departures:
    """Implements `fs9.provider.Departures` for one mount."""

    def __init__(self, vfs: Vfs, mount: Mount) -> None:
        self._vfs = vfs
        self._mount = mount

    @contextmanager
    def going(self, paths: Sequence[str]) -> Iterator[set[str]]:
        in_use, absolute = self._vfs.in_use, self._mount.absolute
        told = set(paths)
        with self._vfs.operation(), ExitStack() as stack:
            changes = [
                (stack.enter_context(in_use.changing(REMOVE, absolute(path))), path)
                for path in reversed(paths)  # the last one is left first
            ]
            yield told
            for change, path in changes:
                if path not in told:
                    change.type = None

    def gone(self, path: str) -> None:
        watch = self._vfs.in_use.watch
        if watch is not None:
            watch.removed(self._mount.absolute(path))

    def lost(self) -> None:
        watch = self._vfs.in_use.watch
        if watch is not None:
            watch.lost(self._mount.path)
