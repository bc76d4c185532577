"""The gate: credentials and tenants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.clock import ManualClock
from fs9.errors import Forbidden, InvalidArgument, Unauthenticated
from fs9.meta.models import Revocation
from fs9.principal import Principal
from tests.fix_http import new_tenant, token

if TYPE_CHECKING:
    from fs9.http.gate import Gate
    from fs9.meta.models import NamespaceStatus
    from tests.fix_http import Server, StartServer


def gate_of(server: Server) -> Gate:
    assert server.context is not None
    return server.context.gate


def test_without_authentication_everyone_is_admin_of_the_tenant(server: Server) -> None:
    gate = gate_of(server)
    admin = ("admin",)
    for tenant, expected in ((None, "default"), ("acme", "acme")):
        principal = gate.principal_nowait("Bearer x", tenant)
        assert principal == Principal("anonymous", expected, admin, anonymous=True)
    for tenant in ("Acme", "a%20", "x" * 65, "-"):
        with pytest.raises(InvalidArgument):
            gate.principal_nowait(None, tenant)


async def test_a_session_is_there_once_the_namespace_was_loaded(server: Server) -> None:
    gate, tenant = gate_of(server), new_tenant()
    assert gate.enter_cached(gate.principal_nowait(None, tenant)) is None
    session = await gate.enter(await gate.principal(None, tenant))
    assert session.principal.namespace == tenant
    again = gate.enter_cached(gate.principal_nowait(None, tenant))
    assert again is not None
    assert again.namespace is session.namespace


async def test_a_namespace_that_was_unloaded_is_loaded_again(server: Server) -> None:
    gate, tenant = gate_of(server), new_tenant()
    session = await gate.enter(await gate.principal(None, tenant))
    await session.namespace.aclose()
    assert gate.enter_cached(gate.principal_nowait(None, tenant)) is None


async def test_with_authentication_the_token_names_the_namespace(auth_server: Server) -> None:
    gate = gate_of(auth_server)
    authorization = f"Bearer {token('default', 'reader')}"
    principal = gate.principal_nowait(authorization, "default")
    assert (principal.user, principal.namespace, principal.roles) == (
        "alice",
        "default",
        ("reader",),
    )
    with pytest.raises(Forbidden):
        gate.principal_nowait(authorization, "other")
    with pytest.raises(Forbidden):
        await gate.enter(await gate.principal(f"Bearer {token(new_tenant())}"))
    for wrong in (None, "", "Bearer", "Basic x", "bearer x", "Bearer é", "Bearer x"):
        with pytest.raises(Unauthenticated):
            gate.principal_nowait(wrong)


async def test_whose_namespace_is_deleted_is_not_told_of_revoked_tokens(
    start_server: StartServer,
) -> None:
    """All tokens of a namespace are revoked with it: while it is active 401, without it 403."""
    server = await start_server(auth=True)
    assert server.context is not None
    services, gate, tenant = server.context.services, gate_of(server), new_tenant()
    await services.store.create_namespace(tenant, "system", ())
    authorization = f"Bearer {token(tenant)}"
    assert gate.principal_nowait(authorization).namespace == tenant
    now_s = int(services.clock.now_s())
    revoked = Revocation("namespace", tenant, None, now_s + 999, now_s, "system", now_s)
    assert services.verifier is not None
    services.verifier.revoke([revoked])
    assert gate.principal_nowait(authorization) is None
    with pytest.raises(Unauthenticated, match="revoked"):
        await gate.principal(authorization)
    statuses: tuple[NamespaceStatus, ...] = ("suspended", "deleted")
    for status in statuses:
        await services.store.set_status(tenant, status, "system")
        with pytest.raises(Forbidden):
            await gate.principal(authorization)


async def test_a_token_that_expired_meanwhile_holds_no_more(start_server: StartServer) -> None:
    clock = ManualClock()
    gate = gate_of(await start_server(auth=True, clock=clock))
    authorization = f"Bearer {token('default', clock=clock)}"
    assert gate.principal_nowait(authorization).namespace == "default"
    clock.advance(600 + 61)  # its life, and the leeway for clocks that differ
    with pytest.raises(Unauthenticated, match="ExpiredSignature"):
        gate.principal_nowait(authorization)
