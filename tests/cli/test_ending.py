"""Errors become texts that name the file, hints, and the documented exit codes."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from fs9 import errors
from fs9.cli.ending import Ending, UsageError, describe, exit_code, visible
from fs9.client.failures import ConnectionLost, ServerUnreachable
from fs9.errors import KINDS, Fs9Error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotFound("/x"), 3),
        (errors.Unauthenticated("x"), 4),
        (errors.Forbidden("x"), 4),
        (errors.PermissionDenied("x"), 4),
        (errors.AlreadyExists("/x"), 5),
        (errors.PreconditionFailed("/x"), 5),
        (errors.VersionConflict("x"), 5),
        (errors.QuotaExceeded("x"), 6),
        (errors.PayloadTooLarge("x"), 6),
        (errors.Overloaded("x"), 7),
        (errors.TooManyRequests("x"), 7),
        (errors.Timeout("30s"), 7),
        (errors.RequestTimeout("x"), 7),
        (ServerUnreachable.at("http://x"), 7),
        (ConnectionLost("x"), 7),
        (errors.IsDirectory("/x"), 1),
        (errors.Internal("x"), 1),
        (UsageError("x"), 2),
        (FileNotFoundError(errno.ENOENT, "x"), 3),
        (PermissionError(errno.EACCES, "x"), 4),
        (OSError(errno.ENOSPC, "x"), 6),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    assert exit_code(error) == code


def test_every_retryable_kind_is_unavailable() -> None:
    for kind in KINDS.values():
        if kind.retryable:
            assert exit_code(kind("x")) == 7


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.NotFound("/x"), "/x: not found"),
        (errors.InvalidArgument("too long"), "/x: invalid argument: too long"),
        (FileNotFoundError(2, "No such file or directory", "/l"), "/l: no such file or directory"),
        (UsageError("no"), "no"),
    ],
)
def test_texts(error: Exception, text: str) -> None:
    assert describe("/x", error) == text


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert visible("a\x1b[31mb\nü\udcff") == "a\\x1b[31mb\\nü\\xff"


def test_an_unreachable_server_is_not_the_fault_of_a_path() -> None:
    text = describe("/x", ServerUnreachable.at("http://h:1"))
    assert text == "cannot reach http://h:1: is the server running? try `fs9 serve`"


def test_codes_of_several_failures(capsys: pytest.CaptureFixture[str]) -> None:
    """The common code when there is one, else 1; trees say 7 when trying again may help."""

    def codes(*failures: Fs9Error) -> tuple[int, int]:
        ending = Ending("x")
        for failure in failures:
            ending.fail("/x", failure)
        whole = ending.code
        ending.partial = True
        return ending.code, whole

    assert codes() == (0, 0)
    assert codes(errors.NotFound("/x"), errors.NotFound("/x")) == (1, 3)
    assert codes(errors.NotFound("/x"), errors.Overloaded("")) == (7, 1)
    assert "fs9: x: /x: not found" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["/data", "/data/", "data"])
def test_a_mount_is_named_as_the_caller_names_it(path: str) -> None:
    """A provider says what a file is called in it."""
    assert describe(path, errors.AlreadyExists("/")) == f"{path}: already exists"
    assert describe("/data/a/b", errors.NotFound("/a/b")) == "/data/a/b: not found"
    assert describe("/data/ab", errors.NotFound("/b")) == "/data/ab: not found: /b"
    assert describe("/xa", errors.InvalidArgument("a")) == "/xa: invalid argument: a"


def test_what_libraries_log_is_no_part_of_a_command():
    """As the warnings of a pool for each try to reach a database: the command tells it once."""
    code = (
        "import logging; from fs9.cli.ending import silence_libraries; silence_libraries();"
        "logging.getLogger('psycopg.pool').warning('again')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
