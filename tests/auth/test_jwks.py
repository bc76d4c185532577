"""Keys of issuers: which are used, for which tokens, and when they are read anew."""

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from fs9.auth import jwks
from fs9.auth.identity import Identity
from fs9.auth.jwks import READ_MIN_S, KeySet, UnusableKeySet, check_place, parse
from fs9.auth.tokens import EDDSA, RS256
from fs9.clock import ManualClock, SystemClock
from fs9.config.settings import Settings
from fs9.errors import Unauthenticated
from fs9.threads import BlockingPool

NOW_S = 1_800_000_000
CLAIMS = {"sub": "alice", "ns": "acme", "iat": NOW_S, "exp": NOW_S + 3600}


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@lru_cache
def rsa(number: int = 0, bits: int = 2048) -> RSAPrivateKey:
    return generate_private_key(public_exponent=65537, key_size=bits)


@lru_cache
def ed(number: int = 0) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def jwk(key: RSAPrivateKey | Ed25519PrivateKey, **more: Any) -> dict[str, Any]:
    public = key.public_key()
    if isinstance(key, RSAPrivateKey):
        numbers = public.public_numbers()
        size = (numbers.n.bit_length() + 7) // 8
        made = {"kty": "RSA", "n": _b64(numbers.n.to_bytes(size)), "e": "AQAB"}
    else:
        made = {"kty": "OKP", "crv": "Ed25519", "x": _b64(public.public_bytes_raw())}
    return {**made, **more}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def signed(key: Any, algorithm: str, kid: str | None = None, **claims: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode({**CLAIMS, **claims}, key, algorithm, headers=headers)


@pytest.fixture
def pool() -> Iterator[BlockingPool]:
    pool = BlockingPool(1)
    yield pool
    pool.shutdown()


@pytest.fixture
def clock():
    return ManualClock(NOW_S)


def test_usable_keys_are_found():
    """RSA for RS256, Ed25519 for EdDSA, each with its name."""
    found = parse(key_set(jwk(rsa(), kid="r", alg="RS256", use="sig"), jwk(ed(), kid="e")))
    assert [(key.algorithm, key.kid) for key in found] == [(RS256, "r"), (EDDSA, "e")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "Ed448", "x": "AA"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
        {"kty": "OKP", "crv": "Ed25519", "x": "!!!!"},
        {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "RSA", "n": "", "e": ""},
        {"kty": 5},
        {},
    ],
)
def test_other_keys_are_passed_over(wrong, caplog):
    """Whatever cannot be used, the rest of the set is."""
    assert len(parse(key_set(wrong, jwk(ed())))) == 1
    assert "is ignored" in caplog.text


@pytest.mark.parametrize(
    "more",
    [{"alg": "HS256"}, {"alg": "RS512"}, {"use": "enc"}, {"key_ops": ["sign"]}, {"d": "AA"}],
)
def test_a_key_for_something_else_is_passed_over(more):
    """One algorithm each; no private keys."""
    assert parse(key_set(jwk(rsa(), **more))) == ()


def test_a_small_modulus_is_passed_over():
    """1024 bits can be factored."""
    assert parse(key_set(jwk(rsa(0, 1024)))) == ()


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"keys": 1}', b"\xff", b"[" * 100_000])
def test_what_is_no_set_is_refused(data):
    """Then the keys that are known stay."""
    with pytest.raises(UnusableKeySet):
        parse(data)


def test_places_are_checked():
    """A file, https, and http to this host alone."""
    for place in ("/etc/keys.json", "https://a.example/jwks", "http://127.0.0.1:1/x"):
        check_place(place)
    for place in ("http://a.example/jwks", "ftp://a/b", "https:///x", "file:///etc/passwd"):
        with pytest.raises(ValueError):
            check_place(place)


@pytest.fixture
async def identity(tmp_path, clock, pool):
    """A server with a secret and a key set in a file."""
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(jwk(rsa(), kid="r"), jwk(ed(), kid="e")))
    settings = Settings(jwt_secret="s" * 32, jwks=str(path), previous_secrets=("p" * 32,))

    class NoKeys:
        async def touch_api_key(self, key_id: str) -> None: ...

    made = Identity(settings, clock, pool, NoKeys())  # type: ignore[arg-type]
    assert made.key_set is not None
    await made.key_set.read()
    return made


async def test_tokens_of_all_keys_hold(identity):
    """Public keys by name or without one, the secret, and the one before it."""
    for token in (
        signed(rsa(), "RS256", "r"),
        signed(rsa(), "RS256"),
        signed(ed(), "EdDSA", "e"),
        signed("s" * 32, "HS256"),
        signed("p" * 32, "HS256"),
    ):
        assert (await identity.verifier.verify(token)).user == "alice"


async def test_no_algorithm_but_the_keys_own_is_accepted(identity):
    """A public key is no secret; a key of one kind signs nothing of another."""
    public = jwk(rsa())["n"]
    for token in (
        signed(public, "HS256", "r"),
        signed(rsa(1), "RS256", "r"),
        signed(ed(1), "EdDSA"),
        signed(rsa(), "RS256", "e"),
        signed(rsa(), "RS512", "r"),
        signed(rsa(), "PS256", "r"),
        signed("q" * 32, "HS256"),
    ):
        with pytest.raises(Unauthenticated):
            await identity.verifier.verify(token)


async def test_a_new_key_is_learned_from_its_first_token(identity, clock, tmp_path):
    """Rotation: old and new overlap; unknown names lead to a reading at most every ten seconds."""
    token = signed(ed(2), "EdDSA", "new")
    with pytest.raises(Unauthenticated):
        await identity.verifier.verify(token)
    (tmp_path / "jwks.json").write_bytes(key_set(jwk(ed(), kid="e"), jwk(ed(2), kid="new")))
    with pytest.raises(Unauthenticated):  # read a moment ago
        await identity.verifier.verify(token)
    clock.advance(READ_MIN_S)
    assert await identity.verifier.verify(token)
    assert await identity.verifier.verify(signed(ed(), "EdDSA", "e"))


async def test_a_key_that_is_gone_has_signed_nothing_more(identity, clock, tmp_path):
    """Tokens that were remembered are looked at again."""
    token = signed(rsa(), "RS256", "r")
    await identity.verifier.verify(token)
    (tmp_path / "jwks.json").write_bytes(key_set(jwk(ed(), kid="e")))
    await identity.key_set.read()
    with pytest.raises(Unauthenticated):
        await identity.verifier.verify(token)


async def test_a_set_that_cannot_be_read_leaves_the_known_keys(identity, tmp_path):
    """An issuer's outage is none of ours."""
    (tmp_path / "jwks.json").write_bytes(b"<html>")
    await identity.key_set.read_or_log()
    assert await identity.verifier.verify(signed(rsa(), "RS256", "r"))


async def test_a_set_is_fetched_over_http_within_bounds(clock, pool, serve_bytes):
    """What is answered counts; redirects, errors and endless answers do not."""
    found = []
    answers = serve_bytes(key_set(jwk(ed())))
    await KeySet(answers.url, clock, pool, found.append).read()
    assert len(found) == 1
    for status, body in ((302, b""), (500, b""), (200, b"x" * (1024 * 1024 + 1))):
        answers.status, answers.body = status, body
        with pytest.raises(UnusableKeySet):
            await KeySet(answers.url, clock, pool, found.append).read()
    assert len(found) == 1


@pytest.mark.parametrize("drips", [b"X: y\r\n", b"x"], ids=["lines", "a line"])
async def test_an_answer_that_drips_ends_in_time(pool, serve_raw, monkeypatch, drips):
    """In its head, too."""
    monkeypatch.setattr(jwks, "_FETCH_TIMEOUT_S", 0.5)
    url = serve_raw(b"HTTP/1.1 200 OK\r\n", drips)
    with pytest.raises(UnusableKeySet, match=r"too long|timed out"):
        await KeySet(url, SystemClock(), pool, list).read()


async def test_what_is_not_http_is_no_set(identity, pool, clock, serve_raw):
    """It ends no timer either."""
    url = serve_raw(b"SSH-2.0-OpenSSH_9.2\r\n", b"")
    with pytest.raises(UnusableKeySet, match="SSH"):
        await KeySet(url, clock, pool, list).read()
    await KeySet(url, clock, pool, list).read_or_log()


async def test_a_start_does_not_wait_for_keys_but_its_first_tokens_do(clock, pool, monkeypatch):
    """One reading for all of them."""
    go_on, asked, found = threading.Event(), [], []

    def read(place, clock):
        asked.append(place)
        go_on.wait(60)
        return key_set(jwk(ed()))

    monkeypatch.setattr(jwks, "_read", read)
    keys = KeySet("/keys", clock, pool, found.append)
    reading = asyncio.create_task(keys.read_forever(3600))
    waiting = [asyncio.create_task(keys.read_if_due()) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in (reading, *waiting))
    go_on.set()
    await asyncio.gather(*waiting)
    assert (len(asked), len(found)) == (1, 1)
    reading.cancel()
