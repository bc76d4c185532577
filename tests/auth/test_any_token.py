"""Whatever stands in a token: claims or Unauthenticated, never anything else."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from fs9.auth.tokens import Keys, sign, verify
from fs9.errors import Unauthenticated

SECRET = "test-secret"
KEYS = Keys.of_secrets([SECRET])
NOW_S = 1_800_000_000
GOOD = {"sub": "u", "ns": "n", "roles": [], "iat": 0, "exp": NOW_S}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
CLAIM_NAMES = st.sampled_from(["sub", "ns", "roles", "iat", "exp", "nbf", "aud", "iss"])


@settings(max_examples=300, deadline=None)
@given(text=st.text() | st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*"))
def test_any_text(text: str):
    """Invariant tested: no text without a signature is a token, and none breaks the check."""
    try:
        verify(text, KEYS, NOW_S)
    except Unauthenticated:
        return
    raise AssertionError("a token that nobody signed was accepted")


@settings(max_examples=300, deadline=None)
@given(changes=st.dictionaries(CLAIM_NAMES, JSON, max_size=3))
def test_any_signed_claims(changes: dict[str, object]):
    """Invariant tested: what is accepted has the right types, and was not expired."""
    payload = json.loads(json.dumps(GOOD | changes), parse_constant=lambda _: None)
    try:
        claims = verify(sign(payload, SECRET), KEYS, NOW_S)
    except Unauthenticated:
        return
    assert isinstance(claims.sub, str)
    assert all(isinstance(role, str) for role in claims.roles)
    assert claims.exp_s >= NOW_S - 60


@settings(max_examples=300, deadline=None)
@given(position=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=6))
def test_any_changed_bit(position: int, bit: int):
    """Invariant tested: a token changed in one bit is another text and is refused."""
    token = bytearray(sign(GOOD, SECRET).encode())
    token[position % len(token)] ^= 1 << bit
    try:
        verify(token.decode(), KEYS, NOW_S)
    except Unauthenticated:
        return
    raise AssertionError("a changed token was accepted")
