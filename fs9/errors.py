"""Every error of fs9, and what each becomes on the wire.

    Fs9Error
    ├── the caller's request cannot be done   NotFound … QuotaExceeded
    ├── the caller's HTTP is wrong            Unauthenticated … RequestTimeout
    ├── something behind us failed            BackendUnavailable … Remote
    └── we failed                             Internal

An error is raised once, where it is known, and becomes a response in one place
(`fs9.wire.problem`). It crosses the wire as its `kind`, from which clients rebuild the
class; they never read the text. The texts begin with the `prefix`
that older clients search for.
"""

from __future__ import annotations

import errno
from typing import ClassVar

#: kind -> class, for rebuilding an error that crossed the wire.
KINDS: dict[str, type[Fs9Error]] = {}

#: What Forbidden says of a namespace: it may not even be known whether there is one; it is
#: suspended. A metadata service says the same, which is how file servers know what it means.
NO_ACCESS = "Namespace not found or access denied"
NOT_ACTIVE = "Namespace is not active"


class Fs9Error(Exception):
    """Base of all errors: `detail` is what follows the prefix in the text, often a path."""

    kind: ClassVar[str] = "Internal"
    prefix: ClassVar[str] = ""
    #: Between prefix and detail.
    joint: ClassVar[str] = ": "
    status: ClassVar[int] = 500
    errno: ClassVar[int] = errno.EIO
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail

    def __init_subclass__(cls) -> None:
        cls.kind = cls.__dict__.get("kind", cls.__name__)
        if cls.__module__ == __name__:  # others, such as the client's own, never cross the wire
            KINDS[cls.kind] = cls

    def __str__(self) -> str:
        return f"{self.prefix}{self.joint}{self.detail}" if self.prefix else self.detail


# -- The request is understood and cannot be done. ------------------------------------------


class NotFound(Fs9Error):
    prefix, status, errno = "not found", 404, errno.ENOENT


class PermissionDenied(Fs9Error):
    prefix, status, errno = "permission denied", 403, errno.EACCES


class AlreadyExists(Fs9Error):
    prefix, status, errno = "already exists", 409, errno.EEXIST


class InvalidArgument(Fs9Error):
    prefix, status, errno = "invalid argument", 400, errno.EINVAL


class NotDirectory(Fs9Error):
    prefix, status, errno = "not a directory", 400, errno.ENOTDIR


class IsDirectory(Fs9Error):
    prefix, status, errno = "is a directory", 400, errno.EISDIR


class DirectoryNotEmpty(Fs9Error):
    prefix, status, errno = "directory not empty", 400, errno.ENOTEMPTY


class InvalidHandle(Fs9Error):
    """The handle is unknown, closed, expired, or belongs to another namespace."""

    prefix, status, errno = "invalid handle", 400, errno.EBADF


class Conflict(Fs9Error):
    prefix, status, errno = "conflict", 409, errno.EBUSY


class VersionConflict(Fs9Error):
    prefix, status, errno = "version conflict", 409, errno.EBUSY


class PreconditionFailed(Fs9Error):
    """An If-Match or If-None-Match condition did not hold (RFC 9110, section 13)."""

    prefix, status, errno = "precondition failed", 412, errno.ESTALE


class QuotaExceeded(Fs9Error):
    """A limit on bytes, files or handles would be passed; nothing was changed."""

    prefix, status, errno = "quota exceeded", 507, errno.EDQUOT


class NotSupported(Fs9Error):
    """The provider lacks the capability; `detail` names it."""

    kind = "NotImplemented"
    prefix, status, errno = "not implemented", 501, errno.ENOTSUP


class TooManyHops(Fs9Error):
    prefix, status, errno = "too many proxy hops", 508, errno.ELOOP


# -- The HTTP around the request is wrong. --------------------------------------------------


class Unauthenticated(Fs9Error):
    """No credential, or one that does not hold; the text is the contract's own."""

    status, errno = 401, errno.EACCES


class Forbidden(Fs9Error):
    """The credential holds and does not suffice; the text is the contract's own."""

    status, errno = 403, errno.EACCES


class MalformedRequest(Fs9Error):
    """The bytes are not HTTP/1.1 as RFC 9112 requires, or the JSON is not JSON."""

    prefix, status, errno = "malformed request", 400, errno.EINVAL


class UnprocessableBody(Fs9Error):
    """The JSON is well formed but a field is missing or has the wrong type."""

    prefix, status, errno = "unprocessable body", 422, errno.EINVAL


class UnsupportedMediaType(Fs9Error):
    prefix, status, errno = "unsupported media type", 415, errno.EINVAL


class MethodNotAllowed(Fs9Error):
    prefix, status, errno = "method not allowed", 405, errno.ENOTSUP


class RouteNotFound(Fs9Error):
    prefix, status, errno = "no such route", 404, errno.ENOENT


class PayloadTooLarge(Fs9Error):
    prefix, status, errno = "payload too large", 413, errno.EFBIG


class UriTooLong(Fs9Error):
    prefix, status, errno = "request target too long", 414, errno.ENAMETOOLONG


class HeadersTooLarge(Fs9Error):
    prefix, status, errno = "request headers too large", 431, errno.E2BIG


class RangeNotSatisfiable(Fs9Error):
    """The range starts past the end; `detail` is the size in bytes, as decimal text."""

    prefix, status, errno = "range not satisfiable", 416, errno.EINVAL


class CursorExpired(Fs9Error):
    """What came after a watcher's cursor is not known any more: list anew, watch from now on."""

    prefix, status, errno = "cursor expired", 410, errno.ESTALE


class RequestTimeout(Fs9Error):
    """No byte arrived, or no answer was ready, within the request timeout."""

    prefix, status, errno, retryable = "request timed out", 408, errno.ETIMEDOUT, True


class MisdirectedRequest(Fs9Error):
    """A forwarded request reached a worker that does not own the namespace."""

    prefix, status, errno, retryable = "misdirected request", 421, errno.EAGAIN, True


class TooManyRequests(Fs9Error):
    """A rate is exceeded; the text is the contract's own. `retry_after_s`: at least 1."""

    status, errno, retryable = 429, errno.EAGAIN, True

    def __init__(self, detail: str = "", *, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = max(1, retry_after_s)


# -- Something behind us failed; trying again may help. -------------------------------------


class BackendUnavailable(Fs9Error):
    prefix, status, retryable = "storage backend unavailable", 503, True


class Transient(Fs9Error):
    prefix, status, errno, retryable = "transient error (retryable)", 503, errno.EAGAIN, True


class Overloaded(Fs9Error):
    """More concurrent requests than allowed, or the worker is draining."""

    prefix, status, errno, retryable = "overloaded", 503, errno.EAGAIN, True


class OwnerUnavailable(Fs9Error):
    """The worker that owns the namespace is not serving now; it is being replaced."""

    prefix, status, errno, retryable = "worker unavailable", 503, errno.EAGAIN, True


class CircuitBreakerOpen(Fs9Error):
    """Another service fails, and is left alone. `retry_after_s`: until then; at least 1."""

    prefix, status, errno, retryable = "circuit breaker open for", 503, errno.EAGAIN, True
    joint = " "

    def __init__(self, detail: str = "", *, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = max(1, retry_after_s)


class Timeout(Fs9Error):
    prefix, status, errno, retryable = "timeout after", 504, errno.ETIMEDOUT, True
    joint = " "


class Remote(Fs9Error):
    prefix, status = "remote error from", 500
    joint = " "


# -- We failed. -----------------------------------------------------------------------------


class Internal(Fs9Error):
    prefix, status = "internal error", 500
