"""The pages for people say what the code says: routes, errors, links, commands."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fs9 import errors
from fs9.config.settings import Settings
from fs9.wire.routes import ROUTES
from tests.arch.tree import ROOT, documents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fix_fleet import Fleet

API = ROOT / "docs" / "http-api.md"
README = ROOT / "README.md"

_FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
#: Those that a server answers; a client has some of its own.
KINDS = {kind: error for kind, error in errors.KINDS.items() if error.__module__ == errors.__name__}

_KIND_ROW = re.compile(r"^\| `(\w+)` \| (\d{3}) \| (E\w+) \| (yes|no) \| (.+) \|$", re.MULTILINE)


def fences(page: Path) -> Iterator[tuple[str, str]]:
    """(what stands behind the opening fence, the text) of each block."""
    for match in _FENCE.finditer(page.read_text()):
        yield match[1], match[2]


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text())


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_each_route_is_on_the_page_of_the_api(route) -> None:
    """By its method and path, and by each field of its query."""
    text = API.read_text()
    assert f"`{route.method} {route.path}`" in text
    section = text[text.index(f"`{route.method} {route.path}`") :].partition("\n### ")[0]
    for param in route.query:
        assert f"`{param.name}`" in section, param.name
    for answer in route.answers:
        if route.prefixed:
            assert str(answer.status) in section, answer.status


def test_the_kinds_of_errors_are_those_of_the_code() -> None:
    """Each kind is in the table once, with its status, errno, retryability and text."""
    expected = [
        (
            kind,
            str(error.status),
            errno.errorcode[error.errno],
            "yes" if error.retryable else "no",
            error.prefix or "–",
        )
        for kind, error in KINDS.items()
    ]
    assert _KIND_ROW.findall(API.read_text()) == expected


def test_no_kind_is_mentioned_that_does_not_exist() -> None:
    """Names in backquotes that look like a kind, next to a status or in a list of errors."""
    named = set()
    for line in prose(API).splitlines():
        if re.search(r"Errors:|\b[45]\d\d `", line):
            named |= set(re.findall(r"`([A-Z][a-z]+[A-Za-z]*)`", line))
    assert named
    assert named <= {*KINDS, "Content-Length"}


def test_the_limits_on_the_page_of_the_api_are_the_defaults() -> None:
    limits = Settings().limits
    text = " ".join(API.read_text().split())
    for shown in (
        f"{limits.request_line_bytes_max // 1024} KiB; {limits.headers_bytes_max // 1024} KiB",
        f"| JSON body | {limits.json_body_bytes_max >> 20} MiB |",
        f"| body of write and upload | {limits.write_body_bytes_max >> 20} MiB |",
        f"| {limits.request_timeout_s:.0f} s |",
        f"| {limits.concurrent_requests_max:,} |",
        f"| {limits.handles_per_namespace_max:,} |",
        f"| {limits.listing_entries_max:,} |",
        f"for {limits.handle_ttl_s:.0f} seconds is closed",
    ):
        assert shown in text, shown


@pytest.mark.parametrize("page", documents(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A link to a file of the repository finds it, and its heading if it names one."""
    for link in _LINK.findall(prose(page)):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in {_anchor(title) for title in _HEADING.findall(prose(target))}, link


def _anchor(title: str) -> str:
    """As Markdown viewers make it of a heading."""
    kept = re.sub(r"[^\w\- ]", "", title.lower())
    return kept.replace(" ", "-")


@pytest.mark.parametrize("page", documents(), ids=lambda page: str(page.relative_to(ROOT)))
def test_shell_commands_are_well_formed(page: Path) -> None:
    for language, text in fences(page):
        if language.split()[:1] in (["sh"], ["bash"]):
            done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
            assert done.returncode == 0, f"{text}\n{done.stderr}"


def test_the_tour_works_word_by_word(start_fleet: Callable[..., Fleet], tmp_path: Path) -> None:
    """All commands of the README's tour, in order, against a new server; none fails."""
    fleet = start_fleet(workers=2)
    tour = "".join(text for language, text in fences(README) if language == "sh tour")
    done = run_tour(tour, fleet.url, tmp_path, {})
    for shown in (
        "hello, world\nworld",
        '"kind":"PreconditionFailed"',
        "notes",
        "└── main.py",
        "b'name,count'",
        "['/reports/today.csv']",
        "not found: /nowhere",
        "3000000",
        "x-fs9-slot: 0",
        "x-fs9-slot: 1",
        "hello from edsger",
    ):
        assert shown in done, done


def test_the_token_of_the_readme_holds(start_fleet: Callable[..., Fleet], tmp_path: Path) -> None:
    """The commands that make and use a token, against a server that wants one."""
    secret = "5ecret" * 8
    (tmp_path / ".fs9-secret").write_text(f"{secret}\n")
    fleet = start_fleet(workers=1, environ={"FS9_JWT_SECRET": secret})
    (commands,) = [text for _, text in fences(README) if "export FS9_TOKEN=" in text]
    environ = {"HOME": str(tmp_path), "FS9_URL": fleet.url}
    done = run_tour(commands, fleet.url, tmp_path, environ)
    assert done.startswith("[]")


def run_tour(commands: str, url: str, directory: Path, environ: dict[str, str]) -> str:
    """The output of commands in a shell that ends at the first failure."""
    kept = {name: os.environ[name] for name in ("LANG", "HOME") if name in os.environ}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    commands = commands.replace(". .venv/bin/activate\n", "")
    commands = commands.replace("http://127.0.0.1:9999", url)
    done = subprocess.run(
        ["bash", "-e", "-u", "-o", "pipefail"],
        input=commands,
        cwd=directory,
        env=kept | {"PATH": path, "TMPDIR": str(directory)} | environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
