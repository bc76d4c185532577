"""Logging set-up: the standard library's loggers, written to one stream as the settings say.

Every module logs through `logging.getLogger(__name__)`. What a line is about travels in
`extra`: `log.warning("…", extra={"namespace": name})`. The handler adds the slot, and within a
request its id and trace.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

import msgspec

from fs9.config.log_filter import LEVELS, parse_filter
from fs9.observe.request import REQUEST_ID, TRAIL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fs9.config import Settings

#: The fields that may be given in `extra`, in the order in which they are shown.
FIELDS = (
    *("method", "route", "path", "query", "status", "duration_ms", "received_bytes", "sent_bytes"),
    *("slot", "request_id", "trace_id", "namespace", "user", "client"),
)

# What a caller sends must not look like another line, nor move the terminal's cursor.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(settings: Settings, stream: TextIO, *, slot: int | None = None) -> None:
    """Make the root logger write to `stream`; a second call replaces the first one's work."""
    logging.addLevelName(LEVELS["trace"], "TRACE")
    handler = FieldHandler(stream)
    handler.slot = slot
    handler.setFormatter(FORMATTERS[settings.log_format]())
    root = logging.getLogger()
    for previous in _handlers():
        root.removeHandler(previous)
        _apply(dict.fromkeys(previous.levels, logging.NOTSET))
    root.addHandler(handler)
    set_levels(settings.log_filter or settings.log_level)


def set_levels(text: str) -> None:
    """Log from now on what the filter `text` says, as the setting `logging.filter` has it.

    Raises ValueError.
    """
    levels = {"": LEVELS["info"], **parse_filter(text)}
    for handler in _handlers():
        _apply(dict.fromkeys(handler.levels, logging.NOTSET))
        handler.levels = levels
    _apply(levels)


def _handlers() -> list[FieldHandler]:
    return [item for item in logging.getLogger().handlers if isinstance(item, FieldHandler)]


def _apply(levels: Mapping[str, int]) -> None:
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


class FieldHandler(logging.StreamHandler[TextIO]):
    """The handler that `configure` installs, so that it can be found again."""

    levels: Mapping[str, int] = {}
    slot: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        known = record.__dict__
        if self.slot is not None:
            known.setdefault("slot", self.slot)
        request_id = REQUEST_ID.get()
        if request_id and "request_id" not in known:
            known["request_id"] = request_id.decode("latin-1")
        trail = TRAIL.get()
        if trail is not None and trail.trace_id:
            known.setdefault("trace_id", trail.trace_id)
        super().emit(record)


class Pretty(logging.Formatter):
    """`2026-11-24 05:48:12.345 INFO  fs9.http: text  namespace=acme`"""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        return f"{time} {record.levelname:<7} {record.name}: {self.rest(record)}"

    def rest(self, record: logging.LogRecord) -> str:
        """The message, the fields, and the traceback on lines of its own."""
        shown = "".join(f"  {name}={_escaped(str(value))}" for name, value in _fields(record))
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{_escaped(record.getMessage())}{shown}{trace}"


class Compact(Pretty):
    """`05:48:12 I http: text  namespace=acme`"""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        name = record.name.removeprefix("fs9.")
        return f"{time} {record.levelname[0]} {name}: {self.rest(record)}"


class Json(logging.Formatter):
    """One JSON object a line, RFC 3339 times in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
            **dict(_fields(record)),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return msgspec.json.encode(line, enc_hook=str).decode()
        except UnicodeEncodeError:  # surrogates, as in names of files that are not UTF-8
            plain = {name: _encodable(value) for name, value in line.items()}
            return msgspec.json.encode(plain, enc_hook=str).decode()


FORMATTERS: Mapping[str, type[logging.Formatter]] = {
    "pretty": Pretty,
    "compact": Compact,
    "json": Json,
}


def _fields(record: logging.LogRecord) -> list[tuple[str, object]]:
    return [(name, record.__dict__[name]) for name in FIELDS if name in record.__dict__]


def _encodable(value: object) -> object:
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "backslashreplace").decode()


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda match: ascii(match.group())[1:-1], text)
