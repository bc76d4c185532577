"""Runs the table recorded from Linux (`truth`) against a driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fs9.errors import Fs9Error, NotDirectory, NotFound
from fs9.path import join
from fs9.types import Capability, OpenFlags, StatChanges
from tests.conformance import truth
from tests.conformance.steps import (
    SECOND_NS,
    content_of,
    make_directory,
    make_file,
    make_link,
    names_in,
    rename,
)

if TYPE_CHECKING:
    from tests.conformance.driver import Driver


async def check_table(driver: Driver, table: str, run: Any) -> None:
    """Run every case of a table. One that changes its tree has one of its own, of what it names."""
    wrong, number, shared = [], 0, ""
    links = bool(await driver.capabilities() & Capability.SYMLINK)
    for case in truth.cases(table):
        if not links and _about_links(case):
            continue
        if "exclusive" not in driver.features and "x" in "".join(case.arguments[1:]):
            continue
        names = _named(case) if _changes(case) else set(truth.TREE)
        base = "" if _changes(case) else shared
        if not base:
            number += 1
            base = f"/tree{number}"
            await make_tree(driver, base, links, names)
        outcome = await run(driver, base, case.arguments)
        if outcome != case.outcome:
            wrong.append(f"{case.arguments}: {outcome} instead of {case.outcome}")
        if not _changes(case):
            shared = base if outcome == case.outcome else ""
    assert not wrong, "\n".join(wrong)


def _changes(case: truth.Case) -> bool:
    """Is something else there after it, as Linux does it?"""
    if case.outcome[0] != "ok":
        return False
    path = case.arguments[0]
    inner = {"inner": f"file of <{path}>", "sub": "directory of "}
    before = truth.TREE.get(path) or inner.get(path.rpartition("/")[2])
    return case.table != "open" or case.outcome[-1] != before


def _named(case: truth.Case) -> set[str]:
    """The names in the tree's root that the case is about, and what links lead to."""
    names = {argument.partition("/")[0] for argument in case.arguments}
    return names | {what.removeprefix("link to ") for what in map(truth.TREE.get, names) if what}


def _about_links(case: truth.Case) -> bool:
    texts = (*case.arguments, *case.outcome)
    return any("link" in text or "dangling" in text for text in texts)


async def make_tree(driver: Driver, base: str, links: bool, names: set[str]) -> None:
    """Of the tree that `tools/record_open_table.py` makes what has one of the names."""
    await make_directory(driver, base)
    for name in names & truth.TREE.keys():
        what = truth.TREE[name]
        path = join(base, name)
        if what.startswith("file"):
            await make_file(driver, path, f"<{name}>".encode())
        elif what.startswith("link"):
            if not links:
                continue
            await make_link(driver, path, what.removeprefix("link to "))
        else:
            await make_directory(driver, path)
            if what.endswith("inner,sub"):
                await make_file(driver, path + "/inner", f"<{name}/inner>".encode())
                await make_directory(driver, path + "/sub")


async def what_is(driver: Driver, path: str) -> str:
    try:
        info = await driver.stat(path)
    except (NotFound, NotDirectory):
        return "nothing"
    if info.is_symlink:
        return f"link to {info.symlink_target}"
    if info.is_dir:
        return "directory of " + ",".join(await names_in(driver, path))
    return "file of " + (await content_of(driver, path)).decode()


async def kind_of(operation: Any) -> tuple[str, Any]:
    """("ok", the result) of an awaitable, or (the kind of its error, None)."""
    try:
        return "ok", await operation
    except Fs9Error as error:
        return error.kind, None


async def open_case(driver: Driver, base: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    path = join(base, arguments[0])
    letters = arguments[1] if len(arguments) > 1 else ""
    flags = OpenFlags(**{truth.FLAGS[letter]: True for letter in letters})
    outcome, opened = await kind_of(driver.open(path, flags))
    if opened is None:
        return outcome, "", "", await what_is(driver, path)
    handle = opened[0]
    read, data = await kind_of(driver.read(handle, 0, 4))
    written, _ = await kind_of(driver.write(handle, 0, b"XY"))
    await driver.close(handle)
    if read == "ok":
        read = bytes(data).decode()
    return outcome, read, written, await what_is(driver, path)


async def rename_case(driver: Driver, base: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    source, target = (join(base, name) for name in arguments)
    outcome, _ = await kind_of(rename(driver, source, target))
    return outcome, await what_is(driver, source), await what_is(driver, target)


async def remove_case(driver: Driver, base: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    path = join(base, arguments[0])
    outcome, _ = await kind_of(driver.remove(path))
    return outcome, await what_is(driver, path)


async def wstat_case(driver: Driver, base: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    change, path = arguments[0].partition("="), join(base, arguments[1])
    changes = {
        "size": lambda text: StatChanges(size=int(text)),
        "mode": lambda text: StatChanges(mode=int(text, 8)),
        "mtime": lambda text: StatChanges(mtime_ns=int(text) * SECOND_NS),
        "symlink": lambda text: StatChanges(symlink_target=text),
    }[change[0]](change[2])
    outcome, _ = await kind_of(driver.wstat(path, changes))
    after = await what_is(driver, path)
    if outcome != "ok":
        return outcome, after, "", ""
    info = await driver.stat(path)
    mtime_s = info.mtime_ns // SECOND_NS
    return outcome, after, f"{info.mode & 0o777:o}", f"{mtime_s}" if mtime_s < 1_000_000 else "now"
