"""Logging set-up: the standard library's loggers, written to one stream as the settings say.

Every module logs through `logging.getLogger(__name__)`. What a line is about travels in
`extra`: `log.warning("…", extra={"namespace": name, "request_id": x})`.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

import msgspec

from fs9.config.log_filter import LEVELS, parse_filter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fs9.config import Settings

#: The fields that may be given in `extra`, in the order in which they are shown.
FIELDS = ("slot", "request_id", "namespace", "user")

# What a caller sends must not look like another line, nor move the terminal's cursor.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(settings: Settings, stream: TextIO) -> None:
    """Make the root logger write to `stream`; a second call replaces the first one's work."""
    logging.addLevelName(LEVELS["trace"], "TRACE")
    handler = FieldHandler(stream)
    handler.setFormatter(FORMATTERS[settings.log_format]())
    levels = parse_filter(settings.log_filter) or {"": LEVELS[settings.log_level]}
    root = logging.getLogger()
    for previous in [item for item in root.handlers if isinstance(item, FieldHandler)]:
        root.removeHandler(previous)
        _apply(dict.fromkeys(previous.levels, logging.NOTSET))
    handler.levels = {"": LEVELS["info"], **levels}
    _apply(handler.levels)
    root.addHandler(handler)


def _apply(levels: Mapping[str, int]) -> None:
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


class FieldHandler(logging.StreamHandler[TextIO]):
    """The handler that `configure` installs, so that it can be found again."""

    levels: Mapping[str, int] = {}


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
        return msgspec.json.encode(line, enc_hook=str).decode()


FORMATTERS: Mapping[str, type[logging.Formatter]] = {
    "pretty": Pretty,
    "compact": Compact,
    "json": Json,
}


def _fields(record: logging.LogRecord) -> list[tuple[str, object]]:
    return [(name, record.__dict__[name]) for name in FIELDS if name in record.__dict__]


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda match: ascii(match.group())[1:-1], text)
