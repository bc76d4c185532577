"""Providers of other distributions: found, mounted, refused; the docs' example is one of them."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import BackendUnavailable
from fs9.providers import builtin
from fs9.providers.installed import GROUP, register_installed
from fs9.providers.memfs import create as create_memfs
from fs9.providers.registry import Registry
from fs9.resources import Resources
from fs9.types import MountSpec

if TYPE_CHECKING:
    from fs9.clock import ManualClock
    from fs9.limits import Limits
    from fs9.threads import BlockingPool

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "providers.md"

#: What the other process does: reads the mount over the file API.
SCRIPT = """
import asyncio, json, pathlib, sys
import httpx2
from fs9.config.settings import Settings
from fs9.http.app import create_app
from fs9.http.context import Context
from fs9.services import Services
from fs9.types import MountSpec

async def main():
    notes = MountSpec("/notes", "notesfs", {"notes": {"todo": "milk"}})
    settings = Settings(data_dir=pathlib.Path(sys.argv[1]), mounts=(MountSpec("/", "memfs"), notes))
    services = await Services.open(settings)
    app = httpx2.ASGITransport(create_app(Context.of(services)))
    async with httpx2.AsyncClient(transport=app, base_url="http://t/api/v1/") as api:
        async def told(method, route, **query):
            answer = await api.request(method, route, params=query)
            return answer.status_code, answer.text
        print(json.dumps({
            "mounts": await told("GET", "mounts"),
            "listing": await told("GET", "readdir", path="/notes"),
            "content": await told("GET", "download", path="/notes/todo"),
            "missing": await told("GET", "stat", path="/notes/none"),
            "below": await told("GET", "stat", path="/notes/todo/x"),
            "write": await told("PUT", "upload", path="/notes/todo"),
            "remove": await told("DELETE", "remove", path="/notes/todo"),
            "capabilities": await told("GET", "capabilities", path="/notes"),
        }))
    await services.aclose()

asyncio.run(main())
"""


def example() -> str:
    found = re.search(r"```python\n(\"\"\"notesfs.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None, "docs/providers.md has the example"
    return found[1]


def entry_points_text() -> str:
    """As setuptools writes it from what the page says of `pyproject.toml`."""
    found = re.search(
        r"```toml\n\[project.entry-points.\"(.*?)\"\]\n(\w+) = \"(.*?)\"\n```", PAGE.read_text()
    )
    assert found is not None, "docs/providers.md has the entry point"
    return f"[{found[1]}]\n{found[2]} = {found[3]}\n"


def build_wheel(directory: Path, name: str, files: dict[str, str]) -> Path:
    """A wheel of these files and the metadata that an installer wants (PEP 427)."""
    info = f"{name}-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
        record += f"{path},sha256={digest.rstrip('=')},{len(text.encode())}\n"
    wheel = directory / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(path, text)
    return wheel


def install(wheel: Path, target: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--target", str(target), str(wheel)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def test_the_example_of_the_docs_is_a_distribution_that_can_be_mounted(tmp_path: Path):
    """Built as a wheel, installed, and served by a process that knows of it by that alone."""
    assert sum(bool(line.strip()) for line in example().splitlines()) <= 60
    files = {"notesfs.py": example(), "notesfs-1.0.dist-info/entry_points.txt": entry_points_text()}
    install(build_wheel(tmp_path, "notesfs", files), tmp_path / "site")
    paths = f"{tmp_path / 'site'}:{ROOT}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path / "data")],
        env={"PYTHONPATH": paths, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = {name: (status, text) for name, (status, text) in json.loads(done.stdout).items()}
    assert {"path": "/notes", "provider_name": "notesfs"} in json.loads(told["mounts"][1])
    assert [info["path"] for info in json.loads(told["listing"][1])] == ["/notes/todo"]
    assert told["content"] == (200, "milk")
    assert told["missing"][0] == 404
    assert json.loads(told["below"][1])["kind"] == "NotDirectory"
    assert (told["write"][0], told["remove"][0]) == (501, 501)
    assert json.loads(told["capabilities"][1])["capabilities"] == ["read", "directory"]


@pytest.fixture
def context(
    tmp_path: Path, limits: Limits, clock: ManualClock, pool: BlockingPool
) -> dict[str, Any]:
    return {"resources": Resources(tmp_path, limits, clock, pool), "namespace": "acme"}


def unpacked(tmp_path: Path, name: str, entries: str, module: str = "") -> list[EntryPoint]:
    """The entry points of a distribution as it lies on disk, its module importable."""
    info = tmp_path / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entries}")
    (tmp_path / f"{name}.py").write_text(module)
    (found,) = [one for one in distributions(path=[str(tmp_path)]) if named(one) == name]
    return list(found.entry_points.select(group=GROUP))


def named(distribution: Distribution) -> str:
    return distribution.metadata["Name"]


async def test_a_taken_name_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Built-in providers and those that sort before stay; the log says whose was refused."""
    registry = builtin.registry()
    taken = unpacked(tmp_path, "evil", "memfs = evil:create\nmine = fs9.providers.memfs:create\n")
    second = unpacked(tmp_path, "later", "mine = later:create\n")
    before = dict(registry._factories)
    with caplog.at_level(logging.ERROR):
        register_installed(registry, [*second, *taken])
    assert registry._factories == before | {"mine": create_memfs}
    assert "evil offers a provider 'memfs', which there is already" in caplog.text
    assert "later offers a provider 'mine', which there is already" in caplog.text
    caplog.clear()


@pytest.mark.parametrize(
    ("entry", "module", "reason"),
    [
        ("odd = gone_nowhere:create", "", "No module named 'gone_nowhere'"),
        ("odd = BROKEN:create", "1 / 0", "ZeroDivisionError"),
        ("odd = BROKEN:create", "raise SystemError('no')", "SystemError: no"),
        ("odd = BROKEN:create", "def other(): ...", "has no attribute 'create'"),
        ("odd = BROKEN:create", "create = 5", "not callable"),
    ],
)
async def test_a_broken_distribution_is_a_warning(
    tmp_path: Path,
    context: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    entry: str,
    module: str,
    reason: str,
):
    """The server starts; only its own mounts fail, and say why."""
    name = f"broken{abs(hash((entry, module)))}"
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry()
    with caplog.at_level(logging.WARNING):
        register_installed(
            registry, unpacked(tmp_path, name, entry.replace("BROKEN", name) + "\n", module)
        )
    assert reason in caplog.text
    caplog.clear()
    with pytest.raises(BackendUnavailable, match=re.escape(reason)) as caught:
        await registry.create(MountSpec("/", "odd"), **context)
    assert f"the provider odd of {name} cannot be used" in caught.value.detail


async def test_the_page_lists_every_provider_with_its_capabilities(context: dict[str, Any]):
    from fs9.wire.codec import CAPABILITY_NAMES, capability_names

    lines = {}
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `") and line.count(" | ") == 3:
            name, _, _, capabilities = (cell.strip() for cell in line.strip("|").split(" | "))
            lines[name.strip("`")] = capabilities
    registry = builtin.registry()
    assert set(lines) == set(registry.names())
    configs = {
        "localfs": {"root": str(context["resources"].data_dir)},
        "pagefs": {"backend": {"type": "memory"}},
    }
    for name in registry.names():
        if name == "proxyfs":
            assert lines[name] == "the upstream's"
            continue
        spec = MountSpec("/", name, configs.get(name, {}))
        provider = await registry.create(spec, **context)
        told = capability_names(provider.capabilities())
        await provider.aclose()
        everything = len(told) == len(CAPABILITY_NAMES) == 10
        assert lines[name] == ("all ten" if everything else " ".join(told)), name
