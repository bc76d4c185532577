"""fs9.observe.readiness: the answer is true, quick, and cheap to ask for."""

from __future__ import annotations

import asyncio

from fs9.clock import ManualClock
from fs9.errors import BackendUnavailable
from fs9.observe.readiness import KEPT_S, Finding, Readiness


async def well() -> None:
    return None


async def test_each_check_says_what_it_found() -> None:
    async def down() -> None:
        raise BackendUnavailable("the database")

    async def bug() -> None:
        raise ValueError("/srv/secret")

    async def elsewhere() -> str:
        return "another worker serves it"

    checks = {"a": well, "b": down, "c": bug, "d": elsewhere}
    assert await Readiness(checks, ManualClock()).findings() == [
        Finding("worker", True),
        Finding("a", True),
        Finding("b", False, "storage backend unavailable: the database"),
        Finding("c", False, "ValueError"),
        Finding("d", True, "another worker serves it"),
    ]


async def test_the_answer_is_kept_for_a_moment_and_shared() -> None:
    runs = 0

    async def count() -> None:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0)

    clock = ManualClock()
    readiness = Readiness({"a": count}, clock)
    await asyncio.gather(*(readiness.findings() for _ in range(10)))
    await readiness.findings()
    assert runs == 1
    clock.advance(KEPT_S)
    await readiness.findings()
    assert runs == 2


async def test_a_check_that_hangs_is_told_and_not_begun_again() -> None:
    clock, gate, begun = ManualClock(), asyncio.Event(), 0

    async def hang() -> None:
        nonlocal begun
        begun += 1
        await gate.wait()

    readiness = Readiness({"slow": hang, "fast": well}, clock, timeout_s=0.01)
    for _ in range(3):
        found = await readiness.findings()
        assert found[1:] == [
            Finding("slow", False, "no answer within 0.01 s"),
            Finding("fast", True),
        ]
        clock.advance(KEPT_S)
    assert begun == 1
    gate.set()
    await asyncio.sleep(0)
    assert (await readiness.findings())[1] == Finding("slow", True)
    await readiness.aclose()


async def test_who_leaves_is_not_ready_at_once() -> None:
    readiness = Readiness({"a": well}, ManualClock())
    assert all(finding.ok for finding in await readiness.findings())
    readiness.leaving = "it is leaving"
    assert (await readiness.findings())[0] == Finding("worker", False, "it is leaving")


async def test_closing_ends_what_hangs() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    readiness = Readiness({"a": hang}, ManualClock(), timeout_s=0.01)
    await readiness.findings()
    await readiness.aclose()
