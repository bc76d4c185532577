"""Tokens: JSON Web Tokens (RFC 7519) signed with HS256 and one shared secret.

The claims are `sub`, `ns` (the one namespace), `roles`, `iat`, `exp`, and `nbf` when given;
others are ignored. This is the only module that uses PyJWT: it checks the form and the
signature, the claims are checked here, against a time that is an argument.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm

from fs9.errors import Unauthenticated
from fs9.names import is_namespace_name

if TYPE_CHECKING:
    from collections.abc import Mapping

ALGORITHM = "HS256"
#: Clocks of issuer and server may differ by this much, for `exp` and `nbf`.
LEEWAY_S = 60
#: A longer token is refused unread; the header block as a whole has its own limit.
TOKEN_BYTES_MAX = 8192


class Claims(msgspec.Struct, frozen=True):
    """What a verified token says. Times are whole seconds since 1970."""

    sub: str
    ns: str
    roles: tuple[str, ...]
    iat_s: int
    exp_s: int


class _Hmac(HMACAlgorithm):
    """HS256 without PyJWT's warning at each use: a short secret is reported once, at start."""

    def check_key_length(self, key: bytes) -> None:
        return None


_jws = jwt.PyJWS(algorithms=[])
_jws.register_algorithm(ALGORITHM, _Hmac(_Hmac.SHA256))


def check_secret(secret: str) -> None:
    """Raise ValueError when tokens cannot be signed with `secret`."""
    try:
        _Hmac(_Hmac.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError as error:
        raise ValueError(str(error)) from None


def sign(claims: Mapping[str, Any], secret: str) -> str:
    """A token with exactly these claims; nothing is added or checked."""
    return _jws.encode(msgspec.json.encode(claims), secret, ALGORITHM)


def verify(
    token: str,
    secret: str,
    now_s: float,
    *,
    issuer: str | None = None,
    audience: str | None = None,
) -> Claims:
    """The claims of a token that holds now; raises Unauthenticated with the contract's text.

    With `issuer` the token must name it in `iss`; with `audience` it must name it in `aud`,
    and without one a token that has any `aud` is refused, since it was meant for another.
    """
    claims = _signed_claims(token, secret)
    result = _typed(claims)
    if result.exp_s + LEEWAY_S < now_s:
        raise _invalid("ExpiredSignature")
    if _integer(claims, "nbf", default=0) - LEEWAY_S > now_s:
        raise _invalid("ImmatureSignature")
    if issuer is not None and claims.get("iss") != issuer:
        raise _invalid("InvalidIssuer")
    if not _audience_fits(claims, audience):
        raise _invalid("InvalidAudience")
    return result


def _invalid(reason: str) -> Unauthenticated:
    return Unauthenticated(f"Invalid token: {reason}")


def _signed_claims(token: str, secret: str) -> dict[str, Any]:
    if len(token) > TOKEN_BYTES_MAX or not token.isascii() or token.count(".") != 2:
        raise _invalid("InvalidToken")
    try:
        signed = _jws.decode_complete(token, secret, algorithms=[ALGORITHM])
    except jwt.InvalidSignatureError:
        raise _invalid("InvalidSignature") from None
    except jwt.InvalidAlgorithmError:
        raise _invalid("InvalidAlgorithm") from None
    except jwt.InvalidTokenError:
        raise _invalid("InvalidToken") from None
    if "crit" in signed["header"]:  # RFC 7515, section 4.1.11: we understand no extension
        raise _invalid("InvalidToken")
    try:
        claims = msgspec.json.decode(signed["payload"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _invalid("JSON error: the claims are not valid JSON") from None
    if not isinstance(claims, dict):
        raise _invalid("JSON error: the claims are not an object")
    return claims


def _typed(claims: dict[str, Any]) -> Claims:
    if "exp" not in claims:
        raise _invalid("Missing required claim: exp")
    return Claims(
        sub=_text(claims, "sub"),
        iat_s=_integer(claims, "iat"),
        exp_s=_integer(claims, "exp"),
        roles=_roles(claims),
        ns=_namespace(claims),
    )


def _text(claims: dict[str, Any], name: str) -> str:
    value = _required(claims, name)
    if not isinstance(value, str):
        raise _invalid(f"JSON error: invalid type for `{name}`, expected a string")
    return value


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


def _roles(claims: dict[str, Any]) -> tuple[str, ...]:
    value = claims.get("roles", [])
    if not isinstance(value, list) or not all(isinstance(role, str) for role in value):
        raise _invalid("JSON error: invalid type for `roles`, expected a list of strings")
    return tuple(value)


def _namespace(claims: dict[str, Any]) -> str:
    if claims.get("ns") is None:
        raise Unauthenticated("Token missing required 'ns' claim")
    name = _text(claims, "ns")
    if not is_namespace_name(name):
        raise _invalid("the 'ns' claim is not a namespace name")
    return name


def _audience_fits(claims: dict[str, Any], audience: str | None) -> bool:
    value = claims.get("aud")
    if audience is None:
        return value is None
    return value == audience or (isinstance(value, list) and audience in value)
