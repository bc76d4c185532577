"""Logging does what the settings say: level, format, filter."""

import io
import json
import logging
import re

import pytest

from fs9.config import Settings
from fs9.observe.log import FORMATTERS, configure


@pytest.fixture(autouse=True)
def _loggers_as_before():
    """Leave the process's loggers as they were."""
    root = logging.getLogger()
    names = ("", "t9", "t9.a", "t9.b")
    handlers, levels = root.handlers[:], [logging.getLogger(name).level for name in names]
    yield
    root.handlers[:] = handlers
    for name, level in zip(names, levels, strict=True):
        logging.getLogger(name).setLevel(level)


def logged(*settings: Settings) -> list[str]:
    """The lines of a fixed programme of messages under the (last) settings."""
    streams = []
    for item in settings:
        streams.append(io.StringIO())
        configure(item, streams[-1])
    for name in ("t9.a", "t9.b"):
        log = logging.getLogger(name)
        for level in (5, 10, 20, 30, 40):
            log.log(level, "%s %d", name, level)
    assert all(stream.getvalue() == "" for stream in streams[:-1])
    return streams[-1].getvalue().splitlines()


@pytest.mark.parametrize(
    ("level", "least"), [("trace", 5), ("debug", 10), ("info", 20), ("warn", 30), ("error", 40)]
)
def test_the_level_is_the_least_that_is_logged(level, least):
    """Nothing below the level is written, everything from it on is."""
    lines = logged(Settings(log_level=level))
    shown = [level for level in (5, 10, 20, 30, 40) if level >= least]
    assert [line.split()[-1] for line in lines] == [str(number) for number in shown * 2]


def test_the_filter_replaces_the_level():
    """Named loggers have their own levels, the bare level is for the rest."""
    lines = logged(Settings(log_level="trace", log_filter="error,t9.a=debug"))
    assert [line.split()[-2:] for line in lines] == [
        ["t9.a", "10"],
        ["t9.a", "20"],
        ["t9.a", "30"],
        ["t9.a", "40"],
        ["t9.b", "40"],
    ]


def test_configuring_again_replaces_what_was():
    """No line is written twice, and the first filter is forgotten."""
    assert len(logged(Settings(log_filter="t9=trace"), Settings(log_level="error"))) == 2


def line(log_format: str, message: str = "hello", **extra: object) -> str:
    stream = io.StringIO()
    configure(Settings(log_format=log_format), stream)
    logging.getLogger("fs9.t").warning(message, extra=extra)
    return stream.getvalue().rstrip("\n")


def test_pretty_is_for_people():
    """Time, level, logger, message, fields."""
    text = line("pretty", namespace="acme", request_id="r1")
    expected = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} WARNING fs9\.t: hello  request_id=r1"
    assert re.fullmatch(expected + "  namespace=acme", text)


def test_compact_is_short():
    """Time of day, one letter, the message."""
    assert re.fullmatch(r"\d\d:\d\d:\d\d W t: hello  slot=3", line("compact", slot=3))


def test_json_is_for_programs():
    """One object a line, with the fields as keys."""
    value = json.loads(line("json", "a\nb", namespace="acme", user=None))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value.pop("time"))
    assert value.pop("pid") > 0
    assert value == {
        "level": "warning",
        "logger": "fs9.t",
        "message": "a\nb",
        "namespace": "acme",
        "user": None,
    }


def test_what_is_not_unicode_is_told_all_the_same():
    """The name of a file that is not UTF-8, a lone surrogate of a token."""
    # Past the loggers: what pytest captures of them must be Unicode.
    fields = {"msg": "no such file: a\udcffb", "user": "\ud800", "status": 404}
    value = json.loads(FORMATTERS["json"]().format(logging.makeLogRecord(fields)))
    assert value["message"] == r"no such file: a\udcffb"
    assert (value["user"], value["status"]) == (r"\ud800", 404)


@pytest.mark.parametrize("log_format", ["pretty", "compact"])
def test_a_caller_cannot_forge_lines(log_format):
    """Control characters in messages and fields are escaped."""
    text = line(log_format, "a\nb\x1b[2J\u2028", user="x\r\ny")
    assert text.endswith(r"a\nb\x1b[2J\u2028  user=x\r\ny")
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("log_format", ["pretty", "compact", "json"])
def test_a_traceback_is_kept(log_format):
    """An exception is logged with where it came from."""
    stream = io.StringIO()
    configure(Settings(log_format=log_format), stream)
    try:
        raise RuntimeError("reason")
    except RuntimeError:
        logging.getLogger("fs9.t").exception("failed")
    assert "RuntimeError: reason" in stream.getvalue()
    assert "test_log.py" in stream.getvalue()
