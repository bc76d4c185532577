"""No token of the corpus (`tests.auth.hostile`) is accepted, whatever keys the server has."""

from __future__ import annotations

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fs9.auth.jwks import parse
from fs9.auth.tokens import Keys
from fs9.auth.verifier import Verifier
from fs9.clock import ManualClock
from fs9.errors import Unauthenticated
from fs9.limits import Limits
from tests.auth.hostile import Forger, hostile
from tests.auth.test_jwks import ed, jwk, key_set, rsa

SECRET = "a secret of more than thirty-two bytes"
NOW_S = 1_800_000_000
PEM = rsa().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
DER = rsa().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
PUBLIC = [PEM, DER, ed().public_key().public_bytes_raw(), key_set(jwk(rsa(), kid="r"))]
CORPUS = sorted(
    {(token, tried) for tried, token in hostile(SECRET.encode(), NOW_S, "acme", PUBLIC)}
)


def verifier(*, public: bool) -> Verifier:
    keys = Keys.of_secrets([SECRET]).keys
    if public:
        keys += parse(key_set(jwk(rsa(), kid="r"), jwk(ed(), kid="e")))
    return Verifier(Keys(keys), Limits(), ManualClock(NOW_S))


def test_the_corpus_is_large():
    """As large as the issue asks for, and each token is another one."""
    assert len({token for token, _ in CORPUS}) >= 600


@pytest.mark.parametrize("public", [False, True])
def test_the_forger_could(public):
    """Its token without a fault is accepted: what is refused, is so for the fault."""
    forger = Forger(SECRET.encode(), NOW_S, "acme")
    token = forger.forge({"alg": "HS256", "typ": "JWT"}, forger.good)
    principal = verifier(public=public).verify_nowait(token)
    assert principal is not None
    assert principal.user == "mallory"


@pytest.mark.parametrize("public", [False, True])
def test_none_is_accepted(public):
    """By a server with a secret, and by one that has public keys, too; none breaks it."""
    subject = verifier(public=public)
    for token, tried in CORPUS:
        with pytest.raises(Unauthenticated):
            raise AssertionError(f"{tried}: {subject.verify_nowait(token)}: {token[:200]}")
    assert subject.stats().verified == 0


def test_a_public_key_server_without_a_secret_knows_no_hmac():
    """Nothing that the corpus signs holds there, the faultless token included."""
    subject = Verifier(Keys(parse(key_set(jwk(rsa()), jwk(ed())))), Limits(), ManualClock(NOW_S))
    forger = Forger(SECRET.encode(), NOW_S, "acme")
    for key in (SECRET.encode(), PEM, DER):
        with pytest.raises(Unauthenticated):
            subject.verify_nowait(forger.forge({"alg": "HS256"}, forger.good, key=key))
    assert subject.verify_nowait(jwt.encode(forger.good, rsa(), "RS256"))
