"""The verifier remembers tokens that hold, within bounds, and never past their expiry."""

import hashlib

import pytest

from fs9.auth.tokens import LEEWAY_S, ClaimRules, Keys, sign
from fs9.auth.verifier import Verifier, VerifierStats
from fs9.clock import ManualClock
from fs9.errors import Unauthenticated
from fs9.limits import Limits
from fs9.principal import Principal

SECRET = "test-secret"


@pytest.fixture
def clock():
    return ManualClock(1_800_000_000)


def token(clock: ManualClock, user: str = "alice", ttl_s: int = 3600, **more: object) -> str:
    now_s = int(clock.now_s())
    claims = {"sub": user, "ns": "acme", "roles": ["reader"], "iat": now_s, "exp": now_s + ttl_s}
    return sign({**claims, **more}, SECRET)


def verifier(clock: ManualClock, **limits: float) -> Verifier:
    return Verifier(Keys.of_secrets([SECRET]), Limits(**limits), clock)


def test_a_token_becomes_a_principal(clock):
    """What the token says, and what a revocation could mean it by."""
    now_s = int(clock.now_s())
    text = token(clock, jti="1", mounts=["/a"], permissions=["read"])
    assert verifier(clock).verify_nowait(text) == Principal(
        *("alice", "acme", ("reader",), now_s + 3600, ("/a",), ("read",)),
        issued_at_s=now_s,
        jti="1",
        credential=hashlib.sha256(text.encode()).digest(),
    )


def test_a_second_look_costs_no_verification(clock):
    """The same token is answered from the cache, with the very same principal."""
    subject, text = verifier(clock), token(clock)
    assert subject.verify_nowait(text) is subject.verify_nowait(text)
    assert subject.stats() == VerifierStats(hits=1, verified=1, refused=0, entries=1)


def test_an_entry_is_forgotten_after_its_time(clock):
    """After the TTL a token is verified again."""
    subject, text = verifier(clock, token_cache_ttl_s=10), token(clock)
    subject.verify_nowait(text)
    clock.advance(10)
    subject.verify_nowait(text)
    assert subject.stats() == VerifierStats(hits=0, verified=2, refused=0, entries=1)


def test_the_cache_never_outlives_the_token(clock):
    """An expired token is refused although it was remembered; its entry is gone."""
    subject, text = verifier(clock), token(clock, ttl_s=5)
    subject.verify_nowait(text)
    clock.advance(5 + LEEWAY_S)
    subject.verify_nowait(text)
    assert subject.stats().entries == 0
    clock.advance(1)
    with pytest.raises(Unauthenticated, match="ExpiredSignature"):
        subject.verify_nowait(text)


def test_refusals_are_not_remembered(clock):
    """A token that does not hold yet holds later."""
    subject, text = verifier(clock), token(clock, nbf=int(clock.now_s()) + LEEWAY_S + 1)
    with pytest.raises(Unauthenticated, match="ImmatureSignature"):
        subject.verify_nowait(text)
    clock.advance(1)
    assert subject.verify_nowait(text).user == "alice"
    assert subject.stats() == VerifierStats(hits=0, verified=1, refused=1, entries=1)


def test_the_least_recently_used_entry_makes_room(clock):
    """The cache is bounded; what is in use stays."""
    subject = verifier(clock, token_cache_entries_max=2)
    texts = [token(clock, user) for user in ("a", "b", "c")]
    for text in (texts[0], texts[1], texts[0], texts[2]):
        subject.verify_nowait(text)
    assert subject.stats() == VerifierStats(hits=1, verified=3, refused=0, entries=2)
    subject.verify_nowait(texts[0])
    assert subject.stats().hits == 2
    subject.verify_nowait(texts[1])
    assert subject.stats().verified == 4


def test_the_rules_of_the_settings_are_applied(clock):
    """Issuer and audience reach the verification."""
    rules = ClaimRules(issuer="fs9", audience="clients")
    subject = Verifier(Keys.of_secrets([SECRET]), Limits(), clock, rules)
    assert subject.verify_nowait(token(clock, iss="fs9", aud="clients"))
    for more in ({"iss": "fs9"}, {"aud": "clients"}):
        with pytest.raises(Unauthenticated):
            subject.verify_nowait(token(clock, **more))


def test_any_text_can_be_asked_for(clock):
    """What a header can carry, lone surrogates included, is refused and breaks nothing."""
    for text in ("", "\udcff", "\ud800", "é" * 9000, "x" * 1_000_000):
        with pytest.raises(Unauthenticated, match="InvalidToken"):
            verifier(clock).verify_nowait(text)


def test_an_unusable_secret_is_refused_at_once(clock):
    """A verifier that could verify nothing is not made."""
    with pytest.raises(ValueError):
        Keys.of_secrets([""])
