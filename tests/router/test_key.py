"""router.key: the namespace of a request, read and not trusted."""

from __future__ import annotations

import base64
import json

import pytest

from router.key import routing_key, split_tenant, token_namespace


def bearer(claims: object) -> bytes:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    return b"Bearer eyJhbGciOiJIUzI1NiJ9." + payload + b".c2ln"


@pytest.mark.parametrize(
    ("path", "tenant", "rest"),
    [
        (b"/api/v1/stat", None, b"/api/v1/stat"),
        (b"/acme/api/v1/stat", "acme", b"/api/v1/stat"),
        (b"/api/api/v1/stat", "api", b"/api/v1/stat"),
        (b"/a/b/api/v1/stat", None, b"/a/b/api/v1/stat"),
        (b"//api/v1/stat", None, b"//api/v1/stat"),
        (b"/health", None, b"/health"),
        (b"*", None, b"*"),
    ],
)
def test_the_tenant_is_one_segment_before_the_api(
    path: bytes, tenant: str | None, rest: bytes
) -> None:
    assert split_tenant(path) == (tenant, rest)


def test_the_key_is_the_claim_with_authentication_and_the_tenant_without() -> None:
    assert routing_key(b"/api/v1/stat", "beta", "acme", auth=True) == "acme"
    assert routing_key(b"/api/v1/stat", "beta", "acme", auth=False) == "beta"
    assert routing_key(b"/api/v1/stat", None, None, auth=False) == "default"


def test_what_is_about_no_namespace_has_no_key() -> None:
    assert routing_key(b"/health", None, "acme", auth=True) is None
    assert routing_key(b"/api/v1/stat", None, None, auth=True) is None


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"",
        b"Basic abc",
        b"bearer a.b.c",
        b"Bearer a.b",
        b"Bearer a.!!!.c",
        b"Bearer a." + base64.urlsafe_b64encode(b"[" * 100_000) + b".c",
        bearer(["ns"]),
        bearer({"ns": 7}),
        bearer({}),
        bearer({"ns": None}),
    ],
)
def test_a_token_without_a_readable_claim_has_no_namespace(authorization: bytes | None) -> None:
    assert token_namespace(authorization) is None


def test_two_tokens_of_one_namespace_have_one_key() -> None:
    first, second = bearer({"ns": "acme", "iat": 1}), bearer({"ns": "acme", "iat": 2})
    assert token_namespace(first) == token_namespace(second) == "acme"
