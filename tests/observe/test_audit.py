"""fs9.observe.audit: what is asked of the trail."""

from __future__ import annotations

import pytest

from fs9.errors import InvalidArgument
from fs9.observe.audit import EVENT_TYPES, clean_text, event_filter
from fs9.observe.audit_chain import AuditRecord


def event(event_type: str = "create", outcome: str = "ok", at_ns: int = 0) -> AuditRecord:
    return AuditRecord(0, at_ns, event_type, "/f", "u", 1, outcome, {}, "")


def test_only_changes_that_were_made_are_told_of_unless_more_is_asked_for():
    """Older clients see the contract's types alone, and no refusals."""
    wanted = event_filter()
    assert all(wanted.wants(event(each)) for each in EVENT_TYPES)
    assert not wanted.wants(event("create", "PermissionDenied"))
    assert not wanted.wants(event("revoke"))


def test_refusals_and_administration_have_to_be_asked_for():
    assert event_filter(outcome="refused").wants(event("read", "PermissionDenied"))
    assert not event_filter(outcome="refused").wants(event())
    assert event_filter(outcome="all").wants(event("mount"))
    assert event_filter(event_type="revoke").wants(event("revoke"))
    assert not event_filter(event_type="revoke").wants(event("create"))
    assert event_filter(event_type="all").wants(event("mount"))
    assert not event_filter(event_type="all").wants(event("mount", "Forbidden"))


def test_times_are_from_since_to_before_until():
    wanted = event_filter(since_ns=10, until_ns=20)
    assert [at for at in (9, 10, 19, 20) if wanted.wants(event(at_ns=at))] == [10, 19]


def test_unknown_words_are_refused():
    with pytest.raises(InvalidArgument, match="unknown event type: link"):
        event_filter(event_type="link")
    with pytest.raises(InvalidArgument, match="outcome"):
        event_filter(outcome="bad")


def test_a_name_that_no_database_keeps_does_not_stop_the_trail():
    """U+0000 and half surrogate pairs are replaced, all else stays."""
    assert clean_text("a\0ü😀") == "a�ü😀"
    assert clean_text("a\ud800") == "a?"
