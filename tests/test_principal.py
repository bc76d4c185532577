"""fs9.principal: which roles may change files, and which endpoints need one."""

from __future__ import annotations

import pytest

from fs9.errors import Forbidden, PermissionDenied
from fs9.principal import Principal, require_change, require_role


@pytest.mark.parametrize(
    ("roles", "may"),
    [
        ((), True),
        (("read-write",), True),
        (("admin",), True),
        (("operator",), True),
        (("unknown",), True),
        (("read-only",), False),
        (("reader",), False),
        (("reader", "read-only"), False),
        (("reader", "read-write"), True),
    ],
)
def test_who_may_change(roles: tuple[str, ...], may: bool):
    """Everyone but who has reading roles only."""
    principal = Principal("u", "ns", roles)
    assert principal.may_change is may
    if may:
        require_change(principal)
    else:
        with pytest.raises(PermissionDenied, match="read-only"):
            require_change(principal)


def test_required_roles():
    """One of the allowed ones is enough; the text is the contract's."""
    require_role(Principal("u", "ns", ("x", "operator")), "admin", "operator")
    for roles in ((), ("operator",)):
        with pytest.raises(Forbidden, match=r"^Insufficient permissions$"):
            require_role(Principal("u", "ns", roles), "admin")
