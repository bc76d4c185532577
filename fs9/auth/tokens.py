"""Tokens: JSON Web Tokens (RFC 7519), signed with a key of ours or of a known issuer.

The claims are `sub`, `ns` (the one namespace), `roles`, `iat`, `exp`, and where given `nbf`, `jti`,
`permissions` and `mounts`; others are ignored. This is the only module that uses PyJWT, and only
for signatures. What is signed is parsed here, strictly: each token has one spelling (otherwise a
revoked one could be spelled differently), no name appears twice, and no header may choose or bring
a key. Claims are checked against a time that is an argument.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Any, ClassVar

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from fs9.errors import Unauthenticated
from fs9.names import is_namespace_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fs9.config import Settings

HS256, RS256, EDDSA = "HS256", "RS256", "EdDSA"
#: Clocks of issuer and server may differ by this much, for `exp`, `nbf` and `iat`.
LEEWAY_S = 60
#: A longer token is refused unread; the header block as a whole has its own limit.
TOKEN_BYTES_MAX = 8192
#: A longer `sub`, `jti` or `kid` is refused.
TEXT_BYTES_MAX = 1024

#: The claims by which refreshed tokens are known as those of one first token.
ORIGIN, ORIGIN_JTI = "fs9_origin", "fs9_origin_jti"
_ORIGIN = re.compile(r"[0-9a-f]{32}")

#: Header parameters that change nothing about how a token is verified (RFC 8725, section 3).
_HEADER = frozenset({"alg", "typ", "kid", "x5t", "x5t#S256"})
_TYPES = frozenset({"JWT", "at+jwt", "application/at+jwt"})
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_JSON_DEPTH_MAX = 64


class PassingRefusal(Unauthenticated):
    """The token may hold in a moment, so the refusal is not to be remembered."""

    kind: ClassVar[str] = "Unauthenticated"


class UnknownKey(PassingRefusal):
    """The token names a key that is not known here, perhaps a new one of its issuer."""

    kind: ClassVar[str] = "Unauthenticated"


class Claims(msgspec.Struct, frozen=True):
    """What a verified token says. Times are whole seconds since 1970."""

    sub: str
    ns: str
    roles: tuple[str, ...]
    iat_s: int
    exp_s: int
    mounts: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    jti: str | None = None
    #: Of a refreshed token: the first 16 bytes of the SHA-256 of the token that there was first,
    #: in hexadecimal, and that one's `jti`.
    origin: str = ""
    origin_jti: str = ""


class ClaimRules(msgspec.Struct, frozen=True):
    """What a server demands of the claims, besides that they hold now; None: it does not mind.

    With `issuer` a token must name it in `iss`; with `audience` it must name it in `aud`, and
    without one a token that has any `aud` is refused, since it was meant for another server.
    `lifetime_max_s` is the longest time from `iat` to `exp`, in seconds.
    """

    issuer: str | None = None
    audience: str | None = None
    lifetime_max_s: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> ClaimRules:
        return cls(settings.token_issuer, settings.token_audience, settings.token_lifetime_max_s)


#: Of a server that demands nothing more.
NO_RULES = ClaimRules()


class Key(msgspec.Struct, frozen=True):
    """A key, and the one algorithm that it is for.

    `material` is a secret as text, or a public key object. A key without `kid` is tried for
    every token of its algorithm.
    """

    algorithm: str
    material: Any
    kid: str | None = None

    def __repr__(self) -> str:
        """Without the key: it may be a secret, and this may be logged."""
        return f"Key({self.algorithm!r}, kid={self.kid!r})"


class Keys(msgspec.Struct, frozen=True):
    """All keys that tokens may be signed with. `grows`: more may become known."""

    keys: tuple[Key, ...]
    grows: bool = False

    @classmethod
    def of_secrets(cls, secrets: Iterable[str]) -> Keys:
        """Secrets for HS256; raises ValueError when one cannot be one."""
        secrets = tuple(secrets)
        for secret in secrets:
            check_secret(secret)
        return cls(tuple(Key(HS256, secret) for secret in secrets))

    def fitting(self, algorithm: str, kid: str | None) -> list[Key]:
        """Those that may have signed a token with this header; raises UnknownKey."""
        mine = [key for key in self.keys if key.algorithm == algorithm]
        named = [key for key in mine if kid is None or key.kid is None or key.kid == kid]
        if named:
            return named
        if algorithm in {RS256, EDDSA} and (mine or self.grows):
            raise UnknownKey("Invalid token: InvalidKeyId")
        raise _invalid("InvalidAlgorithm")


class _Hmac(HMACAlgorithm):
    """HS256 without PyJWT's warning at each use: a short secret is reported once, at start."""

    def check_key_length(self, key: bytes) -> None:
        return None


_jws = jwt.PyJWS(algorithms=[])
_jws.register_algorithm(HS256, _Hmac(_Hmac.SHA256))
_jws.register_algorithm(RS256, RSAAlgorithm(RSAAlgorithm.SHA256))
_jws.register_algorithm(EDDSA, OKPAlgorithm())


def check_secret(secret: str) -> None:
    """Raise ValueError when tokens cannot be signed with `secret`."""
    try:
        _Hmac(_Hmac.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError as error:
        raise ValueError(str(error)) from None


def sign(claims: Mapping[str, Any], secret: str) -> str:
    """A token with exactly these claims; nothing is added or checked."""
    return _jws.encode(msgspec.json.encode(claims), secret, HS256)


def verify(
    token: str,
    keys: Keys,
    now_s: float,
    rules: ClaimRules = NO_RULES,
    *,
    grace_s: float = LEEWAY_S,
) -> Claims:
    """The claims of a token that holds at `now_s`; raises Unauthenticated with the contract's text.

    A token still holds for `grace_s` seconds after its expiry.
    """
    return _holding(_signed_claims(token, keys), now_s, rules, grace_s)


def read_vouched(
    token: str,
    now_s: float,
    rules: ClaimRules = NO_RULES,
    *,
    grace_s: float = LEEWAY_S,
) -> Claims:
    """As `verify`, but without a look at the signature.

    Only for a token that the metadata service has said to be valid, or is going to be asked about.
    """
    header, payload, _ = _parts(token)
    _read_header(header)
    return _holding(_claims_object(payload), now_s, rules, grace_s)


def _holding(claims: dict[str, Any], now_s: float, rules: ClaimRules, grace_s: float) -> Claims:
    result = _typed(claims)
    if result.exp_s + grace_s < now_s:
        raise _invalid("ExpiredSignature")
    begins_s = max(_integer(claims, "nbf", default=0), result.iat_s)
    if begins_s - LEEWAY_S > now_s:
        raise PassingRefusal("Invalid token: ImmatureSignature")
    if rules.issuer is not None and claims.get("iss") != rules.issuer:
        raise _invalid("InvalidIssuer")
    if not _audience_fits(claims, rules.audience):
        raise _invalid("InvalidAudience")
    lifetime_max_s = rules.lifetime_max_s
    if lifetime_max_s is not None and result.exp_s - result.iat_s > lifetime_max_s:
        raise _invalid(f"it is valid for longer than the {lifetime_max_s} seconds allowed here")
    return result


def _invalid(reason: str) -> Unauthenticated:
    return Unauthenticated(f"Invalid token: {reason}")


# -- The form and the signature -------------------------------------------------------------


def _signed_claims(token: str, keys: Keys) -> dict[str, Any]:
    header, payload, signature = _parts(token)
    algorithm, kid = _read_header(header)
    _check_signature(token, keys.fitting(algorithm, kid), algorithm, signature)
    return _claims_object(payload)


def _parts(token: str) -> tuple[bytes, bytes, bytes]:
    if len(token) > TOKEN_BYTES_MAX or not token.isascii() or token.count(".") != 2:
        raise _invalid("InvalidToken")
    header, payload, signature = (_decoded(part) for part in token.split("."))
    return header, payload, signature


def _claims_object(payload: bytes) -> dict[str, Any]:
    try:
        claims = _json(payload)
    except ValueError:
        raise _invalid("JSON error: the claims are not valid JSON") from None
    if not isinstance(claims, dict):
        raise _invalid("JSON error: the claims are not an object")
    return claims


def _decoded(part: str) -> bytes:
    """The bytes of a part; only their one spelling is accepted (RFC 7515, section 2)."""
    if not _BASE64URL.match(part):
        raise _invalid("InvalidToken")
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise _invalid("InvalidToken") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part.encode():
        raise _invalid("InvalidToken")
    return data


def _read_header(data: bytes) -> tuple[str, str | None]:
    """Algorithm and key id. Extensions are refused: `crit`, keys that it brings, `zip`, …"""
    try:
        header = _json(data)
    except ValueError:
        raise _invalid("InvalidToken") from None
    if not isinstance(header, dict):
        raise _invalid("InvalidToken")
    kind, kid = header.get("typ", "JWT"), header.get("kid")
    known = isinstance(kind, str) and kind in _TYPES
    if not (_HEADER.issuperset(header) and known and _is_text(header.get("kid", ""))):
        raise _invalid("InvalidToken")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise _invalid("InvalidAlgorithm")
    return algorithm, kid


def _check_signature(token: str, keys: list[Key], algorithm: str, signature: bytes) -> None:
    for key in keys:
        try:
            _jws.decode_complete(token, key.material, algorithms=[algorithm])
        except jwt.InvalidSignatureError:
            continue
        except jwt.InvalidAlgorithmError:
            raise _invalid("InvalidAlgorithm") from None
        except jwt.InvalidTokenError:
            raise _invalid("InvalidToken") from None
        return
    raise _invalid("InvalidSignature")


def _json(data: bytes) -> object:
    """As `json.loads`; a name twice, NaN and nesting without end are ValueErrors too."""
    text = data.decode()
    depth = max(text.count("["), text.count("{"))
    if depth > _JSON_DEPTH_MAX and _too_deep(text):
        raise ValueError("nested too deeply")
    return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)


def _too_deep(text: str) -> bool:
    depth = 0
    for character in text:
        if character in "[{":
            depth += 1
            if depth > _JSON_DEPTH_MAX:
                return True
        elif character in "]}":
            depth -= 1
    return False


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


# -- The claims -----------------------------------------------------------------------------


def _typed(claims: dict[str, Any]) -> Claims:
    if "exp" not in claims:
        raise _invalid("Missing required claim: exp")
    return Claims(
        sub=_user(claims),
        iat_s=_integer(claims, "iat"),
        exp_s=_integer(claims, "exp"),
        roles=_texts(claims, "roles"),
        ns=_namespace(claims),
        mounts=_texts(claims, "mounts"),
        permissions=_texts(claims, "permissions"),
        jti=_text(claims, "jti") if "jti" in claims else None,
        origin=_origin(claims),
        origin_jti=_text(claims, ORIGIN_JTI) if ORIGIN_JTI in claims else "",
    )


def _origin(claims: dict[str, Any]) -> str:
    value = claims.get(ORIGIN, "")
    if not isinstance(value, str) or (value and not _ORIGIN.fullmatch(value)):
        raise _invalid(f"the `{ORIGIN}` claim is not one of ours")
    return value


def _text(claims: dict[str, Any], name: str) -> str:
    value = _required(claims, name)
    if not isinstance(value, str):
        raise _invalid(f"JSON error: invalid type for `{name}`, expected a string")
    if not _is_text(value):
        raise _invalid(f"the `{name}` claim is too long, or has control characters")
    return value


def _user(claims: dict[str, Any]) -> str:
    """One without a name could not be revoked by it."""
    user = _text(claims, "sub")
    if not user:
        raise _invalid("the `sub` claim is empty")
    return user


def _is_text(value: object) -> bool:
    return (
        isinstance(value, str)
        and _CONTROL.search(value) is None
        and len(value.encode()) <= TEXT_BYTES_MAX
    )


def _integer(claims: dict[str, Any], name: str, default: int | None = None) -> int:
    value = _required(claims, name, default)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
        raise _invalid(f"JSON error: invalid type for `{name}`, expected an integer")
    return value


def _required(claims: dict[str, Any], name: str, default: object = None) -> object:
    value = claims.get(name, default)
    if value is None:
        raise _invalid(f"JSON error: missing field `{name}`")
    return value


def _texts(claims: dict[str, Any], name: str) -> tuple[str, ...]:
    value = claims.get(name, [])
    if not isinstance(value, list) or not all(_is_text(each) for each in value):
        raise _invalid(f"JSON error: invalid type for `{name}`, expected a list of strings")
    return tuple(value)


def _namespace(claims: dict[str, Any]) -> str:
    if claims.get("ns") is None:
        raise Unauthenticated("Token missing required 'ns' claim")
    value = claims["ns"]
    if isinstance(value, str) and not is_namespace_name(value):
        raise _invalid("the 'ns' claim is not a namespace name")
    return _text(claims, "ns")


def _audience_fits(claims: dict[str, Any], audience: str | None) -> bool:
    if audience is None:
        return claims.get("aud") is None
    value = claims.get("aud")
    return value == audience or (isinstance(value, list) and audience in value)
