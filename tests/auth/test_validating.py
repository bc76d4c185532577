"""What the verifier asks others about: once for many, within bounds, revocable at any time."""

import asyncio
import hashlib

import pytest

from fs9.auth.api_keys import ApiKeys
from fs9.auth.tokens import Keys, sign
from fs9.auth.verifier import Verifier
from fs9.clock import ManualClock
from fs9.errors import BackendUnavailable, NotFound, Unauthenticated
from fs9.limits import Limits
from fs9.meta.models import ApiKeyRecord, Revocation, UserRecord
from fs9.principal import Principal

SECRET = "test-secret"
NOW_S = 1_800_000_000
TOKEN = "an opaque token"


class Service:
    """A validator that answers what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: Principal | Exception = Principal("alice", "acme", expires_at_s=NOW_S + 1000)
        self.gate = asyncio.Event()
        self.gate.set()

    async def validate(self, token: str) -> Principal:
        self.asked += 1
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def revocation(kind: str, subject: str, **more: object) -> Revocation:
    times = {"expires_at_s": NOW_S + 9999, "created_at_s": NOW_S, "created_by": "root"}
    return Revocation(kind, subject, None, **times | more)  # type: ignore[arg-type]


@pytest.fixture
def clock():
    return ManualClock(NOW_S)


@pytest.fixture
async def service():
    return Service()


def verifier(clock: ManualClock, service: Service, **limits: float) -> Verifier:
    return Verifier(Keys(()), Limits(**limits), clock, remote=service)


async def test_parallel_first_looks_share_one_call(clock, service):
    """A thousand requests with the same token ask once; one that leaves takes nothing away."""
    subject = verifier(clock, service)
    service.gate.clear()
    tasks = [asyncio.create_task(subject.verify(TOKEN)) for _ in range(1000)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    service.gate.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert service.asked == 1
    assert {principal.user for principal in found[1:]} == {"alice"}
    assert subject.verify_nowait(TOKEN) is found[1]


async def test_a_refusal_is_remembered_for_a_while(clock, service):
    """So that a bad token does not cost a call each time."""
    subject = verifier(clock, service, token_refusal_ttl_s=10)
    service.answer = Unauthenticated("Invalid token: user is gone")
    for _ in range(3):
        with pytest.raises(Unauthenticated, match="user is gone"):
            await subject.verify(TOKEN)
    assert service.asked == 1
    clock.advance(10)
    with pytest.raises(Unauthenticated):
        await subject.verify(TOKEN)
    assert service.asked == 2


async def test_refusals_are_bounded(clock, service):
    """However many bad tokens come, the oldest is forgotten."""
    subject = verifier(clock, service, token_refusals_max=2)
    service.answer = Unauthenticated("no")
    for token in ("a", "b", "c", "a"):
        with pytest.raises(Unauthenticated):
            await subject.verify(token)
    assert service.asked == 4


async def test_an_outage_refuses_what_is_not_known(clock, service):
    """Fail closed: nobody can say, so it does not hold; and that is not remembered."""
    subject = verifier(clock, service)
    service.answer = BackendUnavailable("down")
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            await subject.verify(TOKEN)
    assert service.asked == 2


async def test_an_outage_leaves_what_is_known_its_grace(clock, service):
    """Past the cache's time, within the grace, never past the token's own expiry."""
    subject = verifier(clock, service, token_cache_ttl_s=10, token_outage_grace_s=100)
    principal = await subject.verify(TOKEN)
    service.answer = BackendUnavailable("down")
    clock.advance(100)
    assert await subject.verify(TOKEN) is principal
    clock.advance(10)
    with pytest.raises(BackendUnavailable):
        await subject.verify(TOKEN)


async def test_the_grace_of_an_outage_ends_with_the_token(clock, service):
    """An expired token gets no grace."""
    subject = verifier(clock, service, token_cache_ttl_s=10, token_outage_grace_s=10_000)
    await subject.verify(TOKEN)
    service.answer = BackendUnavailable("down")
    clock.advance(1000)
    with pytest.raises(BackendUnavailable):
        await subject.verify(TOKEN)


async def test_revoked_stays_revoked_during_an_outage(clock, service):
    """The grace is not for those."""
    subject = verifier(clock, service, token_cache_ttl_s=10)
    await subject.verify(TOKEN)
    service.answer = BackendUnavailable("down")
    clock.advance(11)
    subject.revoke([revocation("user", "alice", issued_until_s=NOW_S)])
    with pytest.raises(Unauthenticated, match="Token has been revoked"):
        await subject.verify(TOKEN)


async def test_a_revocation_during_the_call_is_not_missed(clock, service):
    """The answer comes after the revocation, and does not undo it."""
    subject = verifier(clock, service)
    service.gate.clear()
    task = asyncio.create_task(subject.verify(TOKEN))
    await asyncio.sleep(0)
    subject.revoke([revocation("token", hashlib.sha256(TOKEN.encode()).hexdigest())])
    service.gate.set()
    with pytest.raises(Unauthenticated, match="Token has been revoked"):
        await task


@pytest.mark.parametrize("kind", ["token", "jti", "user", "namespace"])
def test_a_cached_token_is_refused_from_the_revocation_on(clock, kind):
    """Whichever way it is meant; and the generation tells those who keep sessions."""
    subject = Verifier(Keys.of_secrets([SECRET]), Limits(), clock)
    claims = {"sub": "alice", "ns": "acme", "iat": NOW_S, "exp": NOW_S + 60, "jti": "1"}
    text = sign(claims, SECRET)
    other = sign({**claims, "sub": "bob", "ns": "other", "jti": "2"}, SECRET)
    assert subject.verify_nowait(text)
    assert subject.verify_nowait(other)
    generation = subject.generation
    subjects = {
        "token": hashlib.sha256(text.encode()).hexdigest(),
        "jti": "1",
        "user": "alice",
        "namespace": "acme",
    }
    more = {"issued_until_s": NOW_S} if kind in {"user", "namespace"} else {}
    subject.revoke([revocation(kind, subjects[kind], **more)])
    assert subject.generation != generation
    for _ in range(2):
        with pytest.raises(Unauthenticated, match="Token has been revoked"):
            subject.verify_nowait(text)
    assert subject.verify_nowait(other)
    if more:  # one issued later holds
        clock.advance(2)
        assert subject.verify_nowait(sign({**claims, "iat": NOW_S + 1}, SECRET))


class Records:
    def __init__(self, **changes: object) -> None:
        self.record = ApiKeyRecord("k", "u", "acme", "ci", ("read-only",), NOW_S, NOW_S + 1000)
        self.owner = UserRecord("u", "alice", None, "active", NOW_S)
        self.touched: list[str] = []

    async def api_key(self, digest: str) -> tuple[ApiKeyRecord, UserRecord]:
        if digest != hashlib.sha256(b"fs9_good").hexdigest():
            raise NotFound("api key")
        return self.record, self.owner

    async def touch(self, key_id: str) -> None:
        self.touched.append(key_id)


async def test_an_api_key_stands_for_its_owner_in_its_namespace(clock):
    """With its own roles; its use is noted once for each time it is looked up."""
    records = Records()
    subject = Verifier(Keys(()), Limits(), clock, api_keys=ApiKeys(records, clock, records.touch))
    assert subject.verify_nowait("fs9_good") is None
    principal = await subject.verify("fs9_good")
    found = (principal.user, principal.namespace, principal.roles, principal.key_id)
    assert found == ("alice", "acme", ("read-only",), "k")
    assert subject.verify_nowait("fs9_good") is principal
    assert records.touched == ["k"]
    with pytest.raises(Unauthenticated, match="Invalid API key"):
        await subject.verify("fs9_bad")
    with pytest.raises(Unauthenticated):
        await subject.verify("fs9_" + "x" * 300)
    subject.revoke([revocation("key", "k")])
    with pytest.raises(Unauthenticated, match="revoked"):
        await subject.verify("fs9_good")


@pytest.mark.parametrize("change", ["revoked", "expired", "suspended", "deleted"])
async def test_an_api_key_that_does_not_hold_is_refused(clock, change):
    """By itself, or because its owner is not active."""
    records = Records()
    if change == "revoked":
        records.record = ApiKeyRecord(*("k", "u", "acme", "ci", (), NOW_S), revoked_at_s=NOW_S)
    elif change == "expired":
        clock.advance(1000 + 61)
    else:
        records.owner = UserRecord("u", "alice", None, change, NOW_S)
    with pytest.raises(Unauthenticated):
        await ApiKeys(records, clock).validate("fs9_good")
