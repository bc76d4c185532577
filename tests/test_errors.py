"""fs9.errors: texts, statuses and kinds that clients know."""

from __future__ import annotations

import errno
import pickle

import pytest

from fs9 import errors
from fs9.errors import KINDS, Fs9Error

CONTRACT = {
    "NotFound": (404, "not found: x"),
    "PermissionDenied": (403, "permission denied: x"),
    "AlreadyExists": (409, "already exists: x"),
    "InvalidArgument": (400, "invalid argument: x"),
    "NotDirectory": (400, "not a directory: x"),
    "IsDirectory": (400, "is a directory: x"),
    "DirectoryNotEmpty": (400, "directory not empty: x"),
    "InvalidHandle": (400, "invalid handle: x"),
    "Internal": (500, "internal error: x"),
    "NotImplemented": (501, "not implemented: x"),
    "BackendUnavailable": (503, "storage backend unavailable: x"),
    "Transient": (503, "transient error (retryable): x"),
    "TooManyHops": (508, "too many proxy hops: x"),
    "Timeout": (504, "timeout after x"),
    "Remote": (500, "remote error from x"),
    "CircuitBreakerOpen": (503, "circuit breaker open for x"),
    "Conflict": (409, "conflict: x"),
    "VersionConflict": (409, "version conflict: x"),
}


@pytest.mark.parametrize("kind", CONTRACT)
def test_the_contracts_texts_and_statuses(kind: str):
    error = KINDS[kind]("x")
    assert (error.status, str(error)) == CONTRACT[kind]


def test_only_invalid_handles_say_handle_among_the_400s():
    """Older Python clients choose the class by that word."""
    saying = {
        kind
        for kind, error in KINDS.items()
        if error.status == 400 and "handle" in error("").prefix
    }
    assert saying == {"InvalidHandle"}


def test_kinds_are_unique_and_complete():
    """Each class has its own kind, under which it is found."""
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, Fs9Error) and value is not Fs9Error
    ]
    assert {error.kind for error in classes} == set(KINDS)
    assert len(classes) == len(KINDS)
    assert all(KINDS[error.kind] is error for error in classes)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_status_and_an_errno(kind: str):
    error = KINDS[kind]
    assert 400 <= error.status <= 599
    assert error.errno in errno.errorcode
    assert error("detail").detail == "detail"


@pytest.mark.parametrize("kind", KINDS)
def test_errors_cross_processes(kind: str):
    """Isolated providers pickle them: kind and text survive."""
    error = KINDS[kind]("some detail")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)


def test_what_may_be_tried_again():
    """Only what may pass by itself: nothing that is the caller's own mistake."""
    retryable = {kind for kind, error in KINDS.items() if error.retryable}
    assert {"Transient", "Timeout", "BackendUnavailable"} <= retryable
    assert not retryable & {"NotFound", "PermissionDenied", "InvalidArgument", "QuotaExceeded"}
