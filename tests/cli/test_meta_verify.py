"""`fs9 meta verify` finds whatever was done to events in the database itself."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from fs9.cli.main import main
from fs9.clock import ManualClock
from fs9.limits import Limits
from fs9.meta.sqlite import SqliteStore
from fs9.observe.audit_trail import AuditTrail
from fs9.threads import BlockingPool

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("acme", "beta")
EVENTS = 6


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Two namespaces with a chain of events each."""
    path = tmp_path / "meta.db"

    async def run() -> None:
        pool, clock = BlockingPool(1), ManualClock()
        store = await SqliteStore.open(path, clock, pool)
        for name in NAMES:
            await store.create_namespace(name, "root", ())
            trail = AuditTrail(name, store, Limits(), clock)
            for number in range(EVENTS):
                trail.record("create", f"/{number}", "alice")
            await trail.aclose()
        await store.aclose()
        pool.shutdown()

    asyncio.run(run())
    return path


def verify(database: Path, *arguments: str) -> int:
    dsn = f"sqlite:{database}"
    return main(["meta", "verify", "--dsn", dsn, "--data-dir", str(database.parent), *arguments])


def tamper(database: Path, *statements: str) -> None:
    """In the chain of `acme`."""
    connection = sqlite3.connect(database)
    for statement in statements:
        connection.execute(
            f"{statement} AND namespace_id = (SELECT id FROM namespaces WHERE name = 'acme')"
        )
    connection.commit()
    connection.close()


def test_whole_chains_and_their_tips(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tip that is printed can be looked for later, and tells of an end that was cut off."""
    assert verify(database) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(", tip")[0] for line in lines] == [
        f"{name}: whole, {EVENTS} events" for name in NAMES
    ]
    tip = lines[0].rpartition(" ")[2]
    assert verify(database, "-n", "acme", "--noted", tip) == 0
    assert verify(database, "--noted", tip) == 1
    tamper(database, f"DELETE FROM audit_events WHERE sequence = {EVENTS}")
    assert verify(database) == 0
    assert verify(database, "-n", "acme", "--noted", tip) == 1
    assert f"broken at event {EVENTS}" in capsys.readouterr().out
    assert verify(database, "-n", "nobody") == 3


@pytest.mark.parametrize(
    ("statements", "broken_at"),
    [
        (["UPDATE audit_events SET user_name = 'eve' WHERE sequence = 3"], 3),
        (["UPDATE audit_events SET details = '{\"a\":1}' WHERE sequence = 1"], 1),
        (["DELETE FROM audit_events WHERE sequence = 4"], 5),
        (
            [
                "UPDATE audit_events SET sequence = 100 WHERE sequence = 2",
                "UPDATE audit_events SET sequence = 2 WHERE sequence = 3",
                "UPDATE audit_events SET sequence = 3 WHERE sequence = 100",
            ],
            2,
        ),
        (
            [
                "UPDATE audit_events SET sequence = 7 WHERE sequence = 6",
                "INSERT INTO audit_events SELECT namespace_id, 6, timestamp_ns, event_type, path,"
                " user_name, count, outcome, details, digest, previous FROM audit_events"
                " WHERE sequence = 5",
            ],
            6,
        ),
    ],
    ids=["edited", "details", "deleted", "moved", "inserted"],
)
def test_tampering_is_found(
    database: Path,
    capsys: pytest.CaptureFixture[str],
    statements: list[str],
    broken_at: int,
) -> None:
    tamper(database, *statements)
    assert verify(database) == 1
    out = capsys.readouterr().out
    assert f"acme: broken at event {broken_at}:" in out
    assert "beta: whole" in out


@pytest.mark.parametrize(
    ("change", "number", "why"),
    [
        ("details = 'no JSON' WHERE sequence = 3", 3, None),
        ("details = '[1]' WHERE sequence = 3", 3, None),
        ("details = X'FF' WHERE sequence = 3", 3, None),
        ("details = '' WHERE sequence = 6", 6, None),
        (f"details = '{'[' * 5000}' WHERE sequence = 3", 3, None),
        ("path = X'FF' WHERE sequence = 3", 3, None),
        ("user_name = 7 WHERE sequence = 3", 3, "its digest is not"),
        ("count = 'many' WHERE sequence = 3", 3, None),
        ("count = 1.5 WHERE sequence = 3", 3, None),
        ("timestamp_ns = X'00' WHERE sequence = 3", 3, None),
        ("digest = X'FF' WHERE sequence = 3", 3, None),
        ("previous = 5 WHERE sequence = 3", 3, "it does not follow"),
        ("sequence = 'x' WHERE sequence = 6", 6, None),
        ("sequence = 'x' WHERE sequence = 3", 4, "event 3 should be here"),
    ],
)
def test_a_row_that_cannot_be_read_breaks_the_chain_there(
    database: Path, capsys: pytest.CaptureFixture[str], change: str, number: int, why: str | None
) -> None:
    """And is told of as such; the other chains are checked."""
    tamper(database, f"UPDATE audit_events SET {change}")
    assert verify(database) == 1
    out = capsys.readouterr().out
    reason = "it cannot be read any more" if why is None else why
    assert f"acme: broken at event {number}: {reason}" in out
    assert "beta: whole" in out
