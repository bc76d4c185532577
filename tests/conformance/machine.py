"""Random operations on a driver and on the reference model: both must always agree.

Invariant tested: every operation returns the same or raises the same kind of error; and at the
end the whole trees are equal, to the last byte.

The etags of the two are different texts. Each stat gives a pair of them, and a condition is
made of such pairs, so that it means the same to both.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, ClassVar

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from fs9.errors import Fs9Error
from fs9.path import join
from fs9.types import ALWAYS, Condition, OpenFlags, StatChanges
from tests.conformance.model import Handle, ModelFs

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.conformance.driver import Driver

_NAMES = ("a", "b", "m")
_PATHS = ["/"] + [
    "/" + "/".join(names)
    for depth in (1, 2, 3)
    for names in itertools.product(_NAMES, repeat=depth)
]
paths = st.sampled_from(_PATHS)
#: Files of a few bytes, and around the page borders of memfs.
offsets = st.sampled_from([0, 1, 3, 10, 65_530, 65_536, 131_071])
sizes = st.sampled_from([0, 1, 5, 20, 65_536, 70_000])
flags = st.builds(
    OpenFlags,
    **{
        name: st.booleans()
        for name in ("read", "write", "create", "truncate", "append", "directory", "exclusive")
    },
    replace=st.sampled_from([False, False, True]),
)
#: Which of the etag pairs a condition names; "*" and no condition among them.
conditions = st.sampled_from(["none", "none", "none", "match", "none match", "exists", "absent"])


class Machine(RuleBasedStateMachine):
    """A subclass says in `make_driver` what is driven, and in `mounts` what it looks like."""

    mounts: ClassVar[tuple[str, ...]] = ("/",)
    counts_bytes: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.driver = self.run(self.make_driver())
        self.model = ModelFs(self.mounts)
        self.handles: list[tuple[Any, Handle]] = []
        #: (etag of the driver, etag of the model) of versions seen.
        self.etags = [("never", "never")]

    async def make_driver(self) -> Driver:
        raise NotImplementedError

    def run(self, operation: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(operation)

    def agree(self, operation: Coroutine[Any, Any, Any], expected: Any) -> tuple[Any, Any]:
        """The two results when both succeed, else (None, None); asserts equal errors."""
        model_error = error = result = model_result = None
        try:
            model_result = expected()
        except Fs9Error as raised:
            model_error = raised.kind
        try:
            result = self.run(operation)
        except Fs9Error as raised:
            error = raised.kind
        assert error == model_error
        return (result, model_result) if error is None else (None, None)

    def condition(self, kind: str, number: int) -> tuple[Condition, Condition]:
        """A condition for the driver and the same for the model."""
        real, model = self.etags[number % len(self.etags)]
        if kind == "match":
            return Condition(if_match=(real,)), Condition(if_match=(model,))
        if kind == "none match":
            return Condition(if_none_match=(real,)), Condition(if_none_match=(model,))
        any_version = {
            "exists": Condition(if_match=("*",)),
            "absent": Condition(if_none_match=("*",)),
        }.get(kind, ALWAYS)
        return any_version, any_version

    # -- by path --------------------------------------------------------------------------------

    @rule(path=paths)
    def stat(self, path: str) -> None:
        info, node = self.agree(self.driver.stat(path), lambda: self.model.find(path))
        if info is not None:
            assert info.path == path
            size = node.size if not info.is_dir else info.size
            assert (info.file_type, info.size) == (node.file_type, size)
            assert (info.mode, info.symlink_target) == (node.mode, node.target)
            if info.is_file:
                self.etags.append((info.etag, node.version))

    @rule(path=paths, after=st.sampled_from(["", "a", "aa", "m"]), limit=st.integers(1, 4))
    def readdir(self, path: str, after: str, limit: int) -> None:
        infos, names = self.agree(
            self.driver.readdir(path, after, limit), lambda: self.model.names(path)
        )
        if infos is not None:
            page = [name for name in names if name > after][:limit]
            assert [info.path for info in infos] == [join(path, name) for name in page]

    @rule(path=paths, kind=conditions, number=st.integers(0, 9))
    def remove(self, path: str, kind: str, number: int) -> None:
        real, model = self.condition(kind, number)
        self.agree(self.driver.remove(path, real), lambda: self.model.remove(path, model))

    @rule(path=paths, name=paths, kind=conditions, number=st.integers(0, 9))
    def rename(self, path: str, name: str, kind: str, number: int) -> None:
        self.wstat(path, StatChanges(name=name), kind, number)

    @rule(path=paths, text=st.sampled_from(["a", "/b", "../x"]))
    def symlink(self, path: str, text: str) -> None:
        self.wstat(path, StatChanges(symlink_target=text), "none", 0)

    @rule(
        path=paths,
        size=st.none() | offsets,
        mode=st.none() | st.sampled_from([0o600, 0o755]),
        kind=conditions,
        number=st.integers(0, 9),
    )
    def change(self, path: str, size: int | None, mode: int | None, kind: str, number: int) -> None:
        self.wstat(path, StatChanges(size=size, mode=mode), kind, number)

    def wstat(self, path: str, changes: StatChanges, kind: str, number: int) -> None:
        real, model = self.condition(kind, number)
        self.agree(
            self.driver.wstat(path, changes, real), lambda: self.model.wstat(path, changes, model)
        )

    @rule(path=paths)
    def make_directory(self, path: str) -> None:
        self.open_close(path, OpenFlags(create=True, directory=True), b"")

    @rule(path=paths, data=st.binary(min_size=1, max_size=20), replace=st.booleans())
    def put(self, path: str, data: bytes, replace: bool) -> None:
        """Write a whole file, as an upload does or in place."""
        self.open_close(
            path, OpenFlags(write=True, create=True, truncate=True, replace=replace), data
        )

    def open_close(self, path: str, flags: OpenFlags, data: bytes) -> None:
        opened, handle = self.agree(
            self.driver.open(path, flags), lambda: self.model.open(path, flags, ALWAYS)
        )
        if opened is not None:
            if data:
                self.agree(
                    self.driver.write(opened[0], 0, data), lambda: self.model.write(handle, 0, data)
                )
            self.run(self.driver.close(opened[0]))
            self.model.close(handle, discard=False)

    # -- open files -----------------------------------------------------------------------------

    @rule(path=paths, flags=flags, kind=conditions, number=st.integers(0, 9))
    def open(self, path: str, flags: OpenFlags, kind: str, number: int) -> None:
        real, model = self.condition(kind, number)
        opened, handle = self.agree(
            self.driver.open(path, flags, real), lambda: self.model.open(path, flags, model)
        )
        if opened is not None:
            assert opened[1].path == path
            assert opened[1].file_type == handle.node.file_type
            self.handles.append((opened[0], handle))

    @rule(number=st.integers(0, 9), offset=offsets, size=sizes)
    def read(self, number: int, offset: int, size: int) -> None:
        if self.handles:
            opened, handle = self.handles[number % len(self.handles)]
            data, expected = self.agree(
                self.driver.read(opened, offset, size),
                lambda: self.model.read(handle, offset, size),
            )
            assert data is None or bytes(data) == expected

    @rule(number=st.integers(0, 9), offset=offsets, size=sizes, fill=st.integers(1, 255))
    def write(self, number: int, offset: int, size: int, fill: int) -> None:
        if self.handles:
            opened, handle = self.handles[number % len(self.handles)]
            data = bytes([fill]) * size
            self.agree(
                self.driver.write(opened, offset, data),
                lambda: self.model.write(handle, offset, data),
            )

    @rule(number=st.integers(0, 9), discard=st.booleans())
    def close(self, number: int, discard: bool) -> None:
        if self.handles:
            opened, handle = self.handles.pop(number % len(self.handles))
            self.agree(
                self.driver.close(opened, discard=discard),
                lambda: self.model.close(handle, discard=discard),
            )

    # -- the end --------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self.check_bytes()
            while self.handles:
                self.close(0, False)
            self.check_bytes()
            assert self.run(self.tree("/")) == {
                path: (node.file_type, node.content, node.target)
                for path, node in self.model.nodes.items()
            }
        finally:
            self.run(self.aclose())
            self.loop.close()

    async def aclose(self) -> None:
        await self.driver.aclose()

    def check_bytes(self) -> None:
        """Not a byte is lost or counted twice, with files removed, open and staged."""
        if self.counts_bytes:
            stats = self.run(self.driver.statfs("/"))
            used = self.model.used_bytes([handle for _, handle in self.handles])
            assert stats.total_bytes - stats.free_bytes == used

    async def tree(self, path: str) -> dict[str, tuple[Any, ...]]:
        info = await self.driver.stat(path)
        content = b""
        if info.is_file:
            opened, _ = await self.driver.open(path, OpenFlags(read=True))
            content = bytes(await self.driver.read(opened, 0, info.size + 1))
            await self.driver.close(opened)
        found = {path: (info.file_type, content, info.symlink_target)}
        if info.is_dir:
            for entry in await self.driver.readdir(path):
                found |= await self.tree(entry.path)
        return found
