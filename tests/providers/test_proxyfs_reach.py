"""How far a mount of a user reaches: no redirect and no second answer of a name leads inside.

With real servers on addresses of this host: 127.0.0.1 is the upstream, which the policy lets pass;
127.0.0.2 stands for what is inside, which it does not.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from fs9.clock import SystemClock
from fs9.errors import PermissionDenied, Remote
from fs9.limits import Limits
from fs9.providers.policy import AddressPolicy, networks_of
from fs9.providers.proxyfs import ProxyFactory
from fs9.providers.registry import ProviderContext
from fs9.types import REPLACE, OpenFlags, StatChanges

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fs9.threads import BlockingPool

OUTSIDE, INSIDE = "127.0.0.1", "127.0.0.2"
ROOT = (
    '{"path": "/", "size": 0, "file_type": "directory", "mode": 493, "uid": 0, "gid": 0,'
    ' "atime": 1, "mtime": 1, "ctime": 1}'
)


class Server:
    """Answers every request with `status`, and to 3xx with `location`; remembers the requests."""

    def __init__(self, status: int = 200, location: str = "") -> None:
        self.status = status
        self.location = location
        self.port = 0
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.asked.append(line.decode().split(" HTTP/")[0])
                length = 0
                while (header := await reader.readline()).strip():
                    name, _, value = header.decode().partition(":")
                    if name.lower() == "content-length":
                        length = int(value)
                await reader.readexactly(length)
                place = f"location: {self.location}\r\n" if self.location else ""
                answer = f"HTTP/1.1 {self.status} x\r\n{place}content-length: {len(ROOT)}\r\n\r\n"
                writer.write(answer.encode() + ROOT.encode())
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def started(server: Server, address: str, port: int = 0) -> AsyncIterator[Server]:
    listening = await asyncio.start_server(server.serve, address, port)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


@pytest.fixture
def context(tmp_path: Path, pool: BlockingPool) -> ProviderContext:
    plain = ProviderContext("acme", tmp_path, Limits(), SystemClock(), pool)
    policy = AddressPolicy(networks_of([OUTSIDE]))
    return dataclasses.replace(plain, addresses=policy)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(context: ProviderContext, status: int):
    """Of no operation, wherever it leads: not inside, and not to the upstream itself either."""
    async with started(Server(), INSIDE) as inside, started(Server(), OUTSIDE) as outside:
        proxy = await ProxyFactory().create(
            {"upstream": f"http://{OUTSIDE}:{outside.port}/t"}, context
        )
        outside.status = status
        for place in (f"http://{INSIDE}:{inside.port}/api/v1/stat", "/api/v1/elsewhere"):
            outside.location = place
            for operation in (
                proxy.stat("/f"),
                proxy.readdir("/", "", 9),
                proxy.open("/f", OpenFlags(read=True)),
                proxy.open("/f", REPLACE),
                proxy.wstat("/f", StatChanges(size=0)),
                proxy.remove("/f"),
            ):
                with pytest.raises(Remote, match="redirects"):
                    await operation
        await proxy.aclose()
        assert not inside.asked
        assert not any("elsewhere" in line for line in outside.asked)


async def test_a_name_that_comes_to_mean_an_address_inside(
    context: ProviderContext, monkeypatch: pytest.MonkeyPatch
):
    """It is refused when the connection would be made, with no byte sent there; also in a pair."""
    names: list[list[str]] = []
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: Any, *args: Any, **more: Any) -> Any:
        if host != "upstream.test":
            return real(host, port, *args, **more)
        asked.append(host)
        answer = names.pop(0) if len(names) > 1 else names[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in answer]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with (
        started(Server(), OUTSIDE) as outside,
        started(Server(), INSIDE, outside.port) as inside,
    ):
        names[:] = [[OUTSIDE]]
        proxy = await ProxyFactory().create(
            {"upstream": f"http://upstream.test:{outside.port}/t"}, context
        )
        assert (await proxy.stat("/")).is_dir
        names[:] = [[INSIDE]]
        before = len(outside.asked)
        for _ in range(2):
            with pytest.raises(PermissionDenied, match="not a public address"):
                await proxy.stat("/")
        names[:] = [[INSIDE, OUTSIDE]]
        assert (await proxy.stat("/")).is_dir
        await proxy.aclose()
        assert (len(outside.asked), inside.asked) == (before + 1, [])
        assert len(asked) >= 5
