"""How a command ends: the error message with a hint, and the exit code."""

from __future__ import annotations

import errno
import functools
import logging
import sys
from typing import TYPE_CHECKING

from fs9 import errors
from fs9.errors import Fs9Error

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

OK, ERROR, USAGE, NOT_FOUND, DENIED, CONFLICT, QUOTA, UNAVAILABLE = range(8)

#: HTTP status of an error -> exit code; a retryable error is UNAVAILABLE, the rest ERROR.
_BY_STATUS = {
    401: DENIED,
    403: DENIED,
    404: NOT_FOUND,
    409: CONFLICT,
    412: CONFLICT,
    413: QUOTA,
    507: QUOTA,
    408: UNAVAILABLE,
    421: UNAVAILABLE,
    429: UNAVAILABLE,
    503: UNAVAILABLE,
    504: UNAVAILABLE,
}
_BY_ERRNO = {
    errno.ENOENT: NOT_FOUND,
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.EEXIST: CONFLICT,
    errno.ENOSPC: QUOTA,
    errno.EDQUOT: QUOTA,
}

#: What to do next, by kind of error.
_HINTS = {
    errors.Unauthenticated: "give a token with --token-file, FS9_TOKEN_FILE or FS9_TOKEN",
    errors.Forbidden: "the token's namespace or roles do not allow this; ask for another token",
    errors.QuotaExceeded: "make room: `fs9 du /` shows what takes it",
    errors.PayloadTooLarge: "the server's limit is server.max_write_size_bytes",
    errors.DirectoryNotEmpty: "remove it with all that is in it: `fs9 rm -r`",
    errors.Overloaded: "the server is busy; try again in a moment",
    errors.TooManyRequests: "the server is busy; try again in a moment",
    errors.OwnerUnavailable: "a worker is being replaced; try again in a moment",
    errors.RouteNotFound: "is this an fs9 server? `fs9 doctor` looks closer",
}


class UsageError(Exception):
    """The command line asks for something that cannot be meant; the text says what."""


class Ending:
    """Collects the failures of one command: prints each, and knows the exit code at the end."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._codes: set[int] = set()
        #: A tree was done in part: what matters then is whether trying again may help.
        self.partial = False

    @property
    def code(self) -> int:
        """The code that all failures share, else ERROR; OK without any."""
        if not self._codes:
            return OK
        if self.partial:
            return UNAVAILABLE if UNAVAILABLE in self._codes else ERROR
        return next(iter(self._codes)) if len(self._codes) == 1 else ERROR

    def fail(self, path: str | None, error: Exception, hint: str | None = None) -> None:
        """Print one line for a failure at `path`, a hint below it, and remember its code."""
        self._codes.add(exit_code(error))
        self.say(describe(path, error))
        hint = hint or _hint(error)
        if hint:
            print(f"     {hint}", file=sys.stderr)

    def say(self, text: str) -> None:
        """Print one line about the command to the standard error."""
        print(f"fs9: {self._command}: {text}", file=sys.stderr)


def exit_code(error: Exception) -> int:
    if isinstance(error, UsageError):
        return USAGE
    if isinstance(error, Fs9Error):
        return _BY_STATUS.get(error.status, UNAVAILABLE if error.retryable else ERROR)
    if isinstance(error, OSError):
        return _BY_ERRNO.get(error.errno or 0, ERROR)
    return ERROR


def describe(path: str | None, error: Exception) -> str:
    """The error in one line that names the file: `/x: not found`."""
    if isinstance(error, OSError):
        name = error.filename if isinstance(error.filename, str) else path
        text = (error.strerror or str(error)).lower()
        return visible(f"{name}: {text}" if name else text)
    text = str(error)
    if path is None or isinstance(error, UsageError) or _speaks_for_itself(error):
        return visible(text)
    if isinstance(error, Fs9Error) and error.prefix and _names(error.detail, path):
        return visible(f"{path}: {error.prefix}")
    return visible(f"{path}: {text}")


def _names(detail: str, path: str) -> bool:
    """Is the detail the path itself, or what the path is called within its mount?"""
    return f"/{path.strip('/')}".endswith(f"/{detail.strip('/')}".rstrip("/")) and (
        detail.startswith("/") or detail == path
    )


def _speaks_for_itself(error: Exception) -> bool:
    """Is it about the server rather than about a file?"""
    return isinstance(error, Fs9Error) and error.kind == "ServerUnreachable"


def _hint(error: Exception) -> str | None:
    return next((hint for kind, hint in _HINTS.items() if isinstance(error, kind)), None)


def visible(text: str) -> str:
    """The text with control characters spelled out, so that a name cannot steer a terminal."""
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable()
        else char.encode("unicode_escape", "replace").decode()
        if not "\ud800" <= char <= "\udfff"
        else f"\\x{ord(char) - 0xDC00:02x}"
        for char in text
    )


def silence_libraries() -> None:
    """What libraries log is no part of a command's output: the command tells what fails, once."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())


def command(name: str) -> Callable[[Callable[..., int]], Callable[[argparse.Namespace], int]]:
    """Makes a command's `run` of a function of (args, ending): errors that leave it end it."""

    def decorate(run: Callable[..., int]) -> Callable[[argparse.Namespace], int]:
        @functools.wraps(run)
        def guarded(args: argparse.Namespace) -> int:
            ending = Ending(name)
            try:
                return run(args, ending)
            except BrokenPipeError:
                raise
            except (Fs9Error, OSError, UsageError) as error:
                ending.fail(None, error)
                return exit_code(error)

        return guarded

    return decorate
