"""Credentials that a metadata service decides about: what it refuses is final."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.auth.remote import RemoteKeys, RemoteRefresher, RemoteValidator
from fs9.auth.tokens import Keys, sign
from fs9.auth.verifier import Verifier
from fs9.clock import ManualClock
from fs9.config import Settings
from fs9.errors import BackendUnavailable, Forbidden, NotFound, Unauthenticated
from fs9.limits import Limits
from fs9.meta.models import NamespaceRecord, Revocation
from fs9.meta.wire import TokenReply, VerdictReply, time_text

if TYPE_CHECKING:
    from fs9.errors import Fs9Error

SECRET = "a secret of the tests, longer than 32 bytes"
#: Not ours: the signature is the service's matter.
OTHER_SECRET = "a secret of the service, longer than 32 bytes"
NOW_S = 1_800_000_000
HOUR_S = 3600


class Service:
    """Says what it is told to say; `error` when it says nothing."""

    def __init__(self) -> None:
        self.verdict = VerdictReply(True, "alice", "acme", ["read-only"])
        self.error: Fs9Error | None = None
        self.asked = 0
        self.gone: set[str] = set()

    async def validate(self, token: str) -> VerdictReply:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.verdict

    validate_key = validate

    async def namespace(self, name: str) -> NamespaceRecord:
        if name in self.gone:
            raise NotFound(name)
        return NamespaceRecord(name, "active", NOW_S, "root", (), "id")

    async def refresh(self, token: str, ttl_s: int) -> TokenReply:
        await self.validate(token)
        return TokenReply("new", time_text(NOW_S + ttl_s) or "")


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_S)


def settings() -> Settings:
    return Settings(meta_endpoints=("http://x",), jwt_secret=SECRET)


@pytest.fixture
def verifier(service: Service, clock: ManualClock) -> Verifier:
    return Verifier(
        Keys.of_secrets((SECRET,)),
        Limits(),
        clock,
        api_keys=RemoteKeys(service),
        remote=RemoteValidator(service, settings(), clock),
    )


def token(secret: str = OTHER_SECRET, **claims: object) -> str:
    made: dict[str, object] = {"sub": "alice", "ns": "acme", "roles": ["read-only"]}
    made |= {"iat": NOW_S, "exp": NOW_S + HOUR_S}
    return sign({key: value for key, value in (made | claims).items() if value is not None}, secret)


async def test_a_token_that_the_service_knows(verifier: Verifier, service: Service) -> None:
    """Its narrowing is read from it; it is asked about once."""
    given = token(mounts=["/a"], permissions=["read"], jti="j")
    principal = await verifier.verify(given)
    assert (principal.user, principal.namespace) == ("alice", "acme")
    assert (principal.mounts, principal.permissions) == (("/a",), ("read",))
    assert (principal.jti, principal.issued_at_s) == ("j", NOW_S)
    assert await verifier.verify(given) == principal
    assert service.asked == 1


async def test_no_is_final(verifier: Verifier, service: Service) -> None:
    """Also about a token with a good signature of our own secret."""
    service.verdict = VerdictReply(False, error="User is inactive")
    with pytest.raises(Unauthenticated, match="Invalid token: User is inactive"):
        await verifier.verify(token(SECRET))
    service.verdict = VerdictReply(False)
    with pytest.raises(Unauthenticated, match="Invalid token: validation failed"):
        await verifier.verify(token(SECRET, jti="other"))
    service.verdict = VerdictReply(False, error="Token has been revoked")
    with pytest.raises(Unauthenticated, match=r"^Token has been revoked$"):
        await verifier.verify(token(SECRET, jti="third"))


@pytest.mark.parametrize(
    "claims",
    [{"ns": None}, {"exp": None}, {"exp": NOW_S - 61}, {"ns": "other"}, {"aud": "someone"}],
)
async def test_a_token_needs_a_namespace_and_an_expiry(
    verifier: Verifier, claims: dict[str, object]
) -> None:
    """Whatever the service says, and the same namespace as the service says."""
    with pytest.raises(Unauthenticated):
        await verifier.verify(token(**claims))


async def test_a_verdict_without_namespace_is_none(verifier: Verifier, service: Service) -> None:
    """It is never `default`."""
    service.verdict = VerdictReply(True, "alice")
    with pytest.raises(Unauthenticated, match="Token missing required 'ns' claim"):
        await verifier.verify(token())


async def test_a_verdict_without_roles_leaves_those_of_the_token(
    verifier: Verifier, service: Service
) -> None:
    """None at all would be more than read-only."""
    service.verdict = VerdictReply(True, "alice", "acme", [])
    assert (await verifier.verify(token())).roles == ("read-only",)


async def test_an_outage(verifier: Verifier, service: Service, clock: ManualClock) -> None:
    """New tokens are refused, known ones go on for a while, revoked ones stay revoked."""
    known, revoked = token(exp=NOW_S + 7200), token(jti="r", exp=NOW_S + 7200)
    await verifier.verify(known)
    await verifier.verify(revoked)
    service.error = BackendUnavailable("gone")
    with pytest.raises(BackendUnavailable):
        await verifier.verify(token(SECRET, jti="new"))
    clock.advance(Limits().token_cache_ttl_s + 1)
    assert (await verifier.verify(known)).user == "alice"
    verifier.revoke([Revocation("jti", "r", None, NOW_S + 9999, NOW_S, "root")])
    with pytest.raises(Unauthenticated, match="revoked"):
        await verifier.verify(revoked)
    clock.advance(Limits().token_outage_grace_s)
    with pytest.raises(BackendUnavailable):
        await verifier.verify(known)


async def test_a_suspended_namespace_is_forbidden(
    verifier: Verifier, service: Service, clock: ManualClock
) -> None:
    """Whether the token is known here or not; the service is not asked each time."""
    service.verdict = VerdictReply(False, error="Namespace is not active")
    for credential in (token(), "fs9_1"):
        asked = service.asked
        for _ in range(3):
            with pytest.raises(Forbidden, match=r"^Namespace is not active$"):
                await verifier.verify(credential)
        assert service.asked == asked + 1


async def test_of_a_deleted_namespace_tokens_are_forbidden(
    verifier: Verifier, service: Service
) -> None:
    """They were revoked with it; others that were revoked are told that."""
    service.verdict = VerdictReply(False, error="Token has been revoked")
    service.gone = {"acme", "admin"}
    with pytest.raises(Forbidden, match="not found"):
        await verifier.verify(token())
    for name in ("admin", "other"):
        with pytest.raises(Unauthenticated, match=r"^Token has been revoked"):
            await verifier.verify(token(ns=name))


async def test_api_keys(verifier: Verifier, service: Service) -> None:
    """The service names user and namespace; a revocation of the key's id ends it."""
    service.verdict = VerdictReply(
        True, "id", "acme", ["admin"], username="bob", key_id="k", issued_at=5
    )
    principal = await verifier.verify("fs9_1")
    assert (principal.user, principal.namespace, principal.key_id) == ("bob", "acme", "k")
    assert principal.expires_at_s is None
    verifier.revoke([Revocation("key", "k", None, NOW_S + 9, NOW_S, "root")])
    with pytest.raises(Unauthenticated):
        await verifier.verify("fs9_1")
    for wrong in (VerdictReply(False, error="x"), VerdictReply(True, "id"), VerdictReply(True)):
        service.verdict = wrong
        with pytest.raises(Unauthenticated):
            await verifier.verify(f"fs9_{id(wrong)}")


async def test_refresh(verifier: Verifier, service: Service, clock: ManualClock) -> None:
    """By the service alone, for a namespace that exists; nothing is signed here."""
    refresher = RemoteRefresher(service, verifier, settings(), clock)
    assert await refresher.refresh(token(exp=NOW_S - 2 * HOUR_S)) == ("new", 86_400)
    with pytest.raises(Unauthenticated, match="ExpiredSignature"):
        await refresher.refresh(token(exp=NOW_S - 5 * HOUR_S))
    with pytest.raises(Forbidden):
        await refresher.refresh(token(), "other")
    service.gone.add("acme")  # as where there is no such service
    with pytest.raises(Forbidden, match="access denied"):
        await refresher.refresh(token())
    service.error = Unauthenticated("Invalid signature")
    with pytest.raises(Unauthenticated):  # who cannot sign learns of no namespace
        await refresher.refresh(token())
    service.gone.clear()
    service.error = Unauthenticated("Namespace is not active")
    with pytest.raises(Forbidden):
        await refresher.refresh(token())
    for error in (Unauthenticated("User not found"), BackendUnavailable("gone")):
        service.error = error
        with pytest.raises(type(error)):
            await refresher.refresh(token(SECRET))
    asked = service.asked
    verifier.revoke([Revocation("user", "alice", "acme", NOW_S + 9, NOW_S, "root", NOW_S)])
    with pytest.raises(Unauthenticated, match="revoked"):
        await refresher.refresh(token())
    assert service.asked == asked
