"""fleet: what operators see, and how each command ends; real fleets are in tests/e2e."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from fs9.cli import fleet as command
from router.messages import (
    Done,
    DrainRequest,
    FleetStatus,
    Refused,
    ReloadRequest,
    ScaleRequest,
    SlotStatus,
    UndrainRequest,
    UnknownMessage,
)
from router.view import SlotState
from workers import asking
from workers.broker import Broker
from workers.slots import run_directory_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Fs9

STATUS = FleetStatus(
    view=7,
    epoch="e",
    workers=2,
    operation="reload",
    slots=(
        SlotStatus(0, SlotState.READY, 4711, True, 12, 3, 1, 65.4, 0.1, 1.0),
        SlotStatus(1, SlotState.DRAINING, 0, False, 0, 0, 0, 0.0, None, 0.0),
    ),
)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this host are read, and a watch does not wait."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(command.time, "sleep", lambda _: None)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[object]]:
    """`answers(a, b, …)`: what a fleet says or raises, in order; returns what it was asked."""

    def say(*said: object) -> list[object]:
        left, asked = list(said), []

        def bus_request(_: object, request: object, timeout_s: float) -> object:
            assert timeout_s > 0
            asked.append(request)
            answer = left.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        monkeypatch.setattr(asking, "bus_request", bus_request)
        return asked

    return say


def test_the_table(fs9: Fs9, answers: Callable[..., list[object]]) -> None:
    answers(STATUS)
    code, out, err = fs9("fleet", "status")
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["slot", "state", "pid", "namespaces", "handles", "in", "flight", "uptime", "ring"],
        ["0", "ready", "4711", "12", "3", "1", "65s", "100.0%"],
        ["1", "draining", "-", "0", "0", "0", "0s", "0.0%"],
        ["under", "way:", "reload"],
    ]


def test_another_user_may_not(fs9: Fs9, answers: Callable[..., list[object]]) -> None:
    answers(PermissionError(13, "Permission denied", "/srv/fs9/run/bus.json"))
    text = "fs9: fleet: /srv/fs9/run/bus.json: permission denied: run it as the fleet's user\n"
    assert fs9("fleet", "status") == (4, "", text)


def test_no_fleet_has_so_many_workers(fs9: Fs9, answers: Callable[..., list[object]]) -> None:
    """One digit too many would fill the host with processes."""
    asked = answers()
    assert fs9("fleet", "scale", "1025") == (2, "", "fs9: fleet scale: at most 1024\n")
    assert asked == []


@pytest.mark.parametrize(
    "arguments",
    ["drain -1", "drain 1024", "undrain one", "drain 99999999999999999999", "drain 1.5"]
    + [f"drain 0 --timeout {seconds}" for seconds in ("0", "-1", "nan", "inf", "soon")],
)
def test_what_no_slot_and_no_time_can_be_is_a_usage_error(
    fs9: Fs9, answers: Callable[..., list[object]], arguments: str
) -> None:
    asked = answers()
    code, out, err = fs9("fleet", *arguments.split())
    assert (code, out, asked) == (2, "", [])
    assert ("a slot is a number from 0 to 1023" in err) != ("seconds, more than 0" in err)


def test_the_document(fs9: Fs9, answers: Callable[..., list[object]]) -> None:
    answers(STATUS)
    code, out, _ = fs9("fleet", "status", "--json")
    assert code == 0
    document = json.loads(out)
    assert (document["view"], document["workers"], document["operation"]) == (7, 2, "reload")
    assert document["slots"][0] == {
        "slot": 0,
        "pid": 4711,
        "state": "ready",
        "namespaces": 12,
        "handles": 3,
        "in_flight": 1,
        "uptime_s": 65.4,
        "ring_share": 1.0,
    }
    assert document["slots"][1]["pid"] is None


@pytest.mark.parametrize("kind", [[], ["--json"]])
def test_a_watch_in_a_pipe_has_no_control_characters_and_ends_with_130(
    fs9: Fs9, answers: Callable[..., list[object]], kind: list[str]
) -> None:
    answers(STATUS, STATUS, KeyboardInterrupt())
    code, out, _ = fs9("fleet", "status", "--watch", *kind)
    assert code == 130
    assert "\x1b" not in out
    assert out.count("draining") == 2


def test_a_watch_on_a_terminal_is_written_in_place(
    fs9: Fs9, answers: Callable[..., list[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a broker that is away for a moment, too."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("LINES", "24")
    gone = asking.NoBroker("no fleet answers")
    answers(STATUS, gone, gone, STATUS, KeyboardInterrupt())
    code, out, _ = fs9("fleet", "status", "--watch")
    assert code == 130
    first, *screens = out.split("\x1b[H")
    assert first == ""
    assert len(screens) == 4
    assert all(screen.endswith("\x1b[K\n\x1b[J") for screen in screens)
    assert ["no fleet answers" in screen for screen in screens] == [False, True, True, False]
    assert screens[1] == screens[2]
    assert screens[0] == screens[3]


def test_a_watch_is_not_longer_than_the_terminal(
    fs9: Fs9, answers: Callable[..., list[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("LINES", "3")
    answers(STATUS, KeyboardInterrupt())
    _, out, _ = fs9("fleet", "status", "--watch")
    assert out.count("\n") == 2


@pytest.mark.parametrize(
    "arguments",
    ["status", "status --watch", "status --json", "drain 0", "undrain 0", "scale 2", "reload"],
)
def test_a_data_directory_without_a_fleet(
    fs9: Fs9, tmp_path: Path, arguments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """7, with what to do; nothing is made there."""
    monkeypatch.setattr(asking, "_ANSWER_S", 0.1)
    code, out, err = fs9("fleet", *arguments.split(), "--data-dir", tmp_path / "none")
    assert (code, out) == (7, "")
    assert "none" in err
    assert "--data-dir" in err
    assert "fs9 serve" in err
    assert list(tmp_path.iterdir()) == []


def test_a_data_directory_that_is_none(
    fs9: Fs9, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_ANSWER_S", 0.1)
    (tmp_path / "file").write_text("")
    for path in ("file", "file/below"):
        code, out, err = fs9("fleet", "status", "--data-dir", tmp_path / path)
        assert (code, out) == (7, "")
        assert "fs9 serve" in err


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        (["drain", "3", "--timeout", "9"], DrainRequest(3, 9.0)),
        (["undrain", "3"], UndrainRequest(3)),
        (["scale", "5", "--timeout", "9"], ScaleRequest(5, 9.0)),
        (["reload"], ReloadRequest(30.0)),
    ],
)
def test_a_change_is_asked_for_and_says_nothing_when_done(
    fs9: Fs9, answers: Callable[..., list[object]], arguments: list[str], request_: object
) -> None:
    asked = answers(Done())
    assert fs9("fleet", *arguments) == (0, "", "")
    assert asked == [request_]


def test_what_holds_already_is_success_and_said(
    fs9: Fs9, answers: Callable[..., list[object]]
) -> None:
    answers(Done("slot 1 serves already"))
    said = "fs9: fleet undrain: slot 1 serves already\n"
    assert fs9("fleet", "undrain", "1") == (0, "", said)


def test_what_goes_wrong_is_said_without_a_traceback(
    fs9: Fs9, answers: Callable[..., list[object]]
) -> None:
    answers(Refused("nobody would serve"))
    assert fs9("fleet", "drain", "0") == (1, "", "fs9: fleet drain: nobody would serve\n")
    answers(TimeoutError("the fleet has not finished within 65 s"))
    code, _, err = fs9("fleet", "reload")
    assert (code, "has not finished" in err) == (7, True)
    answers(UnknownMessage("a message of version 9"))
    code, _, err = fs9("fleet", "status")
    assert (code, "another version" in err) == (1, True)
    assert fs9("fleet", "scale", "0")[0] == 2
    assert fs9("fleet")[0] == 2


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Path]:
    """The data directory of a broker that lives, with two slots that do not."""
    run_directory = run_directory_of(tmp_path / "data")
    run_directory.create()
    broker = Broker(run_directory, 2)
    over = threading.Event()

    def step() -> None:
        while not over.is_set():
            broker.step(0.05)

    thread = threading.Thread(target=step)
    thread.start()
    yield tmp_path / "data"
    over.set()
    thread.join()
    broker.close()


def test_ctrl_c_ends_a_watch_on_a_real_terminal(broker: Path) -> None:
    """As a person sees it: 130, no traceback."""
    ours, theirs = os.openpty()
    arguments = [sys.executable, "-m", "fs9.cli.main", "fleet", "status", "--watch"]
    process = subprocess.Popen(
        [*arguments, "--data-dir", str(broker)], stdout=theirs, stderr=subprocess.PIPE
    )
    os.close(theirs)
    seen = b""
    while seen.count(b"\x1b[H") < 2:
        seen += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 130
    assert b"joining" in seen
    assert b"Traceback" not in err
