"""fs9.observe.audit: newest first, filtered, merged, bounded."""

from __future__ import annotations

import pytest

from fs9.errors import InvalidArgument
from fs9.observe.audit import EVENT_TYPES, AuditEvent, AuditLog


@pytest.fixture
def log() -> AuditLog:
    return AuditLog(100)


def test_newest_first_with_limit_and_offset(log: AuditLog):
    """Filters come first, then the offset, then the limit."""
    for number in range(10):
        log.record("create", f"/{number % 2}/{number}", "u", float(number))
    assert [event.path for event in log.find(limit=3)] == ["/1/9", "/0/8", "/1/7"]
    assert [event.path for event in log.find(limit=2, offset=8)] == ["/1/1", "/0/0"]
    assert [event.path for event in log.find(path="/1/", offset=1, limit=2)] == ["/1/7", "/1/5"]
    assert log.find(offset=10) == []
    assert log.find(limit=0) == []


def test_path_is_a_text_prefix(log: AuditLog):
    for path in ("/a", "/ab", "/b"):
        log.record("create", path, "u", 0)
    assert [event.path for event in log.find(path="/a")] == ["/ab", "/a"]


def test_types(log: AuditLog):
    """The contract's eight; another one is told."""
    for event_type in EVENT_TYPES:
        log.record(event_type, "/f", "u", 0)
    assert [event.event_type for event in log.find(event_type="mkdir")] == ["mkdir"]
    assert len(log.find()) == 8
    with pytest.raises(InvalidArgument, match="unknown event type: link"):
        log.find(event_type="link")


def test_equal_events_within_a_second_are_counted(log: AuditLog):
    """Merged with the last one only, within a second of its first; anything else is another."""
    log.record("create", "/f", "u", 10.0)
    log.record("create", "/f", "u", 10.5)
    log.record("create", "/f", "u", 10.99)
    assert log.find() == [AuditEvent(10.0, "create", "/f", "u", 3)]
    log.record("create", "/f", "u", 11.0)
    log.record("delete", "/f", "u", 11.1)
    log.record("create", "/f", "u", 11.2)
    log.record("create", "/f", "v", 11.3)
    log.record("create", "/g", "v", 11.4)
    assert [event.count for event in log.find()] == [1, 1, 1, 1, 1, 3]


def test_renames_to_different_places_are_not_equal(log: AuditLog):
    log.record("rename", "/f", "u", 1.0, target="/g")
    log.record("rename", "/f", "u", 1.1, target="/h")
    assert [event.target for event in log.find()] == ["/h", "/g"]


def test_the_oldest_are_forgotten():
    log = AuditLog(3)
    for number in range(5):
        log.record("create", f"/{number}", "u", 0)
    assert [event.path for event in log.find()] == ["/4", "/3", "/2"]
    assert len(log) == 3
