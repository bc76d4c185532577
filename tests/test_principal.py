"""fs9.principal: which roles may change files, and who administers what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import Forbidden, PermissionDenied
from fs9.principal import (
    Principal,
    is_server_admin,
    require_change,
    require_namespace_admin,
    require_namespace_operator,
    require_server_admin,
    require_server_operator,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ADMIN_NAMESPACES = ("admin", "default")


def allows(check: Callable[..., None], *arguments: Any) -> bool:
    """Does the check pass?"""
    try:
        check(*arguments)
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize(
    ("roles", "may"),
    [
        ((), True),
        (("read-write",), True),
        (("admin",), True),
        (("operator",), True),
        (("unknown", "read-write"), True),
        (("reader", "read-write"), True),
        (("unknown",), False),
        (("Admin",), False),
        (("",), False),
        (("read-only",), False),
        (("reader",), False),
        (("reader", "read-only"), False),
        (("reader", "unknown"), False),
    ],
)
def test_who_may_change(roles: tuple[str, ...], may: bool):
    """Who has a changing role or none at all; unknown roles only read."""
    principal = Principal("u", "ns", roles)
    assert principal.may_change is may
    if may:
        require_change(principal)
    else:
        with pytest.raises(PermissionDenied, match="read-only"):
            require_change(principal)


@pytest.mark.parametrize(
    ("namespace", "role", "expected"),
    [
        # server admin, server operator, admin of acme, operator of acme
        ("admin", "admin", (True, True, True, True)),
        ("default", "admin", (True, True, True, True)),
        ("default", "operator", (False, True, False, True)),
        ("acme", "admin", (False, False, True, True)),
        ("acme", "operator", (False, False, False, True)),
        ("other", "admin", (False, False, False, False)),
        ("acme", "read-write", (False, False, False, False)),
        ("default", "read-write", (False, False, False, False)),
        ("default", "Admin", (False, False, False, False)),
    ],
)
def test_who_administers_what(namespace: str, role: str, expected: tuple[bool, ...]):
    """An admin administers its own namespace; only a listed one means the server."""
    principal = Principal("u", namespace, ("x", role))
    assert is_server_admin(principal, ADMIN_NAMESPACES) is expected[0]
    assert expected == (
        allows(require_server_admin, principal, ADMIN_NAMESPACES),
        allows(require_server_operator, principal, ADMIN_NAMESPACES),
        allows(require_namespace_admin, principal, "acme", ADMIN_NAMESPACES),
        allows(require_namespace_operator, principal, "acme", ADMIN_NAMESPACES),
    )


def test_the_refusal_has_the_contracts_words():
    with pytest.raises(Forbidden, match=r"^Insufficient permissions$"):
        require_server_admin(Principal("u", "acme", ("admin",)), ADMIN_NAMESPACES)


def test_no_listed_namespace_means_no_server_admin():
    assert not is_server_admin(Principal("u", "default", ("admin",)), ())


def test_without_authentication_everybody_administers():
    """Anonymous is who came without authentication, not who is called so."""
    assert is_server_admin(Principal("anonymous", "acme", ("admin",), anonymous=True), ())
    assert not is_server_admin(Principal("anonymous", "acme", ("admin",)), ADMIN_NAMESPACES)


@pytest.mark.parametrize(
    ("narrowing", "may"),
    [
        ({"mounts": ("/a",)}, False),
        ({"mounts": ("/a", "/")}, True),
        ({"permissions": ("read", "list")}, False),
        ({"permissions": ("admin:/a",)}, False),
        ({"permissions": ("admin",)}, True),
        ({"permissions": ("admin:/",)}, True),
        ({"permissions": ("admin",), "mounts": ("/a",)}, False),
    ],
)
def test_a_narrowed_token_administers_only_with_that_right(narrowing: dict[str, Any], may: bool):
    principal = Principal("u", "default", ("admin",), **narrowing)
    assert is_server_admin(principal, ADMIN_NAMESPACES) is may
    assert allows(require_namespace_admin, principal, "default", ADMIN_NAMESPACES) is may
    assert allows(require_namespace_operator, principal, "default", ADMIN_NAMESPACES) is may
