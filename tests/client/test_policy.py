"""What may be tried again, case by case."""

from __future__ import annotations

import json

import pytest

from fs9.client.policy import Outcome, Repeat, may_try_again, outcome_of, retry_after_s
from fs9.errors import (
    KINDS,
    BackendUnavailable,
    Fs9Error,
    NotFound,
    Overloaded,
    OwnerUnavailable,
    TooManyRequests,
    Transient,
)


@pytest.mark.parametrize("outcome", [Outcome.NOT_SENT, Outcome.TURNED_AWAY])
@pytest.mark.parametrize("repeat", list(Repeat))
def test_what_was_not_done_is_tried_again(repeat: Repeat, outcome: Outcome) -> None:
    assert may_try_again(repeat, outcome)


def test_what_may_have_been_done_is_tried_again_only_when_repeatable() -> None:
    assert may_try_again(Repeat.REPEATABLE, Outcome.UNKNOWN)
    assert not may_try_again(Repeat.ONCE, Outcome.UNKNOWN)


@pytest.mark.parametrize("repeat", list(Repeat))
def test_an_answer_is_an_answer(repeat: Repeat) -> None:
    assert not may_try_again(repeat, Outcome.ANSWERED)


def body(error: Fs9Error) -> bytes:
    return json.dumps({"error": "x", "code": error.status, "kind": error.kind}).encode()


@pytest.mark.parametrize("kind", [Overloaded, OwnerUnavailable, TooManyRequests])
def test_refusals_before_the_work_are_turned_away(kind: type[Fs9Error]) -> None:
    assert outcome_of(kind("x"), body(kind("x")), None) is Outcome.TURNED_AWAY


@pytest.mark.parametrize("kind", [Transient, BackendUnavailable])
def test_failures_during_the_work_are_unknown_even_with_retry_after(kind: type[Fs9Error]) -> None:
    assert outcome_of(kind("x"), body(kind("x")), 1.0) is Outcome.UNKNOWN


def test_a_proxy_s_503_with_retry_after_is_turned_away() -> None:
    error = BackendUnavailable("x")
    assert outcome_of(error, b"<html>busy</html>", 1.0) is Outcome.TURNED_AWAY
    assert outcome_of(error, b"<html>busy</html>", None) is Outcome.UNKNOWN


def test_every_kind_that_is_not_retryable_is_an_answer() -> None:
    for kind in KINDS.values():
        if not kind.retryable:
            assert outcome_of(kind("x"), body(kind("x")), 1.0) is Outcome.ANSWERED
    assert NotFound.kind in KINDS


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        (" 0 ", 0.0),
        ("Wed, 21 Oct", 0.0),
        ("9" * 9, 0.0),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    """Seconds are honoured; a date, or nonsense, asks for no particular wait."""
    assert retry_after_s(header) == seconds
