"""Servers that mount each other, on real sockets: a loop ends at once, and what is none works."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import httpx2
import pytest

from fs9.types import MountSpec
from tests.fix_live import LiveServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def mounting(server: LiveServer, *mounts: MountSpec) -> LiveServer:
    server.settings = replace(server.settings, mounts=mounts, namespace_template=mounts)
    return server


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[LiveServer, LiveServer]]:
    """Each has memfs at `/own`, and all of the other one at `/other` and, too, at `/`."""
    one, two = LiveServer(tmp_path / "one"), LiveServer(tmp_path / "two")
    for server, other in ((one, two), (two, one)):
        config = {"upstream": other.url, "cache_bytes": 0}
        mounting(
            server,
            MountSpec("/", "proxyfs", config),
            MountSpec("/own", "memfs"),
            MountSpec("/other", "proxyfs", config),
        )
    one.start()
    two.start()
    yield one, two
    one.stop()
    two.stop()


def test_a_loop_of_mounts_ends_at_once(pair: tuple[LiveServer, LiveServer]):
    """508 and not a timeout; a path that goes to and fro and arrives is no loop."""
    with httpx2.Client(base_url=f"{pair[0].url}/api/v1/", timeout=60) as api:
        for _ in range(3):
            answer = api.get("stat", params={"path": "/nowhere"})
            assert answer.status_code == 508, answer.text
            assert answer.json()["kind"] == "TooManyHops"
            assert answer.json()["error"].startswith("too many proxy hops: 10 (max: 10)")
        content = bytes(range(256)) * 20_000
        deep = "/other/other/other/own/file"  # this one, that one, this one, and there
        answer = api.put("upload", params={"path": deep}, content=content)
        assert answer.status_code == 200, answer.text
        assert api.get("download", params={"path": deep}).content == content
        assert api.get("stat", params={"path": "/own/file"}).status_code == 404
    with httpx2.Client(base_url=f"{pair[1].url}/api/v1/", timeout=60) as api:
        assert api.get("download", params={"path": "/own/file"}).content == content
        loop = api.put("upload", params={"path": "/nowhere"}, content=b"x")
        assert loop.status_code == 508, loop.text
