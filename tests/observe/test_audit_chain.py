"""fs9.observe.audit_chain: whatever is done to stored events is found."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fs9.observe.audit_chain import AuditRecord, ChainCheck, Tip, continued, tip_of


def events(count: int, tip: Tip | None = None) -> list[AuditRecord]:
    made = [
        AuditRecord(0, n, "create", f"/{n}", "u", 1, "ok", {"b": n, "a": "x"}, "")
        for n in range(count)
    ]
    return continued(tip or Tip(), made)


def broken(records: list[AuditRecord], noted: Tip | None = None) -> int | None:
    check = ChainCheck(noted)
    for start in range(0, len(records), 3):
        check.feed(records[start : start + 3])
    found = check.end()
    return None if found is None else found.sequence


def changed(record: AuditRecord, **fields: Any) -> AuditRecord:
    return msgspec.structs.replace(record, **fields)


def test_a_chain_goes_on_where_another_owner_left_it():
    first = events(3)
    chain = first + events(4, tip_of(first[-1]))
    assert [record.sequence for record in chain] == [1, 2, 3, 4, 5, 6, 7]
    assert broken(chain) is None


def test_a_chain_whose_beginning_is_gone_says_where_it_begins():
    for chain, extent in (
        (events(3), "3 events"),
        (events(5)[2:], "3 events from 3 on (older ones were removed)"),
        ([], "0 events"),
    ):
        check = ChainCheck()
        check.feed(chain)
        assert (check.end(), check.extent) == (None, extent)


def test_the_canonical_form_is_fixed():
    """Stored chains must hold with every later version; details may come in another order."""
    expected = "c025d4770bcaf5862a76c2eaa6d5e78ee3bb129d1be646a7eb9fa0168aa01d78"
    assert events(1)[0].digest == expected
    turned = changed(events(1)[0], details={"a": "x", "b": 0})
    assert broken([turned]) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"timestamp_ns": 7},
        {"event_type": "delete"},
        {"path": "/other"},
        {"user": "v"},
        {"count": 2},
        {"outcome": "PermissionDenied"},
        {"details": {}},
        {"digest": "0" * 64},
        {"previous": "0" * 64},
    ],
)
def test_an_edited_event_is_found(fields: dict[str, Any]):
    chain = events(6)
    chain[3] = changed(chain[3], **fields)
    assert broken(chain) == 4


def test_an_event_edited_with_its_digest_breaks_the_next_one():
    chain = events(6)
    forged = continued(tip_of(chain[2]), [changed(chain[3], path="/forged")])
    assert broken([*chain[:3], *forged, *chain[4:]]) == 5


def test_a_deleted_event_is_found():
    chain = events(6)
    assert broken(chain[:2] + chain[3:]) == 4
    renumbered = [changed(record, sequence=n + 1) for n, record in enumerate(chain[:2] + chain[3:])]
    assert broken(renumbered) == 3


def test_events_in_another_order_are_found():
    chain = events(6)
    chain[2], chain[3] = chain[3], chain[2]
    assert broken(chain) == 4


def test_an_inserted_event_is_found():
    chain = events(6)
    assert broken([*chain[:3], *events(1, tip_of(chain[2])), *chain[3:]]) is not None
    assert broken([*chain[:3], chain[2], *chain[3:]]) == 3


def test_a_chain_may_begin_later():
    """After older events were forgotten; what is left is still checked."""
    chain = events(6)
    assert broken(chain[3:]) is None
    assert broken([*chain[3:5], changed(chain[5], path="/x")]) == 6
    assert broken([changed(chain[0], previous="0" * 64)]) == 1


def test_a_noted_tip_tells_that_the_end_was_cut_off_or_written_anew():
    chain = events(6)
    noted = tip_of(chain[4])
    assert broken(chain, noted) is None
    assert broken(chain[:3], noted) == 5
    other = [*chain[:3], *continued(tip_of(chain[2]), [changed(r, user="v") for r in chain[3:]])]
    assert broken(other) is None
    assert broken(other, noted) == 5
