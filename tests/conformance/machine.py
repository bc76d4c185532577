"""Random operations on a driver and on the reference model: both must always agree.

Invariant tested: every operation returns the same or raises the same kind of error; and at the
end the whole trees are equal, to the last byte.

The etags of the two are different texts. Each stat gives a pair of them, and a condition is
made of such pairs, so that it means the same to both.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

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
#: Which path an operation is about: one that exists, a name in a directory that exists, any.
#: A number picks it at run time, so that most operations have something to work on.
Place: TypeAlias = tuple[str, int]
places = st.tuples(
    st.sampled_from(["existing", "existing", "child", "child", "any"]), st.integers(0, 999)
)
#: Files of a few bytes, and around the page borders of memfs.
offsets = st.sampled_from([0, 1, 3, 10, 65_530, 65_536, 131_071])
sizes = st.sampled_from([1, 5, 20, 65_536, 70_000])
usual_flags = st.sampled_from(
    [
        OpenFlags(read=True),
        OpenFlags(read=True, write=True),
        OpenFlags(read=True, write=True, create=True),
        OpenFlags(read=True, write=True, create=True, truncate=True, replace=True),
        OpenFlags(read=True, write=True, create=True, append=True),
    ]
)
any_flags = st.builds(
    OpenFlags,
    **{
        name: st.booleans()
        for name in ("read", "write", "create", "truncate", "append", "directory", "exclusive")
    },
    replace=st.sampled_from([False, False, True]),
)
#: An append to a replacement is not driven: only its own writer adds to it anyway.
flags = usual_flags | any_flags.filter(lambda flags: not (flags.append and flags.replace))
#: Which of the etag pairs a condition names; "*" and no condition among them.
conditions = st.sampled_from(["none", "none", "none", "match", "none match", "exists", "absent"])


class Machine(RuleBasedStateMachine):
    """A subclass says in `make_driver` what is driven, and in `mounts` what it looks like."""

    mounts: ClassVar[tuple[str, ...]] = ("/",)
    counts_bytes: ClassVar[bool] = False
    attributes_make_versions: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.driver = self.run(self.make_driver())
        self.model = ModelFs(self.mounts, attributes_make_versions=self.attributes_make_versions)
        self.handles: list[tuple[Any, Handle]] = []
        #: (etag of the driver, etag of the model) of versions seen.
        self.etags = [("never", "never")]

    async def make_driver(self) -> Driver:
        raise NotImplementedError

    def path(self, place: Place) -> str:
        kind, number = place
        if kind == "any":
            return _PATHS[number % len(_PATHS)]
        nodes = sorted(self.model.nodes.items())
        if kind == "child":
            nodes = [(path, node) for path, node in nodes if node.is_dir and path.count("/") < 4]
        path = nodes[number % len(nodes)][0]
        return path if kind == "existing" else join(path, _NAMES[number % len(_NAMES)])

    @initialize()
    def make_tree(self) -> None:
        """Something to work on: otherwise most operations find nothing."""
        for path in ("/a", "/a/b"):
            self.open_close(path, OpenFlags(create=True, directory=True), b"")
        for path in ("/b", "/a/b/a"):
            self.open_close(path, OpenFlags(write=True, create=True), b"content")

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
        assert error == model_error, (error, model_error)
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

    @rule(place=places)
    def stat(self, place: Place) -> None:
        path = self.path(place)
        info, node = self.agree(self.driver.stat(path), lambda: self.model.find(path))
        if info is not None:
            assert info.path == path
            size = node.size if not info.is_dir else info.size
            assert (info.file_type, info.size) == (node.file_type, size)
            assert (info.mode, info.symlink_target) == (node.mode, node.target)
            if info.is_file:
                self.etags.append((info.etag, node.version))

    @rule(place=places, after=st.sampled_from(["", "a", "aa", "m"]), limit=st.integers(1, 4))
    def readdir(self, place: Place, after: str, limit: int) -> None:
        path = self.path(place)
        infos, names = self.agree(
            self.driver.readdir(path, after, limit), lambda: self.model.names(path)
        )
        if infos is not None:
            page = [name for name in names if name > after][:limit]
            assert [info.path for info in infos] == [join(path, name) for name in page]

    @rule(place=places, kind=conditions, number=st.integers(0, 9))
    def remove(self, place: Place, kind: str, number: int) -> None:
        path = self.path(place)
        real, model = self.condition(kind, number)
        self.agree(self.driver.remove(path, real), lambda: self.model.remove(path, model))

    @rule(place=places, to=places, kind=conditions, number=st.integers(0, 9))
    def rename(self, place: Place, to: Place, kind: str, number: int) -> None:
        path = self.path(place)
        self.wstat(path, StatChanges(name=self.path(to)), kind, number)

    @rule(place=places, text=st.sampled_from(["a", "/b", "../x"]))
    def symlink(self, place: Place, text: str) -> None:
        path = self.path(place)
        self.wstat(path, StatChanges(symlink_target=text), "none", 0)

    @rule(
        place=places,
        size=st.none() | offsets,
        mode=st.none() | st.sampled_from([0o600, 0o755]),
        kind=conditions,
        number=st.integers(0, 9),
    )
    def change(
        self, place: Place, size: int | None, mode: int | None, kind: str, number: int
    ) -> None:
        path = self.path(place)
        self.wstat(path, StatChanges(size=size, mode=mode), kind, number)

    def wstat(self, path: str, changes: StatChanges, kind: str, number: int) -> None:
        real, model = self.condition(kind, number)
        self.agree(
            self.driver.wstat(path, changes, real), lambda: self.model.wstat(path, changes, model)
        )

    @rule(place=places)
    def make_directory(self, place: Place) -> None:
        path = self.path(place)
        self.open_close(path, OpenFlags(create=True, directory=True), b"")

    @rule(place=places, data=st.binary(min_size=1, max_size=20), replace=st.booleans())
    def put(self, place: Place, data: bytes, replace: bool) -> None:
        """Write a whole file, as an upload does or in place."""
        path = self.path(place)
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

    @rule(place=places, flags=flags, kind=conditions, number=st.integers(0, 9))
    def open(self, place: Place, flags: OpenFlags, kind: str, number: int) -> None:
        path = self.path(place)
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
                path: (node.file_type, node.mode, node.content, node.target)
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
        found = {path: (info.file_type, info.mode, content, info.symlink_target)}
        if info.is_dir:
            for entry in await self.driver.readdir(path):
                found |= await self.tree(entry.path)
        return found
