"""The table of endpoints."""

from __future__ import annotations

import msgspec

from fs9 import errors
from fs9.wire.examples import EXAMPLES
from fs9.wire.route import Access, BodyKind
from fs9.wire.routes import BY_NAME, ROUTES, errors_of


def test_names_and_endpoints_are_unique() -> None:
    assert len(BY_NAME) == len(ROUTES)
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_a_route_has_a_body_type_exactly_when_its_body_is_json() -> None:
    for route in ROUTES:
        assert (route.request is not None) == (route.body is BodyKind.JSON), route.name


def test_every_kind_of_error_is_documented_on_some_route() -> None:
    documented = {error.kind for route in ROUTES for error in errors_of(route)}
    assert documented == set(errors.KINDS)


def test_the_fast_ones_are_the_hot_ones() -> None:
    fast = {route.name for route in ROUTES if route.fast}
    assert fast == {"stat", "open", "read", "write", "close", "readdir"}


def test_only_server_pages_are_open() -> None:
    assert {route.name for route in ROUTES if route.access is Access.OPEN} == {
        "health",
        "livez",
        "readyz",
        "version",
        "openapi",
        "docs",
    }


def test_examples_have_the_declared_types() -> None:
    for name, example in EXAMPLES.items():
        route = BY_NAME[name]
        if example.request is not None:
            msgspec.convert(example.request, route.request)
        if example.answer is not None:
            msgspec.convert(example.answer, route.answers[0].shape)
