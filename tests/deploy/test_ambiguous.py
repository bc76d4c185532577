"""Requests that two parsers could read in two ways reach no worker as anything but one request:
the corpus of tests/workers/test_malformed.py, through each proxy.

A proxy writes requests anew, so a worker never sees the ambiguous bytes. Most are refused. Some
spellings a proxy accepts, as RFC 9112 allows or as it has always done, and passes on in the one
way that it has understood them: then the request behind is answered as the request that it is.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

from tests.deploy.calls import FrontClient, ask
from tests.workers.test_malformed import MALFORMED

if TYPE_CHECKING:
    from tests.deploy.conftest import Proxy
    from tests.fix_fleet import Fleet

#: What each proxy accepts, and the status of what it passes on.
ACCEPTED = {
    "nginx": {
        "bare LF": 200,
        "bare LF in the headers": 200,
        "chunk with bare LF": 200,
        "bad chunk in a JSON body": 422,
    },
    "envoy": {
        "bare LF": 200,
        "bare LF in the headers": 200,
        "folded header": 200,
        "blanks in the request line": 200,
        "bad chunk in a JSON body": 422,
    },
}
#: Of these, the uploads: what they are understood to store in /f.
STORED = {"chunk with bare LF": b"abc", "folded header": b""}


async def test_what_is_refused_is_answered_once_and_stores_nothing(open_proxy: Proxy) -> None:
    """With 400 or 501 and the end of the connection; nothing behind it is answered."""
    refused = {n: w for n, w in MALFORMED.items() if n not in ACCEPTED[open_proxy.kind]}
    all_got = await asyncio.gather(*(all_answers(open_proxy, wire) for wire in refused.values()))
    for name, got in zip(refused, all_got, strict=True):
        statuses = re.findall(rb"HTTP/1\.1 (\d+)", got)
        assert statuses in ([b"400"], [b"501"]), f"{name}: {got!r}"
    assert (await ask(open_proxy, "GET", "/api/v1/stat?path=/f")).status == 404
    assert json.loads((await ask(open_proxy, "GET", "/api/v1/readdir?path=/")).body) == []


async def all_answers(proxy: Proxy, wire: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(wire)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_what_is_accepted_is_one_request(open_proxy: Proxy, open_fleet: Fleet) -> None:
    """The request behind it is answered for itself, and the next client gets its own answer."""
    for name, status in ACCEPTED[open_proxy.kind].items():
        client = await FrontClient.connect(open_proxy.port)
        await client.send(MALFORMED[name])
        first, second = await client.response(), await client.response()
        assert (first.status, second.status) == (status, 404), name
        assert json.loads(second.body)["path"] == "/smuggled", name
        await client.close()
        for _ in range(8):  # over the connections that the proxy keeps to the workers
            answer = await ask(open_proxy, "GET", "/api/v1/stat?path=/")
            assert json.loads(answer.body)["path"] == "/", name
        if name in STORED:
            answer = await ask(open_fleet, "GET", "/api/v1/download?path=/f")
            assert answer.body == STORED[name]
            await ask(open_fleet, "DELETE", "/api/v1/remove?path=/f")
