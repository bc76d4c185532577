"""A token holds when its form, signature and claims do, at the time given."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from fs9.auth.tokens import (
    LEEWAY_S,
    TOKEN_BYTES_MAX,
    ClaimRules,
    Claims,
    Keys,
    check_secret,
    sign,
    verify,
)
from fs9.errors import Unauthenticated

SECRET = "test-secret"
KEYS = Keys.of_secrets([SECRET])
NOW_S = 1_800_000_000
CLAIMS = {"sub": "alice", "ns": "acme", "roles": ["admin"], "iat": NOW_S, "exp": NOW_S + 60}


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(header: Any, payload: bytes, secret: str = SECRET) -> str:
    """A correctly signed token with any header and payload, made without our code."""
    signed = f"{encoded(json.dumps(header).encode())}.{encoded(payload)}"
    digest = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{encoded(digest)}"


def refusal(token: str, now_s: float = NOW_S, **rules: Any) -> str:
    with pytest.raises(Unauthenticated) as caught:
        verify(token, KEYS, now_s, ClaimRules(**rules))
    return str(caught.value)


def with_claims(**changes: Any) -> str:
    claims = {**CLAIMS, **changes}
    return sign({name: value for name, value in claims.items() if value is not ...}, SECRET)


def test_a_signed_token_is_verified():
    """What was signed comes back as claims; unknown claims are ignored."""
    token = sign({**CLAIMS, "permissions": [], "mounts": [], "x": 1}, SECRET)
    expected = Claims("alice", "acme", ("admin",), NOW_S, NOW_S + 60)
    assert verify(token, KEYS, NOW_S) == expected


def test_a_token_made_by_others_is_verified():
    """HS256 as RFC 7515 defines it, not only as our own `sign` does it."""
    token = forge({"alg": "HS256"}, json.dumps(CLAIMS).encode())
    assert verify(token, KEYS, NOW_S).sub == "alice"


def test_a_token_has_a_user():
    """Without a name nobody could revoke what the user has."""
    assert refusal(with_claims(sub="")) == "Invalid token: the `sub` claim is empty"


def test_roles_may_be_missing():
    """A token without roles has none."""
    assert verify(with_claims(roles=...), KEYS, NOW_S).roles == ()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"exp": ...}, "Invalid token: Missing required claim: exp"),
        ({"exp": None}, "Invalid token: JSON error: missing field `exp`"),
        ({"exp": "1"}, "Invalid token: JSON error: invalid type for `exp`, expected an integer"),
        ({"exp": 1.5}, "Invalid token: JSON error: invalid type for `exp`, expected an integer"),
        ({"exp": True}, "Invalid token: JSON error: invalid type for `exp`, expected an integer"),
        ({"exp": 2**64 - 1}, "Invalid token: JSON error: invalid type for `exp`, expected"),
        ({"iat": ...}, "Invalid token: JSON error: missing field `iat`"),
        ({"sub": ...}, "Invalid token: JSON error: missing field `sub`"),
        ({"sub": 5}, "Invalid token: JSON error: invalid type for `sub`, expected a string"),
        ({"ns": ...}, "Token missing required 'ns' claim"),
        ({"ns": None}, "Token missing required 'ns' claim"),
        ({"ns": 5}, "Invalid token: JSON error: invalid type for `ns`, expected a string"),
        ({"ns": "../x"}, "Invalid token: the 'ns' claim is not a namespace name"),
        ({"ns": ""}, "Invalid token: the 'ns' claim is not a namespace name"),
        ({"ns": "acme\n"}, "Invalid token: the 'ns' claim is not a namespace name"),
        ({"roles": "admin"}, "Invalid token: JSON error: invalid type for `roles`, expected a"),
        ({"roles": [1]}, "Invalid token: JSON error: invalid type for `roles`, expected a"),
        ({"nbf": "1"}, "Invalid token: JSON error: invalid type for `nbf`, expected an integer"),
        ({"aud": "fs9"}, "Invalid token: InvalidAudience"),
        ({"aud": []}, "Invalid token: InvalidAudience"),
    ],
)
def test_claims_that_do_not_hold_are_refused_in_the_contracts_words(changes, text):
    """Each wrong claim has its text; old clients and operators know them."""
    assert refusal(with_claims(**changes)).startswith(text)


def test_a_token_expires_after_the_leeway():
    """Clocks may differ by a minute, and by no more."""
    token = with_claims(exp=NOW_S)
    assert verify(token, KEYS, NOW_S + LEEWAY_S)
    assert refusal(token, NOW_S + LEEWAY_S + 1) == "Invalid token: ExpiredSignature"


def test_a_token_is_refused_before_its_time():
    """`nbf` is honoured, with the same leeway."""
    token = with_claims(nbf=NOW_S + LEEWAY_S)
    assert verify(token, KEYS, NOW_S)
    assert refusal(token, NOW_S - 1) == "Invalid token: ImmatureSignature"


def test_the_issuer_must_be_the_configured_one():
    """With an issuer configured, others' tokens with the same secret are refused."""
    assert verify(with_claims(iss="fs9"), KEYS, NOW_S, ClaimRules(issuer="fs9"))
    for token in (with_claims(iss="other"), with_claims()):
        assert refusal(token, issuer="fs9") == "Invalid token: InvalidIssuer"


def test_the_audience_must_be_the_configured_one():
    """With an audience configured a token must name it, alone or among others."""
    for audience in ("fs9", ["other", "fs9"]):
        assert verify(with_claims(aud=audience), KEYS, NOW_S, ClaimRules(audience="fs9"))
    for token in (
        with_claims(),
        with_claims(aud="other"),
        with_claims(aud=["fs"]),
        with_claims(aud={}),
    ):
        assert refusal(token, audience="fs9") == "Invalid token: InvalidAudience"


def test_another_secret_is_refused():
    """A token signed with another secret, or changed after signing, does not hold."""
    assert refusal(sign(CLAIMS, "other")) == "Invalid token: InvalidSignature"
    header, _, signature = sign(CLAIMS, SECRET).split(".")
    payload = encoded(json.dumps({**CLAIMS, "ns": "other"}).encode())
    assert refusal(f"{header}.{payload}.{signature}") == "Invalid token: InvalidSignature"


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "HS384", "HS512", "RS256", "", None, 5, ["HS256"]]
)
def test_only_hs256_is_accepted(algorithm):
    """The token does not choose the algorithm (RFC 8725, section 3.1)."""
    token = forge({"alg": algorithm}, json.dumps(CLAIMS).encode())
    assert refusal(token) == "Invalid token: InvalidAlgorithm"


def test_an_unsigned_token_is_refused():
    """`alg: none` with an empty signature is no token."""
    unsigned = forge({"alg": "none"}, json.dumps(CLAIMS).encode()).rpartition(".")[0] + "."
    assert refusal(unsigned).startswith("Invalid token: Invalid")


@pytest.mark.parametrize("critical", [["b64"], ["exp"], [], "b64", None])
def test_critical_extensions_are_refused(critical):
    """RFC 7515, section 4.1.11: what we do not understand we must refuse."""
    token = forge({"alg": "HS256", "crit": critical}, json.dumps(CLAIMS).encode())
    assert refusal(token) == "Invalid token: InvalidToken"


def test_detached_payloads_are_refused():
    """RFC 7797 is not for tokens."""
    header = {"alg": "HS256", "crit": ["b64"], "b64": False}
    assert refusal(forge(header, b"")) == "Invalid token: InvalidToken"


@pytest.mark.parametrize(
    "token",
    ["", "x", "a.b", "a.b.c", "a.b.c.d", "..", "é.é.é", "!!!.e30.e30", "e30.e30", "\udcff.a.b"],
)
def test_what_is_no_token_is_refused(token):
    """Anything may stand in a header."""
    assert refusal(token) in ("Invalid token: InvalidToken", "Invalid token: InvalidAlgorithm")


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"[" * 3000, b"[1]", b"null", b'"x"'])
def test_claims_that_are_no_json_object_are_refused(payload):
    """A signed payload still has to be claims."""
    assert refusal(forge({"alg": "HS256"}, payload)).startswith("Invalid token: JSON error: ")


def test_a_token_has_a_limit():
    """A token over 8 KiB is refused before anything is done with it."""
    token = with_claims(x="y" * TOKEN_BYTES_MAX)
    assert refusal(token) == "Invalid token: InvalidToken"


def test_a_secret_must_be_one():
    """An empty secret, or a public key by mistake, is refused at start."""
    check_secret("x")
    for secret in ("", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(ValueError):
            check_secret(secret)


def test_a_key_does_not_show_itself():
    """Whatever is logged, no secret is in it."""
    assert SECRET not in repr(KEYS)


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_a_token_has_one_spelling(cut):
    """Else a revoked one could be written differently: bits that base64 leaves over are zero."""
    head, claims, signature = with_claims().split(".")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at = letters.index(signature[-1])
    assert at % 4 == 0
    other = f"{head}.{claims}.{signature[:-1]}{letters[at + 1 + cut]}"
    assert refusal(other) == "Invalid token: InvalidToken"
    assert refusal(f"{head}.{claims}.{signature}=") == "Invalid token: InvalidToken"


def test_narrowing_claims_are_taken_or_refused():
    """What would narrow a token is never overlooked."""
    claims = verify(with_claims(mounts=["/a"], permissions=["read"], jti="1"), KEYS, NOW_S)
    assert (claims.mounts, claims.permissions, claims.jti) == (("/a",), ("read",), "1")
    for changes in ({"mounts": "/a"}, {"permissions": None}, {"mounts": [1]}, {"jti": 1}):
        assert refusal(with_claims(**changes)).startswith("Invalid token: JSON error")


def test_a_token_may_hold_for_the_longest_lifetime_and_no_longer():
    """From its issue, however long ago that was, to its expiry; without a bound for ever."""
    token = with_claims(iat=NOW_S - 50, exp=NOW_S + 50)
    assert verify(token, KEYS, NOW_S, ClaimRules(lifetime_max_s=100)).exp_s == NOW_S + 50
    assert "longer than the 99 seconds" in refusal(token, lifetime_max_s=99)
    old = with_claims(iat=0, exp=NOW_S + 50)
    assert "longer than" in refusal(old, lifetime_max_s=10_000)
    assert verify(with_claims(exp=2**62), KEYS, NOW_S).exp_s == 2**62


@pytest.mark.parametrize("origin", ["x", 5, None, "0" * 31, "0" * 33, "G" * 32, ["0" * 32]])
def test_an_origin_that_we_did_not_write_is_refused(origin):
    """It says with what a token is revoked."""
    assert "fs9_origin" in refusal(with_claims(fs9_origin=origin))
    assert verify(with_claims(fs9_origin="ab" * 16), KEYS, NOW_S).origin == "ab" * 16
