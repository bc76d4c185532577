"""Tokens that must never be accepted: a corpus, generated.

Each is what an attacker could send who has seen tokens and public keys, who has tokens of other
issuers, or whose issuer signs whatever it is asked to. `hostile(secret, …)` yields (what it
tries, token); everything but the one fault is as in a token that holds.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Tried = tuple[str, str]
_HS = {"alg": "HS256", "typ": "JWT"}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(value: Any) -> str:
    return b64(value if isinstance(value, bytes) else json.dumps(value).encode())


class Forger:
    """Signs anything with HMAC."""

    def __init__(self, secret: bytes, now_s: int, ns: str) -> None:
        self.secret = secret
        self.now_s = now_s
        self.good = {"sub": "mallory", "ns": ns, "roles": ["admin"]}
        self.good |= {"iat": now_s, "exp": now_s + 3600}

    def forge(
        self, header: Any, claims: Any, *, key: bytes | None = None, name: str = "sha256"
    ) -> str:
        text = f"{part(header)}.{part(claims)}"
        digest = hmac.new(self.secret if key is None else key, text.encode(), name).digest()
        return f"{text}.{b64(digest)}"


def hostile(secret: bytes, now_s: int, ns: str, public_keys: list[bytes]) -> Iterator[Tried]:
    """The corpus against a server with this secret; `public_keys` in any encoding."""
    forger = Forger(secret, now_s, ns)
    for kind in (_algorithms, _headers, _forms, _payloads, _claims):
        yield from kind(forger)
    yield from _keys(forger, public_keys)


def _algorithms(f: Forger) -> Iterator[Tried]:
    spellings = ["none", "None", "NONE", "nOnE", "NonE", "none ", " none", "none\0", "\u043done"]
    spellings += ["", "null", "HS384", "HS512", "HS1", "RS384", "RS512", "ES256", "ES384", "ES512"]
    spellings += ["PS256", "PS384", "PS512", "ES256K", "dir", "A128KW", "RSA-OAEP", "PBES2-HS256"]
    spellings += ["hs256", "Hs256", "HS256 ", " HS256", "HS256\0", "HS256\n", "HS-256", "HMAC"]
    spellings += [
        "RS256",
        "EdDSA",
        "rs256",
        "eddsa",
        "Ed25519",
        "Ed448",
        "SHA256",
        "*",
        "HS256,none",
    ]
    odd: list[Any] = [None, 0, 1, True, False, [], ["HS256"], {}, {"HS256": 1}, 1.5, ["none"]]
    for algorithm in [*spellings, *odd]:
        header = _HS | {"alg": algorithm}
        yield "algorithm", f.forge(header, f.good)
        yield "algorithm, unsigned", f"{part(header)}.{part(f.good)}."
        yield "algorithm, empty key", f.forge(header, f.good, key=b"")
    yield "no algorithm", f.forge({"typ": "JWT"}, f.good)
    for name in ("sha1", "sha384", "sha512", "md5"):
        yield "another digest", f.forge(_HS, f.good, name=name)
        yield "another digest", f.forge(_HS | {"alg": f"HS{name[3:]}"}, f.good, name=name)


def _headers(f: Forger) -> Iterator[Tried]:
    critical: list[Any] = [["exp"], ["b64"], [], ["alg"], ["kid"], "b64", None, {}, 1, True, [1]]
    for crit in [*critical, ["http://example.com/x"], [""], ["crit"], [[]]]:
        yield "crit", f.forge(_HS | {"crit": crit}, f.good)
        yield "crit, present", f.forge(_HS | {"crit": crit, "b64": True, "exp": 1}, f.good)
    urls = ["http://127.0.0.1/jwks", "https://evil.example/jwks", "file:///etc/passwd", "", "//x"]
    for name in ("jku", "x5u", "iss", "url"):
        for url in urls:
            yield name, f.forge(_HS | {name: url}, f.good)
            yield name, f.forge(_HS | {name: url}, f.good, key=b"theirs")
    oct_key = {"kty": "oct", "k": b64(b"theirs")}
    for name, value in (("jwk", oct_key), ("jwk", {}), ("x5c", ["MIIB"]), ("keys", [oct_key])):
        yield name, f.forge(_HS | {name: value}, f.good, key=b"theirs")
        yield name, f.forge(_HS | {name: value}, f.good)
    for name, value in (("zip", "DEF"), ("zip", "GZIP"), ("enc", "A256GCM"), ("b64", False)):
        yield name, f.forge(_HS | {name: value}, f.good)
        yield name, f.forge(_HS | {name: value}, zlib.compress(b"{}" * 1000))
    yield "bomb", f.forge(_HS | {"zip": "DEF"}, zlib.compress(b" " * 4_000_000))
    for name in ("epk", "apu", "p2c", "p2s", "iv", "tag", "nonce", "ppt", "svt", "__proto__"):
        yield "unknown header", f.forge(_HS | {name: 1}, f.good)
    for kind in ("JWE", "jwt ", "", "at+jwt;x", "secevent+jwt", None, 1, [], "dpop+jwt", "JOSE"):
        yield "typ", f.forge(_HS | {"typ": kind}, f.good)
    kids: list[Any] = [None, 1, True, [], {}, ["a"], "\0", "a\nb", "\ud800", "x" * 2000]
    for kid in kids:
        yield (
            "kid",
            f.forge(_HS | {"kid": kid}, f.good)
            if kid is not None
            else f.forge(_HS | {"kid": {"a": None}}, f.good),
        )
    for kid in ("../../../dev/null", "/dev/null", "' OR 1=1 --", "|id", "$(id)", "0", "http://x"):
        for key in (b"", b"\0", b"null", b"theirs", kid.encode()):
            yield "kid, key", f.forge(_HS | {"kid": kid}, f.good, key=key)
    for header in (b"", b"null", b"[]", b"1", b'"HS256"', b"{", b"\xff", b"{}", b"[" * 2000):
        yield "header", f.forge(header, f.good)
    twice = b'{"alg":"none","alg":"HS256"}', b'{"alg":"HS256","typ":"JWT","alg":"HS256"}'
    for header in (*twice, b'{"alg":"HS256","\\u0061lg":"none"}', b'{"alg":"HS256"}x'):
        yield "header, twice", f.forge(header, f.good)
    for header in (b'\xef\xbb\xbf{"alg":"HS256"}', '{"alg":"HS256"}'.encode("utf-16")):
        yield "header, encoding", f.forge(header, f.good)


def _forms(f: Forger) -> Iterator[Tried]:
    good = f.forge(_HS, f.good)
    head, claims, signature = good.split(".")
    for text in (
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "null",
        "undefined",
        "Bearer",
        good + ".",
        "." + good,
    ):
        yield "form", text
    for text in (head, f"{head}.{claims}", f"{head}.{claims}.", f"{head}..{signature}"):
        yield "truncated", text
    yield "truncated", f".{claims}.{signature}"
    for cut in range(1, len(good), len(good) // 24):
        yield "cut", good[:cut]
        yield "cut", good[cut:]
    for extra in (" ", "\t", "\n", "\r\n", "=", "==", "%", "+", "/", "\0", "é", "\u200b", ",", ";"):
        for text in (f"{good}{extra}", f"{extra}{good}", f"{head}{extra}.{claims}.{signature}"):
            yield "extra", text
        yield "extra", f"{head}.{extra}{claims}.{signature}"
        yield "extra", f"{head}.{claims}.{signature[:9]}{extra}{signature[9:]}"
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = letters.index(signature[-1])
    for spare in (1, 2, 3):
        yield "another spelling", good[:-1] + letters[last + spare]
    for at in range(0, len(signature), 4):
        flipped = "A" if signature[at] != "A" else "B"
        yield "flipped", f"{head}.{claims}.{signature[:at]}{flipped}{signature[at + 1 :]}"
    for other in ("A" * 43, "_" * 43, signature[::-1], signature * 2, signature[:22], "AA"):
        yield "signature", f"{head}.{claims}.{other}"
    other_claims = part(f.good | {"sub": "root"})
    yield "changed claims", f"{head}.{other_claims}.{signature}"
    yield "changed header", f"{part(_HS | {'kid': 'x'})}.{claims}.{signature}"
    yield "swapped", f"{claims}.{head}.{signature}"
    yield "JWE", f"{head}.{claims}.{signature}.{claims}.{signature}"
    yield "JSON form", json.dumps({"payload": claims, "protected": head, "signature": signature})
    yield "standard alphabet", good.replace("-", "+").replace("_", "/") + "="


def _payloads(f: Forger) -> Iterator[Tried]:
    for payload in (b"", b"null", b"[]", b"1", b'"x"', b"{", b"}", b"\xff\xfe", b"{}", b"true"):
        yield "payload", f.forge(_HS, payload)
    yield "nested token", f.forge(_HS, f.forge(_HS, f.good).encode())
    yield "nested token", f.forge(_HS | {"cty": "JWT"}, f.forge(_HS, f.good).encode())
    for opening in (b"[", b'{"a":', b'{"sub":['):
        yield "depth", f.forge(_HS, opening * 600)
    yield "depth", f.forge(_HS, f.good | {"x": json.loads("[" * 200 + "]" * 200)})
    yield "size", f.forge(_HS, f.good | {"x": "y" * 9000})
    text = json.dumps(f.good)
    for name, value in f.good.items():
        again = f', "{name}": {json.dumps(value)}}}'
        yield "twice", f.forge(_HS, (text[:-1] + again).encode())
        yield "twice", f.forge(_HS, (f'{{"{name}": 0, ' + text[1:]).encode())
    yield "twice", f.forge(_HS, (text[:-1] + ', "\\u006es": "other"}').encode())
    for number in ("NaN", "Infinity", "-Infinity", "1e999", "0x7fffffff", "1_000", "01", "+1"):
        for name in ("exp", "iat"):
            changed = {key: value for key, value in f.good.items() if key != name}
            odd = json.dumps(changed)[:-1] + f', "{name}": {number}}}'
            yield "number", f.forge(_HS, odd.encode())
    for encoding in ("utf-16", "utf-32", "utf-7"):
        if encoding != "utf-7":
            yield "encoding", f.forge(_HS, text.encode(encoding))
    yield "encoding", f.forge(_HS, b"\xef\xbb\xbf" + text.encode())
    for end in (b"x", b"{}", b"\0", b",", text.encode()):
        yield "trailing", f.forge(_HS, text.encode() + end)
    yield "comment", f.forge(_HS, text[:-1].encode() + b"/**/}/*")
    yield "single quotes", f.forge(_HS, text.replace('"', "'").encode())


def _claims(f: Forger) -> Iterator[Tried]:
    wrong: list[Any] = [None, [], {}, True, False, 1.5, [1], {"a": 1}]
    for name in ("sub", "ns", "iat", "exp"):
        yield "missing", f.forge(_HS, {k: v for k, v in f.good.items() if k != name})
        extra: list[Any] = [1, 0] if name in {"sub", "ns"} else ["1", "", str(f.now_s), "NaN"]
        for value in [*wrong, *extra]:
            yield f"type of {name}", f.forge(_HS, f.good | {name: value})
    for name in ("roles", "mounts", "permissions"):
        for value in ("admin", {}, 1, True, None, [1], [["a"]], {"admin": True}, [None], ["\0"]):
            yield f"type of {name}", f.forge(_HS, f.good | {name: value})
    for value in (None, 1, [], {}, True, "\n", "x" * 2000):
        yield "jti", f.forge(_HS, f.good | {"jti": value})
    ago = f.now_s - 61 - 5
    for exp in (0, -1, 1, ago, -(2**40), -(2**62), 2**63, 2**64, 2**70, 10**400, -(2**63) - 1):
        yield "exp", f.forge(_HS, f.good | {"exp": exp})
    soon = f.now_s + 3600
    for when in (soon, 2**31, 2**40, 2**62, 2**64, "0", True, 1.5, "soon", [], {}):
        yield "nbf", f.forge(_HS, f.good | {"nbf": when})
    for when in (soon, 2**40, 2**62, 2**64, 10**400, 1e30):
        yield "iat", f.forge(_HS, f.good | {"iat": when})
    for audience in ("fs9-clients", [], ["fs9"], "", 0, {}, True, ["a", "b"], [None]):
        yield "aud", f.forge(_HS, f.good | {"aud": audience})
    names = ["", "..", "../default", "a/b", "A", "default ", " default", "x" * 65, "-x", "\0", "é"]
    names += [
        ".",
        "default\n",
        "default\0",
        "def%61ult",
        "default\u200b",
        "ｄefault",
        "*",
        "%",
    ]
    names += ["default/../admin", "/default", "_x", "a.b", "a b", "default;admin", "\ud83d\ude00"]
    for ns in names:
        yield "namespace", f.forge(_HS, f.good | {"ns": ns})
    for sub in ("\0", "a\nb", "\r\nx: y", "\x1b[31m", "\x7f", "\x85", "\ud800", "x" * 2000):
        yield "sub", f.forge(_HS, f.good | {"sub": sub})


def _keys(f: Forger, public_keys: list[bytes]) -> Iterator[Tried]:
    for key in public_keys:
        for text in {key, key.strip(), key + b"\n", b64(key).encode(), key.hex().encode()}:
            for header in (_HS, _HS | {"kid": "r"}, {"alg": "HS256"}):
                yield "public key as secret", f.forge(header, f.good, key=text)
                yield (
                    "public key as secret",
                    f.forge(header, f.good, key=hashlib.sha256(text).digest()),
                )
    guesses = [b"", b"secret", b"null", b"undefined", b"changeme", b"0", b"fs9", b"jwt", b"\0" * 32]
    guesses += [f.secret[:-1], f.secret + b"x", f.secret + b"\n", f.secret[::-1], f.secret.upper()]
    guesses += [hashlib.sha256(f.secret).digest(), b64(f.secret).encode(), f.secret.hex().encode()]
    for key in guesses:
        yield "guessed secret", f.forge(_HS, f.good, key=key)
