"""The command line as a whole: parsing, exits, pipes, interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fs9 import __version__
from fs9.cli.main import COMMANDS, main, make_parser

if TYPE_CHECKING:
    from fs9.client import Client
    from tests.cli.conftest import Fs9

PROGRAM = [sys.executable, "-W", "error", "-m", "fs9.cli.main"]


def start(url: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        env=os.environ | {"FS9_URL": url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_version(fs9: Fs9) -> None:
    assert fs9("version") == (0, f"fs9 {__version__}\n", "")
    assert fs9("--version") == (0, f"fs9 {__version__}\n", "")
    assert f'"fs9": "{__version__}"' in fs9("version", "--json")[1]


def test_usage_errors_are_2(fs9: Fs9) -> None:
    for arguments in (
        [],
        ["dance"],
        ["ls", "--dance"],
        ["put"],
        ["put", "x"],
        ["mkdir", "-m9", "/x"],
    ):
        code, out, err = fs9(*arguments)
        assert (code, out) == (2, "")
        assert err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(fs9: Fs9, command: str) -> None:
    code, out, _ = fs9(command, "--help")
    assert code == 0
    assert out.startswith(f"usage: fs9 {command}")


def test_a_command_is_listed_with_its_own_words() -> None:
    """The short list does not import the commands, and must not drift from them."""
    listed = make_parser().format_help()
    for name, (_, text) in COMMANDS.items():
        assert text in " ".join(listed.split()), name


def test_connection_options_stand_before_or_after_the_command(fs9: Fs9, live_url: str) -> None:
    nowhere = "http://127.0.0.1:1"
    assert fs9("--url", nowhere, "ls")[0] == 7
    assert fs9("ls", "--url", nowhere)[0] == 7
    assert fs9("--url", nowhere, "ls", "--url", live_url)[0] == 0
    assert fs9("--url", live_url.removeprefix("http://"), "ls")[0] == 0


def test_an_unreachable_server(fs9: Fs9) -> None:
    """One line that says what to do, and 7."""
    code, out, err = fs9("ls", "--url", "http://127.0.0.1:1")
    assert (code, out) == (7, "")
    text = "fs9: ls: cannot reach http://127.0.0.1:1: is the server running? try `fs9 serve`"
    assert err.startswith(text)
    assert err.count("\n") == 1


def test_a_reader_that_leaves_is_no_error(live_url: str, client: Client) -> None:
    """`fs9 cat /big | head -c 1`: no traceback, no message."""
    client.write_file("/big", bytes(8_000_000))
    process = start(live_url, "cat", "/big")
    assert process.stdout is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30) == 141


def test_interrupt_is_130_and_one_line(live_url: str, tmp_path: Path) -> None:
    """Ctrl-C in a transfer from the standard input, which is waiting for more."""
    process = start(live_url, "put", "--no-progress", "-", "/f")
    assert process.stdin is not None
    process.stdin.write(b"some")
    process.stdin.flush()
    assert process.stderr is not None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"fs9: interrupted\n")


def test_short_commands_import_little() -> None:
    """`fs9 version` and the parser need neither the HTTP client nor the server."""
    code = (
        "import sys; from fs9.cli.main import main; main(['version'])\n"
        "print([name for name in ('httpx2', 'rich', 'shtab', 'falcon', 'workers') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"


def test_config_is_among_the_commands(fs9: Fs9, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FS9_PORT", "1234")
    code, out, _ = fs9("config")
    assert code == 0
    assert "1234" in out


def test_main_takes_its_own_arguments_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fs9", "version"])
    assert main() == 0


def test_the_manual_page_has_every_command_as_it_is_listed() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    for name, (_, text) in COMMANDS.items():
        assert f"fs9 {name} " in page
        assert f"{text.partition(',')[0]}"[:20] in page
