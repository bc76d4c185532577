"""memfs and localfs charge exactly what there is, whatever is done in whatever order."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fs9.errors import Fs9Error
from fs9.providers.localfile import LocalFile
from fs9.providers.memfs import MemOpen
from fs9.providers.memtree import Directory
from fs9.quota import Quota
from fs9.threads import BlockingPool
from fs9.types import MKDIR, READ, REPLACE, WRITE, OpenFlags, StatChanges
from tests.providers.fix_quota import APPEND, CREATE, TRUNCATE, make_provider, used, walk

if TYPE_CHECKING:
    from collections.abc import Coroutine


PATHS = st.sampled_from(["/a", "/b", "/d", "/d/a", "/d/b"])
FLAGS = st.sampled_from([READ, WRITE, CREATE, APPEND, TRUNCATE, REPLACE, MKDIR])


class Machine(RuleBasedStateMachine):
    """After each step the counts are those of a walk, and of what is open without a name."""

    kind = "memfs"
    bounds: tuple[int | None, int | None] = (100, 5)

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.pool = BlockingPool(1)
        self.quota = Quota(*self.bounds)
        path = Path(self.directory.name)
        self.provider = self.run(make_provider(self.kind, self.quota, path, self.pool))
        self.files: list[Any] = []

    def run(self, operation: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(operation)

    def attempt(self, operation: Coroutine[Any, Any, Any]) -> Any:
        try:
            return self.run(operation)
        except Fs9Error:
            return None

    @rule(path=PATHS, flags=FLAGS)
    def open(self, path: str, flags: OpenFlags) -> None:
        found = self.attempt(self.provider.open(path, flags))
        if found is not None:
            self.files.append(found[0])

    @precondition(lambda self: self.files)
    @rule(number=st.integers(0, 9), offset=st.sampled_from([0, 5, 60]), size=st.integers(1, 40))
    def write(self, number: int, offset: int, size: int) -> None:
        file = self.files[number % len(self.files)]
        self.attempt(self.provider.write(file, offset, b"x" * size))

    @precondition(lambda self: self.files)
    @rule(number=st.integers(0, 9), discard=st.booleans())
    def close(self, number: int, discard: bool) -> None:
        file = self.files.pop(number % len(self.files))
        self.attempt(self.provider.close(file, discard=discard))

    @rule(path=PATHS, size=st.integers(0, 120))
    def truncate(self, path: str, size: int) -> None:
        self.attempt(self.provider.wstat(path, StatChanges(size=size)))

    @rule(path=PATHS, to=PATHS)
    def rename(self, path: str, to: str) -> None:
        self.attempt(self.provider.wstat(path, StatChanges(name=to)))

    @rule(path=PATHS)
    def link(self, path: str) -> None:
        self.attempt(self.provider.wstat(path, StatChanges(symlink_target="target")))

    @rule(path=PATHS)
    def remove(self, path: str) -> None:
        self.attempt(self.provider.remove(path))

    @rule(bytes_max=st.sampled_from([None, 50, 200]), files_max=st.sampled_from([None, 3, 9]))
    def limit(self, bytes_max: int | None, files_max: int | None) -> None:
        self.run(self.quota.limit(bytes_max, files_max))

    @invariant()
    def counts_are_true(self) -> None:
        if self.quota.uncounted:
            return
        bytes_, files = self.run(walk(self.provider))
        nameless = dict(filter(None, map(_nameless, self.files)))
        assert used(self.quota) == (bytes_ + sum(nameless.values()), files + len(nameless))

    def teardown(self) -> None:
        for file in self.files:
            self.attempt(self.provider.close(file))
        self.files.clear()
        self.counts_are_true()
        self.run(self.provider.aclose())
        assert used(self.quota) == (0, 0)
        self.pool.shutdown()
        self.loop.close()
        self.directory.cleanup()


def _nameless(file: Any) -> tuple[Any, int] | None:
    """(identity, size) of an open file that no directory has."""
    if isinstance(file, MemOpen):
        node = file.node
        return None if node.linked or isinstance(node, Directory) else (id(node), node.size)
    if not isinstance(file, LocalFile):
        return None
    with file.descriptor as fd:
        found = os.fstat(fd)
    return None if found.st_nlink or stat.S_ISDIR(found.st_mode) else (found.st_ino, found.st_size)


class LocalMachine(Machine):
    kind = "localfs"


class LateMachine(LocalMachine):
    """Counted from some step on."""

    bounds = (None, None)


_PROGRAMS = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMemFs = Machine.TestCase
TestLocalFs = LocalMachine.TestCase
TestLocalFsLate = LateMachine.TestCase
TestMemFs.settings = TestLocalFs.settings = TestLocalFsLate.settings = _PROGRAMS
