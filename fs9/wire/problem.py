"""An error on the wire: `{"error", "code", "kind"}` and, where it is about a path, `path`.

`error_reply` is the one place where an error becomes a response, `error_from_reply` its
inverse in clients, which rebuild the class from `kind` and never read the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fs9.errors import (
    KINDS,
    AlreadyExists,
    BackendUnavailable,
    CircuitBreakerOpen,
    DirectoryNotEmpty,
    Forbidden,
    Fs9Error,
    Internal,
    InvalidArgument,
    IsDirectory,
    MethodNotAllowed,
    MisdirectedRequest,
    NotDirectory,
    NotFound,
    NotSupported,
    PayloadTooLarge,
    PreconditionFailed,
    QuotaExceeded,
    RangeNotSatisfiable,
    RequestTimeout,
    Timeout,
    TooManyHops,
    TooManyRequests,
    Unauthenticated,
)
from fs9.wire.messages import Problem

if TYPE_CHECKING:
    from fs9.types import Buffer

#: Seconds after which a refusal for lack of room, or of a worker, is worth another try.
RETRY_AFTER_S = 1

_ABOUT_A_PATH = (NotFound, AlreadyExists, NotDirectory, IsDirectory, DirectoryNotEmpty)
_BUSY = frozenset({429, 503})
_RETRY_AFTER = ("retry-after", str(RETRY_AFTER_S))
_CHALLENGE = ("www-authenticate", "Bearer")

# What a status means when the body is not ours: a proxy in between, an older server.
_BY_STATUS: dict[int, type[Fs9Error]] = {
    400: InvalidArgument,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    408: RequestTimeout,
    409: AlreadyExists,
    412: PreconditionFailed,
    413: PayloadTooLarge,
    416: RangeNotSatisfiable,
    421: MisdirectedRequest,
    429: TooManyRequests,
    501: NotSupported,
    502: BackendUnavailable,
    503: BackendUnavailable,
    504: Timeout,
    507: QuotaExceeded,
    508: TooManyHops,
}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Problem).decode


def error_reply(
    error: Fs9Error, text: str | None = None
) -> tuple[int, bytes, tuple[tuple[str, str], ...]]:
    """Status, JSON body and headers of an error; `text` replaces the error's own."""
    about_a_path = isinstance(error, _ABOUT_A_PATH) and error.detail.startswith("/")
    path = error.detail if about_a_path and text is None else ""
    problem = Problem(str(error) if text is None else text, error.status, error.kind, path)
    return error.status, _encode(problem), _headers(error)


def _headers(error: Fs9Error) -> tuple[tuple[str, str], ...]:
    if isinstance(error, TooManyRequests | CircuitBreakerOpen):
        return (("retry-after", str(error.retry_after_s)),)
    if error.status in _BUSY:
        return (_RETRY_AFTER,)
    if isinstance(error, Unauthenticated):
        return (_CHALLENGE,)
    if isinstance(error, RangeNotSatisfiable):
        return (("content-range", f"bytes */{error.detail}"),)
    return ()


def error_from_reply(status: int, body: Buffer) -> Fs9Error:
    """The error that a response with an error status stands for."""
    try:
        problem = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _BY_STATUS.get(status, Internal)(f"the server answered {status}")
    kind = KINDS.get(problem.kind) or _BY_STATUS.get(status, Internal)
    return kind(problem.error.removeprefix(f"{kind.prefix}{kind.joint}"))
