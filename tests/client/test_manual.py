"""The programs in docs/client.md run, and the page names every method."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from fs9.client import Client
from tests.fix_live import LiveServer, new_namespace

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def program(number: int, url: str) -> dict[str, Any]:
    """The names that a program of the page leaves behind, run against `url`."""
    names: dict[str, Any] = {}
    exec(PROGRAMS[number].replace("http://127.0.0.1:9999", url), names)
    return names


def test_the_first_program(live_url: str, capsys: Any) -> None:
    program(0, live_url)
    assert capsys.readouterr().out == ("write the manual\nread it\n\n/notes/2026/todo 25\n")


async def test_the_asynchronous_program(live: LiveServer) -> None:
    sizes = program(1, f"{live.url}/{new_namespace()}")["sizes"]
    assert await sizes("no token needed") == {"/hello": 0, "/local": 0}


def test_the_watching_program(client: Client, live_url: str) -> None:
    """It looks at all there is, then at what changes."""
    client.makedirs("/d/e")
    client.write_file("/d/e/f", b"1")
    seen: list[str] = []

    class Enough(Exception):
        pass

    def look(path: str) -> None:
        seen.append(path)
        if path == "/d/e/f":
            client.write_file("/d/new", b"2")
        elif path == "/d/new":
            raise Enough

    with Client(live_url) as watching, pytest.raises(Enough):
        program(2, live_url)["mirror"](watching, "/d", look)
    assert seen == ["/d", "/d/e", "/d/e/f", "/d/new"]


def test_the_conditional_program(client: Client, live_url: str) -> None:
    client.write_file("/f", b"one\n")
    program(3, live_url)["add_line"](client, "/f", b"two\n")
    assert client.read_file("/f") == b"one\ntwo\n"


def test_every_method_is_on_the_page() -> None:
    for name, _ in inspect.getmembers(Client, inspect.isfunction):
        if not name.startswith("_") and name != "disconnect":
            assert f"`{name}" in PAGE, name
