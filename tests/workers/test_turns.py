"""Connections take turns: one that sends many requests at once makes no other wait for all."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from tests.workers.fix_node import start_server
from tests.workers.wire_client import WireClient, request

if TYPE_CHECKING:
    from tests.fix_http import StartServer

__all__ = ["start_server"]

MANY = 400


async def test_a_request_is_answered_amid_the_many_of_another(start_server: StartServer) -> None:
    """Few of the many are done before it; in the end all of them are, in order."""
    port = int((await start_server()).base_url.rpartition(":")[2])
    many, one = await WireClient.connect(port), await WireClient.connect(port)
    flags = {"flags": {"write": True, "create": True}, "path": "/f"}
    json_type = {"Content-Type": "application/json"}
    body = json.dumps(flags).encode()
    await many.send(request("POST", "/api/v1/open", headers=json_type, body=body))
    handle = json.loads((await many.response()).body)["handle_id"]
    stat = request("GET", "/api/v1/stat?path=/f")
    await one.send(stat)
    assert (await one.response()).status == 200

    targets = [f"/api/v1/write?handle_id={handle}&offset={number}" for number in range(MANY)]
    burst = b"".join(request("POST", target, body=b"x") for target in targets)
    await asyncio.gather(many.send(burst), one.send(stat))
    assert json.loads((await one.response()).body)["size"] < MANY / 2
    for _ in range(MANY):
        assert (await many.response()).status == 200
    await one.send(stat)
    assert json.loads((await one.response()).body)["size"] == MANY
    await many.close()
    await one.close()
