"""Requests of these tests: tokens of a namespace, and one request on a connection of its own."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING

from fs9.auth.tokens import sign
from tests.fix_fleet import SECRET
from tests.workers.wire_client import Response, WireClient, request
from workers.slots import RunDirectory

if TYPE_CHECKING:
    from tests.deploy.conftest import Proxy
    from tests.fix_fleet import Fleet

_numbers = itertools.count()


def bearer(namespace: str, *roles: str) -> dict[str, str]:
    """A new token of the namespace, unlike all others, as after a refresh."""
    now_s = int(time.time())
    claims = {
        "sub": f"user-{next(_numbers)}",
        "ns": namespace,
        "roles": list(roles) or ["read-write"],
        "iat": now_s,
        "exp": now_s + 3600,
    }
    return {"Authorization": f"Bearer {sign(claims, SECRET)}"}


class FrontClient(WireClient):
    """Reads answers of nginx too, which writes `Content-Length` where the workers do not."""

    async def response(self, *, to_head: bool = False) -> Response:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        assert len(headers) == len(lines), head
        status = int(first.split(" ")[1])
        if status == 100:
            return await self.response(to_head=to_head)
        bodiless = to_head or status in {204, 304}
        return Response(status, headers, b"" if bodiless else await self._body(headers))


async def ask(
    server: Fleet | Proxy,
    method: str,
    target: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> Response:
    client = await FrontClient.connect(server.port)
    await client.send(request(method, target, headers=headers, body=body))
    answer = await asyncio.wait_for(client.response(to_head=method == "HEAD"), 30)
    await client.close()
    return answer


async def answered_by(fleet: Fleet, slot: int, target: str) -> int | None:
    """Which slot answers a GET at the front socket of `slot`, as a proxy asks there; None when
    nobody does."""
    front = RunDirectory(fleet.run_directory).front_socket(slot)
    try:
        client = FrontClient(*await asyncio.open_unix_connection(str(front)))
        await client.send(request("GET", target))
        answer = await asyncio.wait_for(client.response(), 30)
        await client.close()
    except (OSError, asyncio.IncompleteReadError):
        return None
    return int(answer.headers["x-fs9-slot"])


async def make_namespaces(fleet: Fleet, names: list[str]) -> None:
    """Make them, by an administrator, on one connection."""
    client = await WireClient.connect(fleet.port)
    headers = bearer("default", "admin") | {"Content-Type": "application/json"}
    for name in names:
        body = b'{"name": "%b"}' % name.encode()
        await client.send(request("POST", "/api/v1/namespaces", headers=headers, body=body))
        answer = await client.response()
        assert answer.status in {201, 409}, answer.body
    await client.close()
