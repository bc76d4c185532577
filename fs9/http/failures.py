"""The one place where an exception becomes a reply."""

from __future__ import annotations

import logging

from fs9.errors import Fs9Error, Internal
from fs9.http.exchange import Reply
from fs9.wire.problem import error_reply

log = logging.getLogger(__name__)


def reply_to_error(
    error: Fs9Error, *, text: str | None = None, headers: tuple[tuple[str, str], ...] = ()
) -> Reply:
    """The reply to an error; `text` replaces its own where the contract has another one."""
    status, body, own_headers = error_reply(error, text)
    return Reply(status, body, headers=own_headers + headers)


def reply_to_bug(error: Exception) -> Reply:
    """The reply to an unforeseen exception: 500 without details; the traceback goes to the log."""
    log.error("unexpected error", exc_info=error)
    return reply_to_error(Internal("unexpected error, see the server's log"))
