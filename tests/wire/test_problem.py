"""Errors on the wire."""

from __future__ import annotations

import json

import pytest

from fs9.errors import (
    KINDS,
    BackendUnavailable,
    CircuitBreakerOpen,
    Forbidden,
    Fs9Error,
    Internal,
    NotFound,
    TooManyRequests,
)
from fs9.wire.problem import error_from_reply, error_reply


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_error_crosses_the_wire_with_class_and_detail(kind: str) -> None:
    error = KINDS[kind]("/some/path")
    status, body, headers = error_reply(error)
    assert status == error.status
    assert b'": ' not in body
    fields = json.loads(body)
    assert (fields["error"], fields["code"], fields["kind"]) == (str(error), status, kind)
    assert ("retry-after" in dict(headers)) == (status in {429, 503})
    assert ("www-authenticate" in dict(headers)) == (status == 401)
    found = error_from_reply(status, body)
    assert type(found) is KINDS[kind]
    assert found.detail == "/some/path"


def test_who_is_told_to_wait_is_told_how_long() -> None:
    for error in (TooManyRequests("", retry_after_s=7), CircuitBreakerOpen("x", retry_after_s=7)):
        assert dict(error_reply(error)[2])["retry-after"] == "7"
    assert dict(error_reply(CircuitBreakerOpen("x"))[2])["retry-after"] == "1"


def test_only_an_error_about_a_path_has_one() -> None:
    assert json.loads(error_reply(NotFound("/a"))[1])["path"] == "/a"
    assert "path" not in json.loads(error_reply(Forbidden("no"))[1])
    other = error_reply(NotFound("provider nofs; there is memfs"))
    assert "path" not in json.loads(other[1])
    assert error_from_reply(*other[:2]).detail == "provider nofs; there is memfs"


def test_a_text_of_the_contract_replaces_the_own_one() -> None:
    fields = json.loads(error_reply(NotFound("x"), "Namespace 'x' not found")[1])
    assert fields == {"error": "Namespace 'x' not found", "code": 404, "kind": "NotFound"}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, b'{"error":"not found: /a","code":404}', NotFound),
        (404, b"", NotFound),
        (503, b"<html>", BackendUnavailable),
        (418, b"[]", Internal),
        (500, b'{"error":"x","code":500,"kind":"OfTheFuture"}', Internal),
        (500, b"\xff", Internal),
    ],
)
def test_replies_of_others_become_an_error_too(
    status: int, body: bytes, expected: type[Fs9Error]
) -> None:
    assert type(error_from_reply(status, body)) is expected
