"""Packed revocations mean exactly whom their rows mean."""

import gc
import hashlib

import pytest

from fs9.auth.revocations import TIME_MAX_S, Meant, Revocations
from fs9.meta.models import Revocation
from fs9.principal import Principal

TOKEN = hashlib.sha256(b"a token").digest()
ALICE = Principal(*("alice", "acme"), issued_at_s=100, jti="7", key_id="k", credential=TOKEN)


def revocation(kind: str, subject: str, namespace: str | None = None, **more: int) -> Revocation:
    made = {"expires_at_s": 1000, "created_at_s": 0, "created_by": "root"} | more
    return Revocation(kind, subject, namespace, **made)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "meant",
    [
        revocation("token", TOKEN.hex()),
        revocation("token", TOKEN.hex(), "acme"),
        revocation("jti", "7"),
        revocation("jti", "7", "acme"),
        revocation("user", "alice", issued_until_s=100),
        revocation("user", "alice", "acme", issued_until_s=200),
        revocation("namespace", "acme", "acme", issued_until_s=100),
        revocation("key", "k", "acme"),
    ],
)
def test_a_revocation_means_whom_it_names(meant):
    """By the credential, its id, its user, its namespace, its key."""
    assert Meant([meant])(ALICE)


@pytest.mark.parametrize(
    "other",
    [
        revocation("token", hashlib.sha256(b"another").hexdigest()),
        revocation("jti", "7", "other"),
        revocation("jti", "alice"),
        revocation("user", "alice", issued_until_s=99),
        revocation("user", "alice", "other", issued_until_s=100),
        revocation("user", "acme", issued_until_s=100),
        revocation("namespace", "alice", issued_until_s=100),
        revocation("namespace", "acme", issued_until_s=99),
        revocation("key", "7"),
    ],
)
def test_a_revocation_means_nobody_else(other):
    """Not other namespaces, not later tokens, not the same word of another kind."""
    assert not Meant([other])(ALICE)


def test_a_credential_of_unknown_age_is_meant():
    """Who does not say when it was issued does not escape."""
    unknown = Principal("alice", "acme")
    assert Meant([revocation("user", "alice", issued_until_s=1)])(unknown)


def test_the_later_times_count():
    """A second revocation of the same only adds."""
    subject = Revocations()
    for until_s in (100, 50):
        subject.add(revocation("user", "alice", issued_until_s=until_s, expires_at_s=until_s))
    assert len(subject) == 1
    assert subject.mean(ALICE)
    for _ in range(16):
        subject.forget_expired(99)
    assert subject.mean(ALICE)


def test_what_has_expired_is_forgotten():
    """In rounds, a few shards at a time; what holds stays."""
    subject = Revocations()
    for number in range(500):
        digest = hashlib.sha256(b"%d" % number).hexdigest()
        subject.add(revocation("token", digest, expires_at_s=10 if number % 2 else TIME_MAX_S + 5))
    assert sum(subject.forget_expired(11) for _ in range(16)) == 250
    assert len(subject) == 250
    kept = Principal("", "", credential=hashlib.sha256(b"4").digest())
    gone = Principal("", "", credential=hashlib.sha256(b"5").digest())
    assert subject.mean(kept)
    assert not subject.mean(gone)


def test_many_are_small_and_nothing_for_the_garbage_collector():
    """About 27 bytes each, in objects that the collector does not follow."""
    subject = Revocations()
    for number in range(20_000):
        subject.add(revocation("token", hashlib.sha256(b"%d" % number).hexdigest()))
    assert len(subject) == 20_000
    assert subject.size_bytes < 20_000 * 40
    assert not any(gc.is_tracked(shard) for shard in subject._shards)
